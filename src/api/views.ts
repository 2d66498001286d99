import type { ClusterNode } from "../cluster/merge-nodes.ts";
import type { Controller, EndpointInfo, NetworkInfo, SandboxInfo } from "../controller/model.ts";
import { addressOf } from "../net/prefix.ts";
import type { PublishedPort } from "../ports/port-mapping.ts";
import { publishedText, requestText } from "../ports/port-text.ts";
import type { NetworkResource, PublishedPortResource, SandboxResource, ServiceResource } from "./resources.ts";

/** The model as the API shows it. */

export const networkResource = (controller: Controller, network: NetworkInfo): NetworkResource => ({
  name: network.name,
  id: network.id,
  type: network.driver,
  endpoints: controller.endpoints(network.id).map(({ name, id }) => ({ name, id, network: network.name })),
  scope: network.scope,
  internal: network.internal,
  ipv6: network.ipv6,
  created: network.created,
  subnets: network.subnets.map(({ pool, range, gateway, vni }) => ({
    subnet: pool,
    ...(range !== undefined && { ip_range: range }),
    ...(gateway !== undefined && { gateway: addressOf(gateway) }),
    ...(vni !== undefined && { vni }),
  })),
  options: network.options,
  labels: network.labels,
});

/** @param nodes the cluster's, as they are now, to say what became of the one where the endpoint is attached, where that is another */
export const serviceResource = (endpoint: EndpointInfo, nodes: readonly ClusterNode[]): ServiceResource => ({
  name: endpoint.name,
  id: endpoint.id,
  network: endpoint.network,
  network_id: endpoint.networkId,
  addresses: endpoint.addresses,
  ...(endpoint.mac !== undefined && { mac_address: endpoint.mac }),
  aliases: endpoint.aliases,
  created: endpoint.created,
  ...(endpoint.containerId !== undefined && { container_id: endpoint.containerId }),
  ...(endpoint.sandboxId !== undefined && { sandbox_id: endpoint.sandboxId }),
  ...(endpoint.interfaceName !== undefined && { interface: endpoint.interfaceName }),
  ...(endpoint.node !== undefined && endpoint.sandboxId === undefined && { node: nodeOf(endpoint.node, nodes) }),
});

const nodeOf = (id: string, nodes: readonly ClusterNode[]): NonNullable<ServiceResource["node"]> => {
  const found = nodes.find((node) => node.id === id);
  return { id, name: found?.name ?? id, state: found?.state ?? "unknown" };
};

export const sandboxResource = (sandbox: SandboxInfo): SandboxResource => ({
  id: sandbox.id,
  key: sandbox.key,
  container_id: sandbox.containerId,
  host_name: sandbox.hostName,
  domain_name: sandbox.domainName,
  created: sandbox.created,
  endpoints: sandbox.endpoints,
  ...(sandbox.ports.length > 0 && { ports: sandbox.ports.map(requestText) }),
  ...(sandbox.exposed.length > 0 && { exposed_ports: sandbox.exposed.map(requestText) }),
  ...(sandbox.published.length > 0 && { published_ports: sandbox.published.map(publishedPortResource) }),
});

const publishedPortResource = (published: PublishedPort): PublishedPortResource => {
  const { protocol, hostAddress, hostPort, port, count } = published;
  return {
    protocol,
    ...(hostAddress !== undefined && { host_address: hostAddress }),
    host_port: hostPort,
    ...(count > 1 && { host_port_end: hostPort + count - 1 }),
    port,
    ...(count > 1 && { port_end: port + count - 1 }),
    text: publishedText(published),
  };
};
