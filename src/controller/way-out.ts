import type { Options } from "../drivers/driver.ts";
import { errorText, NetworkError } from "../errors.ts";
import type { AttachmentManager } from "./attachment-manager.ts";
import type { Context } from "./context.ts";
import type { EndpointManager } from "./endpoint-manager.ts";
import type { NetworkManager } from "./network-manager.ts";
import type { EndpointRecord, NetworkRecord, SandboxRecord } from "./records.ts";

/** The network by which sandboxes reach the outside whose own networks have no way out: the original's `docker_gwbridge`. */
export interface GatewayNetwork {
  readonly name: string;
  readonly driver: string;
  readonly options: Options;
}

/**
 * Gives every sandbox that needs one a way out: an endpoint `gateway_<container>` on a local network, made with the first
 * network that has none of its own and removed with the last, as in the original.
 */
export class WayOut {
  readonly #context: Context;
  readonly #networks: NetworkManager;
  readonly #endpoints: EndpointManager;
  readonly #attachments: AttachmentManager;

  constructor(
    context: Context,
    managers: {
      readonly networks: NetworkManager;
      readonly endpoints: EndpointManager;
      readonly attachments: AttachmentManager;
    },
  ) {
    this.#context = context;
    this.#networks = managers.networks;
    this.#endpoints = managers.endpoints;
    this.#attachments = managers.attachments;
  }

  /** Makes a sandbox's way out match its networks. Call it when they have changed, holding none of its locks. */
  async adjust(sandboxId: string): Promise<void> {
    if (!this.#context.gateway) return;
    // Sorts before every lock that the steps take.
    await this.#context.locks.hold([`adjust:${sandboxId}`], async () => {
      const sandbox = this.#context.state.sandboxes.get(sandboxId);
      if (!sandbox) return;
      const present = this.#gatewayEndpoint(sandbox);
      const needed = this.#isNeeded(sandbox);
      try {
        if (needed && !(present?.sandbox?.id === sandboxId)) await this.#give(sandbox, present);
        else if (!needed && present) await this.#endpoints.delete(present.id, true);
      } catch (error) {
        // Removed meanwhile, with its way out: whoever changed its networks before that has done so.
        if (this.#context.state.sandboxes.has(sandboxId)) throw error;
      }
    });
  }

  /** The same for every sandbox, and endpoints that a crash left without one go. */
  async adjustAll(): Promise<void> {
    const { state, log } = this.#context;
    const network = this.#network();
    for (const endpoint of network ? state.endpointsOf(network.id) : []) {
      const wanted = [...state.sandboxes.values()].some((sandbox) => endpointName(sandbox) === endpoint.name);
      if (!endpoint.name.startsWith(prefix) || endpoint.sandbox || wanted) continue;
      log("info", `found endpoint ${endpoint.name} of a container that is gone, expected none: removed`);
      await this.#endpoints.delete(endpoint.id, false);
    }
    for (const { id, container } of [...state.sandboxes.values()]) {
      try {
        await this.adjust(id);
      } catch (error) {
        log("error", `could not restore the way out of container ${container}: ${errorText(error)}`);
      }
    }
  }

  #isNeeded(sandbox: SandboxRecord): boolean {
    if (sandbox.host) return false;
    const networks = this.#context.state.endpointsIn(sandbox.id).flatMap((endpoint) => {
      const network = this.#context.state.networks.get(endpoint.network);
      const driver = this.#context.drivers.get(network?.driver ?? "");
      return network && driver && !network.internal && network.id !== this.#network()?.id ? [driver] : [];
    });
    return (
      networks.some(({ usesIpam, hasWayOut }) => usesIpam && !hasWayOut) && !networks.some(({ hasWayOut }) => hasWayOut)
    );
  }

  async #give(sandbox: SandboxRecord, present: EndpointRecord | undefined): Promise<void> {
    const network = this.#network() ?? (await this.#make());
    const name = endpointName(sandbox);
    const endpoint = present ?? (await this.#endpoints.create(network.id, { name }));
    try {
      await this.#attachments.attach(endpoint.id, sandbox.id);
    } catch (error) {
      await this.#endpoints.delete(endpoint.id, true);
      throw error;
    }
  }

  #network(): NetworkRecord | undefined {
    const found = this.#context.state.networkNamed(this.#context.gateway?.name ?? "");
    return found?.scope === "local" ? found : undefined;
  }

  async #make(): Promise<NetworkRecord> {
    const { gateway, state } = this.#context;
    if (!gateway) throw new Error("no gateway network is configured");
    try {
      return await this.#networks.create(gateway);
    } catch (error) {
      // Two sandboxes at once: the other was first.
      const made = this.#network();
      if (made && error instanceof NetworkError && error.code === "network-exists") return made;
      if (state.networkNamed(gateway.name)) {
        this.#context.log("error", `network ${gateway.name} is not a local one: no sandbox gets a way out by it`);
      }
      throw error;
    }
  }

  #gatewayEndpoint(sandbox: SandboxRecord): EndpointRecord | undefined {
    const network = this.#network();
    return network && this.#context.state.endpointNamed(network.id, endpointName(sandbox));
  }
}

const prefix = "gateway_";

/** A name's part between dots has at most 63 characters (RFC 1035 2.3.4); a container's id may have more. */
const endpointName = ({ container, id }: SandboxRecord): string => {
  const name = `${prefix}${container}`;
  return name.length <= 63 ? name : `${name.slice(0, 50).replaceAll(".", "-")}_${id.slice(0, 12)}`;
};
