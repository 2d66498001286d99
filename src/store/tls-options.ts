import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { errorText } from "../errors.ts";
import type { HttpClientOptions } from "./http-client.ts";

export type TlsOptions = NonNullable<HttpClientOptions["tls"]>;

/** Finds what is wrong with PEM texts when they are given, not when a server is spoken to. @throws what `fail` makes of the reason */
export const checkTls = (tls: TlsOptions | undefined, fail: (reason: string, cause?: unknown) => Error): void => {
  if (!tls) return;
  if ((tls.cert === undefined) !== (tls.key === undefined)) throw fail("a certificate and its key go together");
  try {
    // A context takes a CA's text that holds no certificate, and trusts nobody.
    if (tls.ca !== undefined) new X509Certificate(tls.ca);
    createSecureContext(tls);
  } catch (cause) {
    throw fail(`the certificates cannot be used: ${errorText(cause)}`, cause);
  }
};
