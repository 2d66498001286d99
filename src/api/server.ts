import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { isIP } from "node:net";
import type { Controller } from "../controller/model.ts";
import { badRequest, errorText, NetworkError, notFound, shown } from "../errors.ts";
import { readBody } from "./body.ts";
import { loneNode, type NodeProvider } from "./node-routes.ts";
import { findRoute } from "./router.ts";
import type { Route } from "./routes.ts";

export interface ApiOptions {
  readonly controller: Controller;
  /** The nodes of the cluster; without them `GET /nodes` answers this node alone. */
  readonly nodes?: NodeProvider;
  readonly log: (level: "debug" | "info" | "warning" | "error", message: string) => void;
  readonly version: string;
  /** Host names that clients may use over TCP, beside IP addresses and localhost. */
  readonly allowedHosts?: readonly string[];
}

const text = "text/plain; charset=utf-8";

/** The REST API over a controller, as a listener for `node:http`; see docs/adr/0004 for why it is not a framework's. */
export const createApi =
  (options: ApiOptions): RequestListener =>
  (request, response) => {
    response.setHeader("server", `dnet/${options.version}`);
    void answer(options, request, response).catch((error: unknown) => {
      options.log("error", `API: ${errorText(error)}`);
      response.destroy();
    });
  };

const answer = async (options: ApiOptions, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  try {
    checkHost(request, options.allowedHosts ?? []);
    const found = findRoute(request.method ?? "", request.url ?? "/");
    if (found.kind === "none") throw notFound("no-route", "404 page not found");
    // The original says nothing more.
    if (found.kind === "other-method") return send(response, 405);
    await run(options, found.route, found.params, found.query, request, response);
  } catch (error) {
    sendError(options, error, request, response);
  }
};

const run = async (
  { controller, log, version, nodes = loneNode("", version) }: ApiOptions,
  route: Route,
  params: Readonly<Record<string, string>>,
  query: Readonly<Record<string, string>>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  // What is under way when a client goes away is given up before it is committed, never in the middle.
  const abort = new AbortController();
  response.once("close", () => {
    if (!response.writableEnded) abort.abort(new Error("the client went away"));
  });
  const began = performance.now();
  const body = await readBody(request);
  if (route.shared) {
    const stale = await controller.sync(abort.signal);
    if (stale) response.setHeader("x-dnet-stale-since", stale.since.toISOString());
  }
  const result = await route.run({ controller, nodes, params, query, body, signal: abort.signal });
  if (route.method !== "GET") {
    log("debug", `${route.method} ${request.url} took ${(performance.now() - began).toFixed(1)} ms`);
  }
  if (result === undefined) send(response, route.status);
  else send(response, route.status, "application/json", JSON.stringify(result));
};

const send = (response: ServerResponse, status: number, type?: string, body = ""): void => {
  if (response.destroyed) return;
  response.statusCode = status;
  if (type !== undefined) response.setHeader("content-type", type);
  response.setHeader("content-length", Buffer.byteLength(body));
  response.end(body);
};

/** Against web pages whose name was pointed at us (DNS rebinding): over TCP a client says an address or a known name. */
const checkHost = (request: IncomingMessage, allowed: readonly string[]): void => {
  if (request.socket.remoteAddress === undefined) return;
  const host = (request.headers.host ?? "")
    .toLowerCase()
    .replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
  if (host === "" || host === "localhost" || isIP(host) !== 0 || allowed.some((name) => name.toLowerCase() === host))
    return;
  throw new NetworkError("forbidden", "host-not-allowed", `host name ${shown(host)} is not allowed`, {
    hint: "use an IP address, or list the name in [daemon] hostNames",
  });
};

const wantsJson = (request: IncomingMessage): boolean => {
  const accept = request.headers.accept ?? "";
  return accept.includes("application/json") && !accept.includes("*/*") && !accept.includes("text/");
};

const sendError = ({ log }: ApiOptions, error: unknown, request: IncomingMessage, response: ServerResponse): void => {
  const { status, code, message, hint } = describeError(error);
  if (status >= 500) {
    // Nobody is told, and nothing went wrong here, where the client gave up.
    const cause = error instanceof Error && error.cause !== undefined ? `: ${errorText(error.cause)}` : "";
    log(response.destroyed ? "debug" : "error", `${request.method} ${request.url}: ${message}${cause}`);
  }
  // What is left of a body that nobody reads must not be taken for the next request.
  if (!request.complete) response.setHeader("connection", "close");
  if (wantsJson(request)) {
    send(response, status, "application/json", JSON.stringify({ code, message, ...(hint !== undefined && { hint }) }));
  } else send(response, status, text, `${message}${hint === undefined ? "" : `\n${hint}`}\n`);
};

const describeError = (error: unknown): NetworkError => {
  if (error instanceof NetworkError) return error;
  const message = errorText(error);
  if (error instanceof AggregateError) {
    return new NetworkError("internal", "teardown", message, { hint: "what is left is removed at the next start" });
  }
  return error instanceof URIError
    ? badRequest("bad-path", message)
    : new NetworkError("internal", "internal", message);
};
