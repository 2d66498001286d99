import { connect } from "node:net";
import { type ErrorKind, errorStatus, errorText, NetworkError, noService } from "../errors.ts";

/** What a lab's supervisor can be asked, over its unix socket: one JSON line, one JSON line back. */

type Signal = "TERM" | "KILL";

export type LabRequest =
  | { readonly do: "state" | "heal" | "stop-store" | "start-store" | "down" }
  | { readonly do: "stop"; readonly host: string; readonly signal: Signal }
  | { readonly do: "start"; readonly host: string }
  | { readonly do: "reboot"; readonly host: string; readonly fresh: boolean }
  | { readonly do: "partition"; readonly from: readonly string[]; readonly to: readonly string[] };

/** An error as it crosses a process boundary. */
export interface ErrorData {
  readonly kind: ErrorKind;
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
}

export const errorData = (error: unknown): ErrorData =>
  error instanceof NetworkError
    ? { kind: error.kind, code: error.code, message: error.message, hint: error.hint }
    : { kind: "internal", code: "lab", message: errorText(error) };

export const toError = ({ kind, code, message, hint }: ErrorData): NetworkError =>
  new NetworkError(kind in errorStatus ? kind : "internal", code, message, hint === undefined ? {} : { hint });

/** Bytes of a request or an answer. */
export const messageLimit = 1 << 20;

/**
 * Asks a supervisor.
 * @param deadline milliseconds; the supervisor has deadlines of its own for each step
 * @throws NetworkError what the supervisor refused with; `lab-gone` where none answers
 */
export const ask = <T>(path: string, request: LabRequest, deadline = 300_000): Promise<T> =>
  new Promise((resolve, reject) => {
    const gone = (cause?: unknown) =>
      reject(noService("lab-gone", `the lab's supervisor does not answer on ${path}`, { cause }));
    const socket = connect(path);
    let text = "";
    socket.setTimeout(deadline, () => socket.destroy(noService("lab-gone", `no answer within ${deadline / 1000} s`)));
    socket.on("error", gone);
    socket.on("data", (chunk) => {
      text += chunk.toString();
      if (text.length > messageLimit) socket.destroy();
    });
    socket.on("close", () => {
      try {
        const reply = JSON.parse(text) as { readonly result?: T; readonly error?: ErrorData };
        if (reply.error) reject(toError(reply.error));
        else resolve(reply.result as T);
      } catch (error) {
        gone(error);
      }
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
