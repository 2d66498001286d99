import { close, errno, recv, SO, SOCK, SOL_SOCKET, send, setsockopt, socket } from "../libc.ts";
import { AF, flag, nlmsg } from "./constants.ts";
import { readDump } from "./dump.ts";
import { decodeMessages, encodeMessage, type NetlinkMessage, parseAck } from "./message.ts";
import { NetlinkError } from "./netlink-error.ts";

const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
const SOL_NETLINK = 270;
/** netlink.h: NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK */
const option = { CAP_ACK: 10, EXT_ACK: 11, GET_STRICT_CHK: 12 } as const;

/**
 * What is received, of all sockets of a thread: each reads and is done with it before another does. One of its own for every
 * socket would be 64 KiB a sandbox, and holes in malloc's heap.
 */
const received = Buffer.alloc(64 * 1024);

/** One request: header type, flags beside REQUEST and ACK, body. */
export interface Request {
  readonly type: number;
  readonly flags?: number;
  readonly body: Buffer;
}

/** A netlink socket, of routing where nothing else is said, of the namespace in which the calling thread is when it is opened. Synchronous. */
export class NetlinkSocket {
  readonly #fd: number;
  #sequence = 1;

  /** @param protocol NETLINK_ROUTE, or another of netlink.h */
  constructor(protocol: number = NETLINK_ROUTE) {
    this.#fd = socket(AF.NETLINK, SOCK.RAW, protocol);
    const on = Buffer.from([1, 0, 0, 0]);
    for (const name of Object.values(option)) setsockopt(this.#fd, SOL_NETLINK, name, on);
    // struct timeval, 10 s: the kernel answers at once; a wait without an end would stop the whole worker.
    const deadline = Buffer.alloc(16);
    deadline.writeBigInt64LE(10n, 0);
    setsockopt(this.#fd, SOL_SOCKET, SO.RCVTIMEO, deadline);
  }

  close(): void {
    close(this.#fd);
  }

  /**
   * Sends requests in one system call, so that nothing (not even SIGKILL) comes between them, and waits for every answer.
   * @throws NetlinkError of the first that was refused
   */
  request(...requests: readonly Request[]): void {
    for (const refusal of this.requestEach(requests)) if (refusal) throw refusal;
  }

  /**
   * The same, with the answer to each: undefined where the kernel did it. All of them and their answers must fit the
   * socket's buffers: some tens at a time.
   */
  requestEach(requests: readonly Request[]): readonly (NetlinkError | undefined)[] {
    const answers = new Array<NetlinkError | undefined>(requests.length).fill(undefined);
    if (requests.length === 0) return answers;
    const waiting = new Map<number, number>();
    const messages = requests.map(({ type, flags = 0, body }, n) => {
      const sequence = this.#next();
      waiting.set(sequence, n);
      return encodeMessage({ type, flags: flag.REQUEST | flag.ACK | flags, sequence, body });
    });
    send(this.#fd, Buffer.concat(messages));
    while (waiting.size > 0) {
      for (const message of this.#receive()) {
        const n = waiting.get(message.sequence);
        // Answers to what an earlier, failed exchange left behind.
        if (n === undefined || message.type !== nlmsg.ERROR) continue;
        waiting.delete(message.sequence);
        const { errno: number, text } = parseAck(message);
        if (number !== 0) answers[n] = new NetlinkError(number, text);
      }
    }
    return answers;
  }

  /**
   * Requests between messages that are not answered unless they are refused: a transaction of netfilter.
   * @throws NetlinkError of the first that was refused
   */
  transact(before: readonly Request[], requests: readonly Request[], after: readonly Request[]): void {
    const first = this.#sequence;
    const encode =
      (more: number) =>
      ({ type, flags = 0, body }: Request): Buffer =>
        encodeMessage({ type, flags: flag.REQUEST | more | flags, sequence: this.#next(), body });
    send(
      this.#fd,
      Buffer.concat([...before.map(encode(0)), ...requests.map(encode(flag.ACK)), ...after.map(encode(0))]),
    );
    let refusal: NetlinkError | undefined;
    let waiting = requests.length;
    while (waiting > 0) {
      for (const message of this.#receive()) {
        // Answers to what an earlier, failed exchange left behind.
        if (message.sequence < first || message.type !== nlmsg.ERROR) continue;
        waiting--;
        const { errno: number, text } = parseAck(message);
        if (number !== 0) refusal ??= new NetlinkError(number, text);
        // Refused as a whole: nothing after it is answered.
        if (number !== 0 && message.sequence < first + before.length) waiting = 0;
      }
    }
    if (refusal) throw refusal;
  }

  /** One object; undefined where the kernel says that it does not exist. @throws NetlinkError */
  get(request: Request): NetlinkMessage | undefined {
    const sequence = this.#next();
    // Not acknowledged: the object itself, or a refusal, is the answer.
    send(this.#fd, encodeMessage({ type: request.type, flags: flag.REQUEST, sequence, body: request.body }));
    for (;;) {
      for (const message of this.#receive()) {
        if (message.sequence !== sequence) continue;
        if (message.type !== nlmsg.ERROR) return { ...message, body: Buffer.from(message.body) };
        const { errno: number, text } = parseAck(message);
        if (number === errno.ENODEV || number === errno.ENOENT || number === errno.ESRCH) return undefined;
        throw new NetlinkError(number, text);
      }
    }
  }

  /**
   * All objects; complete, or an error: an interrupted dump is repeated, never believed.
   * @param keep tells those that are wanted; the others cost no memory
   * @throws NetworkError
   */
  dump(request: Request, keep?: (body: Buffer) => boolean): readonly NetlinkMessage[] {
    const ask = (): number => {
      const sequence = this.#next();
      const { type, body } = request;
      send(this.#fd, encodeMessage({ type, flags: flag.REQUEST | flag.DUMP, sequence, body }));
      return sequence;
    };
    return readDump(ask, () => this.#receive(), keep);
  }

  #next(): number {
    const sequence = this.#sequence;
    this.#sequence = sequence >= 0x7fffffff ? 1 : sequence + 1;
    return sequence;
  }

  #receive(): readonly NetlinkMessage[] {
    const length = recv(this.#fd, received);
    return decodeMessages(received.subarray(0, length));
  }
}

/**
 * One transaction of the netfilter subsystem in the namespace in which the calling thread is: all of it, or nothing.
 * @throws NetlinkError of the first message that was refused
 */
export const netfilterTransaction = (begin: Request, requests: readonly Request[], end: Request): void => {
  const netfilter = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    netfilter.transact([begin], requests, [end]);
  } finally {
    netfilter.close();
  }
};
