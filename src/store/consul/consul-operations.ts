import { badRequest } from "../../errors.ts";
import { checkTransaction } from "../checks.ts";
import type { Transaction } from "../store.ts";
import { type Operation, transactionBody } from "./consul-client.ts";
import { isReserved, leaseKey, logKey, type Position, revisionKey } from "./consul-layout.ts";

/** Consul 1.8 takes no more in one transaction; two of them are ours. */
export const maxConsulOperations = 64;
const ours = 2;
/** `txn_max_req_len`: bytes of a request's body. */
const maxBody = 512 * 1024;

const value = (text: string): string => Buffer.from(text).toString("base64");
const unfit = (reason: string) => badRequest("invalid-transaction", `invalid transaction: ${reason}`);

/**
 * A caller's transaction as Consul's operations, without ours: checks first, then writes. `keys[n]` is the caller's key of the
 * n-th. Two habits of Consul decide the verbs: `set` and `cas` leave a key with the session that holds it, and `lock` fails where
 * another does, so a key that may be there is deleted before it is put; `delete-cas` passes where there is no key, so a delete
 * is checked by an operation of its own.
 */
export interface CompiledTransaction {
  readonly operations: readonly Operation[];
  readonly keys: readonly string[];
  readonly transaction: Transaction;
}

/** @throws NetworkError `invalid-transaction` */
export const compileTransaction = (prefix: string, transaction: Transaction): CompiledTransaction => {
  const texts = checkTransaction(transaction);
  const { checks = [], puts = [], deletes = [] } = transaction;
  for (const key of [...checks, ...puts].map(({ key }) => key).concat(deletes)) {
    if (isReserved(key)) throw unfit(`key ${key} begins with a dot`);
  }
  const operations: Operation[] = [];
  const keys: string[] = [];
  const add = (key: string, operation: Omit<Operation, "Key">) => {
    operations.push({ Key: prefix + key, ...operation });
    keys.push(key);
  };
  // A key that must not exist is checked by its put.
  const leaseless = new Set(puts.flatMap(({ key, lease }) => (lease === undefined ? [key] : [])));
  const absent = new Set(checks.filter(({ version }) => version === 0).map(({ key }) => key));
  for (const { key, version } of checks) {
    if (version > 0) add(key, { Verb: "check-index", Index: version });
    else if (!leaseless.has(key)) add(key, { Verb: "check-not-exists" });
  }
  for (const key of deletes) if (!absent.has(key)) add(key, { Verb: "delete" });
  for (const [n, { key, lease }] of puts.entries()) {
    const Value = value(texts[n] ?? "null");
    if (!absent.has(key)) add(key, { Verb: "delete" });
    if (lease !== undefined) add(key, { Verb: "lock", Value, Session: lease });
    else if (absent.has(key)) add(key, { Verb: "cas", Value, Index: 0 });
    else add(key, { Verb: "set", Value });
  }
  if (operations.length + ours > maxConsulOperations) {
    throw unfit(`it takes ${operations.length} operations, consul allows ${maxConsulOperations - ours}`);
  }
  return { operations, keys, transaction };
};

/**
 * The request that applies it as the transaction after `last`: the revision moves on, the log says what changed. The
 * caller's operations come after our two.
 * @throws NetworkError `invalid-transaction` where it is too long
 */
export const transactionRequest = (
  prefix: string,
  { operations, transaction }: CompiledTransaction,
  last: Position,
  id: string,
): string => {
  const { puts = [], deletes = [] } = transaction;
  const next = { sequence: last.sequence + 1, id };
  const body = (log: object) =>
    transactionBody([
      { Verb: "cas", Key: prefix + revisionKey, Value: value(JSON.stringify(next)), Index: last.index },
      {
        Verb: "set",
        Key: prefix + logKey(next.sequence),
        Value: value(JSON.stringify({ ...next, after: last.id, ...log })),
      },
      ...operations,
    ]);
  const whole = body({ puts, deletes });
  if (Buffer.byteLength(whole) <= maxBody) return whole;
  const short = body({ list: true });
  if (Buffer.byteLength(short) <= maxBody) return short;
  throw unfit(`it is longer than ${maxBody} bytes in the form that consul takes`);
};

/** The request that marks a lease as alive, for as long as its session is. */
export const markRequest = (prefix: string, session: string, ttl: number): string =>
  transactionBody([
    { Verb: "lock", Key: prefix + leaseKey(session), Value: value(JSON.stringify({ ttl })), Session: session },
  ]);

/** Our operations in front of the caller's. */
export const firstOperation = ours;
