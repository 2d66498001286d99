import { NetworkError } from "../../errors.ts";
import { errnoText } from "../libc.ts";

/** A refusal of the kernel, before it is put into words for users. */
export class NetlinkError extends NetworkError {
  constructor(number: number, text: string | undefined) {
    const reason = errnoText(number);
    super("internal", "netlink", text === undefined ? reason : `${reason}: ${text}`, { errno: number });
  }
}
