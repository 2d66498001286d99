import { internal } from "../../errors.ts";
import { flag, nlmsg } from "./constants.ts";
import { malformed, type NetlinkMessage, parseAck } from "./message.ts";
import { NetlinkError } from "./netlink-error.ts";

/** A dump that the kernel flags as interrupted is read again, at most this often. */
const attempts = 10;

/**
 * All objects of a dump; complete, or an error: one that the kernel flags as interrupted (`NLM_F_DUMP_INTR`: its tables
 * changed meanwhile, objects may be missing or twice) is asked for again, never believed.
 * @param ask sends the request; @returns its sequence number
 * @param receive the next messages from the socket
 * @param keep tells those that are wanted; the others cost no memory
 * @throws NetworkError `dump-interrupted` after ten times
 */
export const readDump = (
  ask: () => number,
  receive: () => readonly NetlinkMessage[],
  keep: (body: Buffer) => boolean = () => true,
): readonly NetlinkMessage[] => {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const messages = readOnce(ask(), receive, keep);
    if (messages) return messages;
  }
  throw internal("dump-interrupted", "the kernel's tables change too fast to be read", { hint: "try again" });
};

/** @returns undefined where it was interrupted */
const readOnce = (
  sequence: number,
  receive: () => readonly NetlinkMessage[],
  keep: (body: Buffer) => boolean,
): readonly NetlinkMessage[] | undefined => {
  const messages: NetlinkMessage[] = [];
  let interrupted = false;
  for (;;) {
    for (const message of receive()) {
      if (message.sequence !== sequence) continue;
      if ((message.flags & flag.DUMP_INTR) !== 0) interrupted = true;
      if (message.type === nlmsg.OVERRUN) throw malformed("overrun");
      if (message.type === nlmsg.ERROR || message.type === nlmsg.DONE) {
        const { errno: number, text } = message.body.length < 4 ? { errno: 0, text: undefined } : parseAck(message);
        if (number !== 0) throw new NetlinkError(number, text);
        return interrupted ? undefined : messages;
      }
      if (keep(message.body)) messages.push({ ...message, body: Buffer.from(message.body) });
    }
  }
};
