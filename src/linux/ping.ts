import { execFile } from "node:child_process";
import type { Ip } from "../net/ip.ts";
import { hostNamespace, type NamespaceRef } from "./plan.ts";

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** Round trip in milliseconds, on average; absent where nothing came back. */
  readonly average?: number;
}

const count = 3;
/** ping(8) ends by itself; this is for one that does not. */
const deadline = 15_000;

/** Echo requests from a namespace; undefined where ping(8) is not installed or could not run. */
export const ping = async (namespace: NamespaceRef, to: Ip, signal?: AbortSignal): Promise<PingResult | undefined> => {
  const words = ["ping", "-n", "-c", String(count), "-i", "0.2", "-W", "2", to];
  const [program = "ping", ...args] =
    namespace === hostNamespace ? words : ["nsenter", `--net=${namespace}`, "--", ...words];
  const output = await new Promise<string>((resolve) => {
    const options = { timeout: deadline, maxBuffer: 64 * 1024, env: { ...process.env, LC_ALL: "C" } };
    execFile(program, args, { ...options, ...(signal && { signal }) }, (_error, stdout) => resolve(stdout));
  });
  const sums = /(\d+) packets transmitted, (\d+) received/.exec(output);
  if (!sums) return undefined;
  const average = /= [\d.]+\/([\d.]+)\//.exec(output)?.[1];
  return {
    sent: Number(sums[1]),
    received: Number(sums[2]),
    ...(average !== undefined && { average: Number(average) }),
  };
};
