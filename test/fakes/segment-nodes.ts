import { bridgeDriver } from "../../src/drivers/bridge/bridge-driver.ts";
import { parseIp } from "../../src/net/ip.ts";
import { MemoryStore } from "../../src/store/memory/memory-store.ts";
import { type OpenControllerOptions, type Opened, openController } from "./open-controller.ts";
import { segmentDriver } from "./segment-driver.ts";

/** Controllers with networks that span hosts, on one shared store. */

/** What `closeNodes` closes. */
export const opened: Opened[] = [];

/** For `afterEach` of each file: files share this module. */
export const closeNodes = async (): Promise<void> => {
  for (const { libnetwork } of opened.splice(0)) await libnetwork.close();
};

/** @param vtep the host's address for others; without it, it has no part in such networks */
export const node = async (
  global: MemoryStore,
  vtep: string | undefined,
  more: OpenControllerOptions = {},
): Promise<Opened> => {
  const one = await openController({
    stores: { local: new MemoryStore(), global },
    drivers: [segmentDriver(), bridgeDriver()],
    gateway: { name: "docker_gwbridge", driver: "bridge", options: {} },
    ...(vtep !== undefined && { place: { vtep: parseIp(vtep) } }),
    ...more,
  });
  opened.push(one);
  return one;
};

/** A container with one service of the same name on the network, attached. */
export const attached = async ({ libnetwork }: Opened, network: string, name: string) => {
  const sandbox = libnetwork.sandboxes().find(({ containerId }) => containerId === name);
  const { id } = sandbox ?? (await libnetwork.createSandbox({ containerId: name }));
  await libnetwork.sync();
  const endpoint = await libnetwork.createEndpoint(network, { name });
  await libnetwork.attach(endpoint.id, id);
  return { endpoint: endpoint.id, sandbox: id };
};
