import { parseRequest } from "../ports/port-text.ts";
import { type Context, isHere, namespaceKey, requireNetwork } from "./context.ts";
import type { EndpointInfo, NetworkInfo, SandboxInfo } from "./model.ts";
import type { EndpointRecord, NetworkRecord, SandboxRecord } from "./records.ts";

/** Records as users see them. */

export const networkInfo = (record: NetworkRecord): NetworkInfo => {
  const { version: _, auxiliary: __, ...info } = record;
  return info;
};

export const endpointInfo = (context: Context, record: EndpointRecord): EndpointInfo => ({
  id: record.id,
  name: record.name,
  networkId: record.network,
  network: requireNetwork(context, record.network).name,
  aliases: record.aliases,
  addresses: record.addresses,
  ...(record.mac !== undefined && { mac: record.mac }),
  created: record.created,
  ...(record.sandbox && { node: record.sandbox.node }),
  ...(record.sandbox &&
    isHere(context, record) && {
      sandboxId: record.sandbox.id,
      containerId: record.sandbox.container,
      interfaceName: record.sandbox.interface,
    }),
});

export const sandboxInfo = (context: Context, record: SandboxRecord): SandboxInfo => ({
  id: record.id,
  key: namespaceKey(context, record),
  containerId: record.container,
  hostName: record.hostName,
  domainName: record.domainName,
  created: record.created,
  endpoints: context.state.endpointsIn(record.id).map(({ id }) => id),
  ports: (record.ports ?? []).map(parseRequest),
  exposed: (record.exposed ?? []).map(parseRequest),
  published: context.ports?.published(record.id) ?? [],
});
