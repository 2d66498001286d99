import type { NetworkResource, SandboxResource, ServiceResource } from "../../src/api/resources.ts";
import { actAtRandom } from "./act-at-random.ts";
import type { NodeClient } from "./node-client.ts";
import type { Random } from "./random.ts";

const weights = {
  "create-network": 2,
  "remove-network": 1,
  publish: 5,
  unpublish: 2,
  attach: 6,
  detach: 2,
  "create-sandbox": 4,
  "remove-sandbox": 3,
} as const;
const networks = 3;
const containers = 6;
/** Host ports that are asked for; few, so that they are taken now and then. */
const firstPort = 20_000;
const ports = 8;

/** A client of one node that makes and removes bridge networks, and sandboxes with published ports on them. */
export class LocalWorker {
  readonly #node: NodeClient;
  readonly #random: Random;
  /** Changes that were acknowledged, of which attachments. */
  acknowledged = 0;
  attached = 0;

  constructor(node: NodeClient, random: Random) {
    this.#node = node;
    this.#random = random;
  }

  run(signal: AbortSignal): Promise<void> {
    return actAtRandom(this.#random, () => this.#step(), signal);
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const node = this.#node;
    const bridges = (await node.read<readonly NetworkResource[]>("/networks"))?.filter(({ type }) => type === "bridge");
    const services = await node.read<readonly ServiceResource[]>("/services");
    const sandboxes = await node.read<readonly SandboxResource[]>("/sandboxes");
    if (!bridges || !services || !sandboxes) return;
    const local = services.filter(({ network_id }) => bridges.some(({ id }) => id === network_id));
    const network = random.pick(bridges.filter(({ name }) => name !== "bridge"));
    const service = random.pick(local);
    const sandbox = random.pick(sandboxes);
    switch (random.weighted(weights)) {
      case "create-network":
        return this.#act("POST", "/networks", { name: `lan-${random.below(networks)}`, network_type: "bridge" });
      case "remove-network":
        return network && this.#act("DELETE", `/networks/${network.id}`);
      case "publish":
        return (
          network && this.#act("POST", `/networks/${network.id}/endpoints`, { name: `l${random.below(containers)}` })
        );
      case "unpublish":
        return service && this.#act("DELETE", `/services/${service.id}`, {});
      case "attach": {
        if (!service || !sandbox) return;
        const before = this.acknowledged;
        await this.#act("POST", `/services/${service.id}/backend`, { sandbox_id: sandbox.id });
        this.attached += this.acknowledged - before;
        return;
      }
      case "detach": {
        const pair = random.pick(local.filter(({ sandbox_id }) => sandbox_id !== undefined));
        return pair && this.#act("DELETE", `/services/${pair.id}/backend/${pair.sandbox_id}`);
      }
      case "create-sandbox":
        return this.#act("POST", "/sandboxes", {
          container_id: `l-${node.name}-${random.below(containers)}`,
          port_mapping: Array.from({ length: random.below(4) }, (_, n) => ({
            ...{ Proto: n % 2 ? 17 : 6, Port: 80 + n },
            // Now and then the host chooses.
            HostPort: random.below(3) === 0 ? 0 : firstPort + random.below(ports),
          })),
        });
      case "remove-sandbox":
        return sandbox && this.#act("DELETE", `/sandboxes/${sandbox.id}`);
    }
  }

  async #act(method: string, path: string, body?: unknown): Promise<void> {
    const { outcome } = await this.#node.call(method, path, body);
    if (outcome === "ok") this.acknowledged++;
  }
}
