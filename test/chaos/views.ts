import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import type { SeenNetwork, SeenService } from "./history.ts";
import type { NodeClient } from "./node-client.ts";

/** What a node shows, in the words of the history. */

export const seenNetworks = async (node: NodeClient): Promise<readonly SeenNetwork[] | undefined> =>
  (await node.read<readonly NetworkResource[]>("/networks"))?.map(({ id, name, type, scope = "", subnets = [] }) => ({
    id,
    name,
    driver: type,
    scope,
    subnets: subnets.map(({ subnet, vni }) => ({ pool: subnet, ...(vni !== undefined && { vni }) })),
  }));

export const seenServices = async (node: NodeClient): Promise<readonly SeenService[] | undefined> =>
  (await node.read<readonly ServiceResource[]>("/services"))?.map(
    ({ id, name, network_id: network = "", addresses = [], sandbox_id: sandbox }) => ({
      id,
      name,
      network,
      addresses,
      ...(sandbox !== undefined && { sandbox }),
    }),
  );

export const seenSandboxes = async (node: NodeClient): Promise<readonly string[] | undefined> =>
  (await node.read<readonly SandboxResource[]>("/sandboxes"))?.map(({ id }) => id);
