import { isIP } from "node:net";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Controller } from "../controller/model.ts";
import { errorText, NetworkError } from "../errors.ts";
import { maxBody } from "./body.ts";
import { type Route, routes } from "./routes.ts";

export interface ApiOptions {
  readonly controller: Controller;
  readonly log: (level: "debug" | "info" | "warning" | "error", message: string) => void;
  readonly version: string;
  /** Host names that clients may use over TCP, beside IP addresses and localhost. */
  readonly allowedHosts?: readonly string[];
}

const text = "text/plain; charset=utf-8";
const maxParameter = 256;
const resources = ["networks", "services", "sandboxes", "healthz"];

/** `/v1.19/networks` is `/networks`: one segment before a resource's name is a version and means nothing. */
export const withoutPrefix = (url: string): string => {
  const match = /^\/[^/?#]+\/([a-z]+)(?=[/?#]|$)/.exec(url);
  const first = /^\/([^/?#]*)/.exec(url)?.[1] ?? "";
  if (!match || resources.includes(first) || !resources.includes(match[1] ?? "")) return url;
  return url.slice(url.indexOf("/", 1));
};

/** The REST API over a controller; it does not listen by itself. */
export const createApi = (options: ApiOptions): FastifyInstance => {
  const app = fastify({
    logger: false,
    bodyLimit: maxBody,
    exposeHeadRoutes: false,
    rewriteUrl: (request) => withoutPrefix(request.url ?? "/"),
    routerOptions: { maxParamLength: maxParameter },
    onProtoPoisoning: "ignore",
  });
  // Every body is read as text and parsed by the route: the original's client sends no content type.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => done(null, body));
  app.addHook("onRequest", async (request, reply) => {
    reply.header("server", `dnet/${options.version}`);
    if (!hostAllowed(request, options.allowedHosts ?? [])) {
      return reply
        .code(403)
        .type(text)
        .send("host name not allowed: use an IP address, or list it in [daemon] hostNames\n");
    }
  });
  for (const route of routes) addRoute(app, route, options);
  app.setNotFoundHandler((request, reply) => notFoundReply(request, reply));
  app.setErrorHandler((error, request, reply) => errorReply(error, request, reply, options.log));
  return app;
};

const addRoute = (app: FastifyInstance, route: Route, { controller, log }: ApiOptions): void => {
  app.route({
    method: route.method,
    url: route.path,
    async handler(request, reply) {
      const abort = new AbortController();
      const onClose = () => {
        if (!reply.raw.writableEnded) abort.abort(new Error("the client went away"));
      };
      reply.raw.once("close", onClose);
      const began = performance.now();
      try {
        const answer = await route.run({
          controller,
          params: request.params as Record<string, string>,
          query: flatQuery(request.query),
          body: typeof request.body === "string" ? request.body : "",
          signal: abort.signal,
        });
        reply.code(route.status);
        // What was made is made, whoever still listens; an operation under way is not cut off in the middle.
        return answer === undefined ? reply.send() : reply.type("application/json").send(JSON.stringify(answer));
      } finally {
        reply.raw.off("close", onClose);
        if (route.method !== "GET") {
          log("debug", `${route.method} ${request.url} took ${(performance.now() - began).toFixed(1)} ms`);
        }
      }
    },
  });
};

/** Of a parameter given several times the first counts. */
const flatQuery = (query: unknown): Record<string, string | undefined> =>
  Object.fromEntries(
    Object.entries(query as Record<string, string | string[]>).map(([name, value]) => [
      name,
      Array.isArray(value) ? value[0] : value,
    ]),
  );

/** Against web pages whose name was pointed at us (DNS rebinding): over TCP a client says an address or a known name. */
const hostAllowed = (request: FastifyRequest, allowed: readonly string[]): boolean => {
  if (request.raw.socket.remoteAddress === undefined) return true;
  const host = (request.headers.host ?? "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host === "" || host === "localhost" || isIP(host) !== 0 || allowed.includes(host);
};

/** A path that exists with another method is 405, as in the original; anything else is not there. */
const notFoundReply = (request: FastifyRequest, reply: FastifyReply): FastifyReply => {
  const path = request.url.split("?")[0] ?? "";
  const shape = (pattern: string) => new RegExp(`^${pattern.replaceAll(/:[a-z]+/g, "[^/]+")}$`);
  const known = routes.some((route) => shape(route.path).test(path));
  return known ? reply.code(405).send() : reply.code(404).type(text).send("404 page not found\n");
};

const wantsJson = (request: FastifyRequest): boolean => {
  const accept = request.headers.accept ?? "";
  return accept.includes("application/json") && !accept.includes("*/*") && !accept.includes("text/");
};

const errorReply = (
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  log: ApiOptions["log"],
): FastifyReply => {
  const { status, code, message, hint } = describeError(error);
  if (status >= 500) {
    const cause = error instanceof Error && error.cause !== undefined ? `: ${errorText(error.cause)}` : "";
    log("error", `${request.method} ${request.url}: ${message}${cause}`);
  }
  reply.code(status);
  if (wantsJson(request)) {
    return reply.type("application/json").send(JSON.stringify({ code, message, ...(hint !== undefined && { hint }) }));
  }
  return reply.type(text).send(`${message}${hint === undefined ? "" : `\n${hint}`}\n`);
};

interface Described {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
}

const describeError = (error: unknown): Described => {
  if (error instanceof NetworkError) return error;
  if (error instanceof AggregateError) {
    return { status: 500, code: "teardown", message: error.message, hint: "what is left is removed at the next start" };
  }
  const { statusCode: status = 500, code = "internal" } = error as { statusCode?: number; code?: string };
  if (status === 413) return { status, code: "too-large", message: `Invalid body: more than ${maxBody} bytes` };
  // Fastify's own refusals (a URL it cannot decode, a bad length) are the client's fault and safe to show.
  if (status >= 400 && status < 500) return { status, code: "bad-request", message: errorText(error) };
  return { status: 500, code, message: errorText(error) };
};
