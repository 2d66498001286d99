import { isDeepStrictEqual } from "node:util";
import type {
  DiagnosisResource,
  NetworkResource,
  NodeResource,
  SandboxResource,
  ServiceResource,
} from "../../src/api/resources.ts";
import { errorText } from "../../src/errors.ts";
import type { Lab } from "../../src/lab/lab.ts";
import type { StoreEntry } from "../../src/store/store.ts";
import { checkKernel, type NodeView } from "./check-kernel.ts";
import { checkStore, endpointOf, networkOf, readContents, type StoreContents } from "./check-store.ts";
import type { NodeClient } from "./node-client.ts";
import type { ObservedHost } from "./observe-host.ts";
import { seenNetworks, seenServices } from "./views.ts";

/** Milliseconds until everything that was broken has come to rest; leases and sessions of the store are part of that. */
const deadline = 90_000;

const script = (name: string): string => new URL(name, import.meta.url).pathname;

export const dumpStore = async (lab: Lab, first: string): Promise<StoreContents> => {
  const { store } = await lab.state();
  if (!store) throw new Error("the lab has no store");
  const arguments_ = [store.kind, `${store.endpoint}/dnet`];
  const text = await lab.host(first).run(process.execPath, script("dump-store.ts"), ...arguments_);
  return readContents(JSON.parse(text) as readonly StoreEntry[]);
};

const viewOf = async (node: NodeClient): Promise<NodeView | undefined> => {
  const nodes = await node.read<readonly NodeResource[]>("/nodes");
  const networks = await node.read<readonly NetworkResource[]>("/networks");
  const services = await node.read<readonly ServiceResource[]>("/services");
  const sandboxes = await node.read<readonly SandboxResource[]>("/sandboxes");
  const self = nodes?.find((one) => one.self);
  if (!self || !services || !networks || !sandboxes) return undefined;
  return {
    name: node.name,
    instance: self.id,
    networks: networks.map(({ id }) => id),
    sandboxes: sandboxes.map(({ id }) => id),
    services,
  };
};

/** What a node says and the store does not, or the other way round. */
const disagreements = async (contents: StoreContents, node: NodeClient): Promise<readonly string[]> => {
  const networks = await seenNetworks(node);
  const services = await seenServices(node);
  if (!networks || !services) return [`${node.name} does not answer, or is out of date`];
  const known = new Set(contents.networks.map(({ id }) => id));
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  const shown = services.filter(({ network }) => known.has(network)).map(({ sandbox: _, ...service }) => service);
  const same =
    isDeepStrictEqual(
      networks.filter(({ scope }) => scope === "global").toSorted(byId),
      contents.networks.map(networkOf).toSorted(byId),
    ) && isDeepStrictEqual(shown.toSorted(byId), contents.endpoints.map(endpointOf).toSorted(byId));
  return same ? [] : [`${node.name} shows other networks or services than the store holds`];
};

const problemsNow = async (lab: Lab, nodes: readonly NodeClient[]): Promise<readonly string[]> => {
  let contents: StoreContents;
  try {
    contents = await dumpStore(lab, nodes[0]?.name ?? "");
  } catch (error) {
    return [`the store cannot be read: ${errorText(error)}`];
  }
  const problems = [...checkStore(contents)];
  for (const node of nodes) {
    problems.push(...(await disagreements(contents, node)));
    const view = await viewOf(node);
    if (!view) continue;
    const observed = await lab.host(node.name).run(process.execPath, script("observe-host.ts"));
    problems.push(...checkKernel(contents, view, JSON.parse(observed) as ObservedHost));
  }
  return problems;
};

/** Waits until there are none. @returns what is left of them after the deadline */
export const eventuallyNone = async (find: () => Promise<readonly string[]>): Promise<readonly string[]> => {
  const end = performance.now() + deadline;
  for (;;) {
    const problems = await find();
    if (problems.length === 0 || performance.now() > end) return problems;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
};

/** Waits until nodes, store and kernels agree. @returns what does not, after the deadline */
export const settle = (lab: Lab, nodes: readonly NodeClient[]): Promise<readonly string[]> =>
  eventuallyNone(() => problemsNow(lab, nodes));

/** What the doctor finds on each host: store, kernel (rules, addresses, links, ports) and files. */
export const doctored = async (lab: Lab, nodes: readonly NodeClient[]): Promise<readonly string[]> => {
  const problems: string[] = [];
  for (const { name } of nodes) {
    const { stdout, stderr, status } = await lab.host(name).dnet("doctor", "--format", "json");
    if (stdout === "") problems.push(`${name}: no diagnosis: status ${status}: ${stderr}`);
    const { findings, unchecked } = JSON.parse(stdout || '{"findings":[],"unchecked":[]}') as DiagnosisResource;
    for (const { code, subject, what } of findings) problems.push(`${name}: ${code}: ${subject}: ${what}`);
    for (const { check, reason } of unchecked) problems.push(`${name}: not checked: ${check}: ${reason}`);
  }
  return problems;
};

/** Removes everything through the API. @returns what could not be removed, and what is left although nothing should be */
export const clear = async (lab: Lab, nodes: readonly NodeClient[]): Promise<readonly string[]> => {
  const problems: string[] = [];
  const remove = async (node: NodeClient, path: string, body?: unknown) => {
    const end = performance.now() + deadline;
    for (;;) {
      const { outcome, status, text } = await node.call("DELETE", path, body);
      if (outcome === "ok" || status === 404) return;
      // A store that is late, or was just elected, is no refusal.
      const late = status === 0 || status >= 500;
      if (!late || performance.now() > end) {
        problems.push(`${node.name}: DELETE ${path}: ${status} ${text}`);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  };
  for (const node of nodes) {
    for (const { id } of (await viewOf(node))?.sandboxes.map((one) => ({ id: one })) ?? []) {
      await remove(node, `/sandboxes/${id}`);
    }
  }
  const { networks, endpoints } = await dumpStore(lab, nodes[0]?.name ?? "");
  for (const [n, { id }] of endpoints.entries()) {
    const node = nodes[n % nodes.length];
    if (node) await remove(node, `/services/${id}`, {});
  }
  for (const node of nodes) {
    const local = (await node.read<readonly NetworkResource[]>("/networks"))?.filter(
      ({ name, scope }) => scope === "local" && name !== "bridge",
    );
    for (const { id, network_id } of (await node.read<readonly ServiceResource[]>("/services")) ?? []) {
      if (local?.some((network) => network.id === network_id)) await remove(node, `/services/${id}`, {});
    }
    for (const { id } of local ?? []) await remove(node, `/networks/${id}`);
  }
  for (const [n, { id }] of networks.entries()) {
    const node = nodes[n % nodes.length];
    if (node) await remove(node, `/networks/${id}`);
  }
  problems.push(...(await settle(lab, nodes)));
  const { keys } = await dumpStore(lab, nodes[0]?.name ?? "");
  problems.push(...keys.filter((key) => key !== "pools").map((key) => `left in the store: ${key}`));
  for (const node of nodes) {
    for (const kind of ["services", "sandboxes", "networks"] as const) {
      for (const { name, id } of (await node.read<readonly { name?: string; id: string }[]>(`/${kind}`)) ?? []) {
        if (name !== "bridge") problems.push(`${node.name}: ${kind}: ${name ?? id} is left`);
      }
    }
  }
  return problems;
};
