/**
 * The one table of errors. Every refusal of the library is a `NetworkError` with a stable code; its kind decides the
 * HTTP status. Texts are part of the contract: see `docs/errors.md`.
 */

/** HTTP status of each kind of error. */
export const errorStatus = {
  "bad-request": 400,
  forbidden: 403,
  "not-found": 404,
  "method-not-allowed": 405,
  timeout: 408,
  "too-large": 413,
  internal: 500,
  "not-implemented": 501,
  "no-service": 503,
} as const;

export type ErrorKind = keyof typeof errorStatus;

export interface ErrorDetails {
  /** What to do next, where that is known; clients print it on a second line. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Kernel errno (positive) where a system call failed. */
  readonly errno?: number;
}

/** A refusal or failure with a stable code, a kind and a text that clients show. */
export class NetworkError extends Error {
  readonly kind: ErrorKind;
  readonly code: string;
  readonly hint: string | undefined;
  readonly errno: number | undefined;

  constructor(kind: ErrorKind, code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "NetworkError";
    this.kind = kind;
    this.code = code;
    this.hint = details.hint;
    this.errno = details.errno;
  }

  get status(): number {
    return errorStatus[this.kind];
  }
}

export const badRequest = (code: string, message: string, details?: ErrorDetails) =>
  new NetworkError("bad-request", code, message, details);
export const forbidden = (code: string, message: string, details?: ErrorDetails) =>
  new NetworkError("forbidden", code, message, details);
export const notFound = (code: string, message: string, details?: ErrorDetails) =>
  new NetworkError("not-found", code, message, details);
export const internal = (code: string, message: string, details?: ErrorDetails) =>
  new NetworkError("internal", code, message, details);
export const notImplemented = (code: string, message: string, details?: ErrorDetails) =>
  new NetworkError("not-implemented", code, message, details);
export const noService = (code: string, message: string, details?: ErrorDetails) =>
  new NetworkError("no-service", code, message, details);

/** What somebody gave us, fit to be printed in an error: quoted, control characters escaped, cut to 100 characters. */
export const shown = (text: string): string => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);

/** The text of anything thrown. */
export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));
