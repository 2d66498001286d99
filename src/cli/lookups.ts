import type { NetworkResource, NodeResource, SandboxResource, ServiceResource } from "../api/resources.ts";
import { type Client, ClientError } from "./client.ts";

/** From what a person types to objects: exact names first, then a prefix of an id, at least 4 digits and unique. */

const isPartialId = (text: string): boolean => /^[0-9a-f]{4,64}$/.test(text);
const query = (parameters: Readonly<Record<string, string>>): string => new URLSearchParams(parameters).toString();

/** The original's daemon answers `null` for an empty list. */
const get = async <T>(client: Client, path: string): Promise<readonly T[]> =>
  (await client.call<readonly T[] | null>("GET", path)) ?? [];

/** The one that fits, or undefined; the daemon's answer is checked, since the original's matches more than it should. */
const pick = <T extends { readonly id: string; readonly name: string }>(
  text: string,
  byName: readonly T[],
  byId: readonly T[],
): T | undefined => {
  const named = byName.find(({ name }) => name === text);
  if (named) return named;
  const found = byId.filter(({ id }) => id.startsWith(text));
  if (found.length > 1) throw new ClientError(`${text} is the beginning of ${found.length} ids: give more digits`);
  return found[0];
};

/** @throws ClientError `resource not found NAME` */
export const findNetwork = async (client: Client, text: string): Promise<NetworkResource> => {
  const byName = text === "" ? [] : await get<NetworkResource>(client, `/networks?${query({ name: text })}`);
  const byId = isPartialId(text)
    ? await get<NetworkResource>(client, `/networks?${query({ "partial-id": text })}`)
    : [];
  const found = pick(text, byName, byId);
  if (!found) throw new ClientError(`resource not found ${text}`);
  return found;
};

/** `SERVICE[.NETWORK]`: the part after the last dot is the network; without a dot it is the default one (undefined). */
export const splitService = (text: string): { readonly service: string; readonly network: string | undefined } => {
  const dot = text.lastIndexOf(".");
  return dot < 0
    ? { service: text, network: undefined }
    : { service: text.slice(0, dot), network: text.slice(dot + 1) };
};

/** @throws ClientError `Network N does not exist`, `Service S not found on network N` */
export const findService = async (client: Client, text: string): Promise<ServiceResource> => {
  const { service, network } = splitService(text);
  const place: Record<string, string> = network === undefined ? { "default-network": "true" } : { network };
  const byName =
    service === "" ? [] : await get<ServiceResource>(client, `/services?${query({ ...place, name: service })}`);
  const byId = isPartialId(service)
    ? await get<ServiceResource>(client, `/services?${query({ ...place, "partial-id": service })}`)
    : [];
  const here = (list: readonly ServiceResource[]) =>
    network === undefined ? list : list.filter((candidate) => candidate.network === network);
  const found = pick(service, here(byName), here(byId));
  if (found) return found;
  if (network === undefined) throw new ClientError(`Service ${service} not found on the default network`);
  const networks = await get<NetworkResource>(client, `/networks?${query({ name: network })}`);
  if (!networks.some(({ name }) => name === network)) throw new ClientError(`Network ${network} does not exist`);
  throw new ClientError(`Service ${service} not found on network ${network}`);
};

/** A sandbox by the name of its container or the beginning of its id; undefined where there is none. */
export const findSandbox = async (client: Client, text: string): Promise<SandboxResource | undefined> => {
  if (text === "") return undefined;
  const named = await get<SandboxResource>(client, `/sandboxes?${query({ "container-id": text })}`);
  const exact = named.find(({ container_id }) => container_id === text);
  if (exact || !isPartialId(text)) return exact;
  const byId = await get<SandboxResource>(client, `/sandboxes?${query({ "partial-id": text })}`);
  const found = byId.filter(({ id }) => id.startsWith(text));
  if (found.length > 1) throw new ClientError(`${text} is the beginning of ${found.length} ids: give more digits`);
  return found[0];
};

/** A node by its id, its name, or the beginning of its id. @throws ClientError `resource not found NAME` */
export const findNode = async (client: Client, text: string): Promise<NodeResource> => {
  const all = text === "" ? [] : await get<NodeResource>(client, "/nodes");
  const named = all.filter(({ id, name }) => id === text || name === text);
  const found = named.length > 0 || !isPartialId(text) ? named : all.filter(({ id }) => id.startsWith(text));
  if (found.length > 1) {
    throw new ClientError(`${text} fits ${found.length} nodes, ${found.map(({ id }) => id).join(" and ")}: give an id`);
  }
  if (!found[0]) throw new ClientError(`resource not found ${text}`);
  return found[0];
};
