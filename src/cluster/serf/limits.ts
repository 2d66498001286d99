import { badRequest } from "../../errors.ts";

/**
 * Bytes of name and payload of a user event, of a query with the names of those it is for, and of an answer. Serf's limits are 512
 * and 1024 for the whole message; its own fields need up to 42, 320 and 220 of them.
 */
export const maxUserEvent = 470;
export const maxQuery = 700;
export const maxAnswer = 800;
/** @throws NetworkError `payload-too-large` (bad request) */
export const checkSize = (what: string, name: string, payload: Uint8Array, most: number): void => {
  const size = Buffer.byteLength(name) + payload.length;
  if (size > most) {
    throw badRequest("payload-too-large", `${what} holds at most ${most} bytes, names included, not ${size}`);
  }
};

/** What other hosts may have put into a complaint, on one line and bounded. */
export const printable = (text: string): string =>
  text
    .replaceAll(/[\p{Cc}\p{Cf}]+/gu, " ")
    .trim()
    .slice(0, 500);
