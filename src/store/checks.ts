import { badRequest, noService } from "../errors.ts";
import type { Transaction } from "./store.ts";

/** Bounds that every store holds: what fits Consul (512 KiB a value) and etcd (1.5 MiB a request) fits all. */
export const maxKeyBytes = 1024;
export const maxValueBytes = 512 * 1024;
export const maxOperations = 4096;

/** @throws NetworkError `invalid-transaction` (bad request); @returns the JSON texts of the puts, in order */
export const checkTransaction = (transaction: Transaction): readonly string[] => {
  const { checks = [], puts = [], deletes = [] } = transaction;
  const fail = (reason: string) => badRequest("invalid-transaction", `invalid transaction: ${reason}`);
  if (checks.length + puts.length + deletes.length > maxOperations) throw fail(`more than ${maxOperations} operations`);
  const written = new Set<string>();
  for (const key of [...puts.map(({ key }) => key), ...deletes]) {
    if (written.has(key)) throw fail(`key ${key} is written twice`);
    written.add(key);
  }
  for (const key of [...written, ...checks.map(({ key }) => key)]) {
    if (key === "" || Buffer.byteLength(key) > maxKeyBytes || /[\0-\x1f\x7f]/.test(key)) {
      throw fail(`key ${JSON.stringify(key.slice(0, 100))} is empty, too long or has control characters`);
    }
  }
  return puts.map(({ key, value }) => {
    const text = JSON.stringify(value);
    if (text === undefined) throw fail(`the value of ${key} is not JSON`);
    if (Buffer.byteLength(text) > maxValueBytes)
      throw fail(`the value of ${key} is longer than ${maxValueBytes} bytes`);
    return text;
  });
};

export const closedStore = () => noService("store-closed", "the store is closed");

/** The first key (in order of bytes) that does not begin with the prefix and comes after all that do; undefined: no end. */
export const prefixEnd = (prefix: string): Buffer | undefined => {
  const bytes = Buffer.from(prefix);
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === 0xff) length--;
  if (length === 0) return undefined;
  const end = Buffer.from(bytes.subarray(0, length));
  end[length - 1] = (end[length - 1] ?? 0) + 1;
  return end;
};
