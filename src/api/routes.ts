import type { Controller, EndpointInfo } from "../controller/model.ts";
import { badRequest, NetworkError, notFound, shown } from "../errors.ts";
import { parseBody } from "./body.ts";
import { doctorRoutes } from "./doctor-routes.ts";
import { type NodeProvider, nodeRoutes } from "./node-routes.ts";
import { endpointRequest, joinRequest, networkRequest, sandboxRequest, unpublishRequest } from "./requests.ts";
import type { ExplanationResource, TraceResource } from "./resources.ts";
import { networkResource, sandboxResource, serviceResource } from "./views.ts";

/** Every route as data: method, path, and what it does. */

export interface Call {
  readonly controller: Controller;
  readonly nodes: NodeProvider;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  /** The body as it came. */
  readonly body: string;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
}

export interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  /** Status of success. */
  readonly status: 200 | 201;
  /** Shows or changes what hosts share: it sees everything that was written anywhere before. */
  readonly shared?: true;
  /** What is answered; undefined for an empty body. */
  readonly run: (call: Call) => unknown;
}

/** Fewest digits of an id by which something is found. */
const shortestId = 4;

interface Named {
  readonly id: string;
  readonly name: string;
}

/** `name` exact, else `partial-id` a prefix; an empty one is none, as in the original. */
const filtered = <T extends Named>(all: readonly T[], query: Call["query"]): readonly T[] => {
  if (query.name) return all.filter(({ name }) => name === query.name);
  return withPartialId(all, query["partial-id"]);
};

const withPartialId = <T extends { readonly id: string }>(
  all: readonly T[],
  partial: string | undefined,
): readonly T[] => {
  if (!partial) return all;
  if (partial.length < shortestId) return [];
  return all.filter(({ id }) => id.startsWith(partial));
};

const networks: readonly Route[] = [
  {
    method: "GET",
    path: "/networks",
    status: 200,
    run: ({ controller, query }) =>
      filtered(controller.networks(), query).map((network) => networkResource(controller, network)),
  },
  {
    method: "GET",
    path: "/networks/:id",
    status: 200,
    run: ({ controller, params }) => networkResource(controller, controller.network(params.id ?? "")),
  },
  {
    method: "POST",
    path: "/networks",
    status: 201,
    run: async ({ controller, body, signal }) =>
      (await controller.createNetwork(networkRequest(parseBody(body)), signal)).id,
  },
  {
    method: "DELETE",
    path: "/networks/:id",
    status: 200,
    run: ({ controller, params, signal }) => controller.deleteNetwork(params.id ?? "", signal),
  },
];

/** The endpoint of a path, which must be of the path's network. */
const endpointOf = ({ controller, params }: Call): EndpointInfo => {
  const network = controller.network(params.id ?? "");
  const endpoint = controller.endpoint(params.eid ?? "");
  if (endpoint.networkId !== network.id) throw notFound("no-endpoint", "Resource not found: Endpoint");
  return endpoint;
};

const endpoints: readonly Route[] = [
  {
    method: "GET",
    path: "/networks/:id/endpoints",
    status: 200,
    run: (call) => {
      const found = call.controller.endpoints(call.controller.network(call.params.id ?? "").id);
      const nodes = call.nodes.nodes();
      return filtered(found, call.query).map((endpoint) => serviceResource(endpoint, nodes));
    },
  },
  {
    method: "GET",
    path: "/networks/:id/endpoints/:eid",
    status: 200,
    run: (call) => serviceResource(endpointOf(call), call.nodes.nodes()),
  },
  {
    method: "POST",
    path: "/networks/:id/endpoints",
    status: 201,
    run: async ({ controller, params, body, signal }) => {
      const { request } = endpointRequest(parseBody(body), "endpointCreate");
      return (await controller.createEndpoint(controller.network(params.id ?? "").id, request, signal)).id;
    },
  },
  {
    method: "DELETE",
    path: "/networks/:id/endpoints/:eid",
    status: 200,
    run: (call) => call.controller.deleteEndpoint(endpointOf(call).id, {}, call.signal),
  },
  {
    method: "POST",
    path: "/networks/:id/endpoints/:eid/sandboxes",
    status: 200,
    run: async (call) => {
      const { sandbox, options } = joinRequest(parseBody(call.body));
      return (await call.controller.attach(endpointOf(call).id, sandbox, options, call.signal)).key;
    },
  },
  {
    method: "DELETE",
    path: "/networks/:id/endpoints/:eid/sandboxes/:sid",
    status: 200,
    run: (call) => call.controller.detach(endpointOf(call).id, call.params.sid ?? "", call.signal),
  },
];

/** The words of /services for what the model says of endpoints. */
const asService = async <T>(work: () => T | Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    const text = error.message
      .replace("Resource not found: Endpoint", "Service not found")
      .replace(/^endpoint with name /, "service with name ");
    if (text === error.message) throw error;
    throw new NetworkError(error.kind, error.code, text, {
      cause: error,
      ...(error.hint !== undefined && { hint: error.hint }),
    });
  }
};

const serviceRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/services",
    status: 200,
    run: (call) => {
      const { controller, query } = call;
      const network = query["default-network"] ? controller.defaultNetwork : query.network;
      const all = controller.endpoints();
      const found = filtered(network ? all.filter((endpoint) => endpoint.network === network) : all, query);
      const nodes = call.nodes.nodes();
      return found.map((endpoint) => serviceResource(endpoint, nodes));
    },
  },
  {
    method: "GET",
    path: "/services/:eid",
    status: 200,
    run: (call) => serviceResource(call.controller.endpoint(call.params.eid ?? ""), call.nodes.nodes()),
  },
  {
    method: "POST",
    path: "/services",
    status: 201,
    run: async ({ controller, body, signal }) => {
      const { network, request } = endpointRequest(parseBody(body), "servicePublish");
      const wanted = network || controller.defaultNetwork;
      const found = controller.networks().find(({ name }) => name === wanted);
      if (!found)
        throw notFound("no-network", "Resource not found: Network", { hint: `there is no network ${wanted}` });
      return (await controller.createEndpoint(found.id, request, signal)).id;
    },
  },
  {
    method: "DELETE",
    path: "/services/:eid",
    status: 200,
    run: ({ controller, params, body, signal }) => {
      const { force } = unpublishRequest(parseBody(body));
      return controller.deleteEndpoint(params.eid ?? "", { force }, signal);
    },
  },
  {
    method: "GET",
    path: "/services/:eid/backend",
    status: 200,
    run: ({ controller, params }) => {
      const { sandboxId } = controller.endpoint(params.eid ?? "");
      const here = controller.sandboxes().find(({ id }) => id === sandboxId);
      return here ? sandboxResource(here) : { id: "", key: "", container_id: "" };
    },
  },
  {
    method: "POST",
    path: "/services/:eid/backend",
    status: 200,
    run: async ({ controller, params, body, signal }) => {
      const { sandbox, options } = joinRequest(parseBody(body));
      return (await controller.attach(params.eid ?? "", sandbox, options, signal)).key;
    },
  },
  {
    method: "DELETE",
    path: "/services/:eid/backend/:sid",
    status: 200,
    run: ({ controller, params, signal }) => controller.detach(params.eid ?? "", params.sid ?? "", signal),
  },
];

const services = serviceRoutes.map((route): Route => ({ ...route, run: (call) => asService(() => route.run(call)) }));

const sandboxes: readonly Route[] = [
  {
    method: "GET",
    path: "/sandboxes",
    status: 200,
    run: ({ controller, query }) => {
      const all = controller.sandboxes();
      const container = query["container-id"];
      const partial = query["partial-container-id"];
      if (container) return all.filter(({ containerId }) => containerId === container).map(sandboxResource);
      if (partial) return all.filter(({ containerId }) => containerId.startsWith(partial)).map(sandboxResource);
      return withPartialId(all, query["partial-id"]).map(sandboxResource);
    },
  },
  {
    method: "GET",
    path: "/sandboxes/:sid",
    status: 200,
    run: ({ controller, params }) => sandboxResource(controller.sandbox(params.sid ?? "")),
  },
  {
    method: "POST",
    path: "/sandboxes",
    status: 201,
    run: async ({ controller, body, signal }) =>
      (await controller.createSandbox(sandboxRequest(parseBody(body)), signal)).id,
  },
  {
    method: "DELETE",
    path: "/sandboxes/:sid",
    status: 200,
    run: ({ controller, params, signal }) => controller.deleteSandbox(params.sid ?? "", signal),
  },
];

const protocols = ["tcp", "udp", "sctp"] as const;

const firewall: readonly Route[] = [
  {
    method: "GET",
    path: "/firewall/networks/:id",
    status: 200,
    run: ({ controller, params }) => controller.explainNetwork(params.id ?? ""),
  },
  {
    method: "GET",
    path: "/firewall/ports/:port",
    status: 200,
    run: ({ controller, params, query, signal }) => {
      const protocol = protocols.find((known) => known === (query.protocol ?? "tcp"));
      if (protocol === undefined) {
        throw badRequest(
          "invalid-protocol",
          `invalid protocol: ${shown(query.protocol ?? "")} is not tcp, udp or sctp`,
        );
      }
      const { port = "" } = params;
      if (!/^\d{1,5}$/.test(port)) throw badRequest("invalid-port", `invalid port: ${shown(port)} is not a number`);
      return controller.explainPort(Number(port), protocol, signal);
    },
  },
];

/** What the objects of the model are to the kernel. */
const explanations: readonly Route[] = [
  {
    method: "GET",
    path: "/networks/:id/explain",
    status: 200,
    run: ({ controller, params }): ExplanationResource => controller.explain("network", params.id ?? ""),
  },
  {
    method: "GET",
    path: "/services/:eid/explain",
    status: 200,
    run: ({ controller, params }) =>
      asService((): ExplanationResource => controller.explain("endpoint", params.eid ?? "")),
  },
  {
    method: "GET",
    path: "/sandboxes/:sid/explain",
    status: 200,
    run: ({ controller, params }): ExplanationResource => controller.explain("sandbox", params.sid ?? ""),
  },
  {
    method: "GET",
    path: "/sandboxes/:sid/trace",
    status: 200,
    run: ({ controller, params, query, signal }): Promise<TraceResource> =>
      controller.trace(params.sid ?? "", query.to ?? "", { ping: query.ping === "true" }, signal),
  },
];

export const routes: readonly Route[] = [
  ...[...networks, ...endpoints, ...services, ...explanations].map((route): Route => ({ ...route, shared: true })),
  ...sandboxes,
  ...nodeRoutes,
  ...firewall,
  ...doctorRoutes,
  {
    method: "GET",
    path: "/healthz",
    status: 200,
    run: ({ controller: { degraded, repairs } }) =>
      degraded.length === 0 ? { status: "ok", repairs } : { status: "degraded", reasons: degraded, repairs },
  },
];
