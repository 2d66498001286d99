import { bridgeDriver } from "../src/drivers/bridge/bridge-driver.ts";
import type { DriverNetwork } from "../src/drivers/driver.ts";
import { Executor } from "../src/linux/executor.ts";
import { firewallAdd, firewallRemove, firewallRuleset } from "../src/linux/firewall.ts";
import { Namespaces } from "../src/linux/namespaces.ts";
import { closeNft } from "../src/linux/nft.ts";
import { hostNamespace, type Operation, type Plan, plan } from "../src/linux/plan.ts";
import { parseIp } from "../src/net/ip.ts";
import { parseMac } from "../src/net/mac.ts";
import { parseInterfaceAddress, parsePrefix } from "../src/net/prefix.ts";
import type { Figures } from "./figures.ts";

/** What the nth (from 0) of many attachments is counted under. */
export const hundred = (n: number): string =>
  `attach ${Math.floor(n / 100) * 100 + 1}-${Math.floor(n / 100) * 100 + 100}`;

/** A bridge network as the driver would be asked for it. */
const networkOf = (digit: string, subnet: string): DriverNetwork => {
  const id = digit.repeat(64);
  const pool = parsePrefix(`${subnet}.0.0/16`);
  const subnets = [{ pool, gateway: parseInterfaceAddress(`${subnet}.0.1/16`) }];
  return { id, name: "floor", mark: `dnet:floor:${id}`, internal: false, ipv6: false, options: {}, subnets };
};

const table = "dnet_floor";

/**
 * The floor: the kernel operations of a cycle by bare netlink from this thread, no daemon, store or names. One nft transaction a
 * network, as the daemon has it.
 */
export class Floor {
  readonly #figures: Figures;
  readonly #namespaces = new Namespaces();
  readonly #executor = new Executor(this.#namespaces);
  readonly #driver = bridgeDriver();
  readonly #network = networkOf("f", "10.200");
  readonly #lasting = this.#plans(this.#network);
  readonly #passing = this.#plans(networkOf("e", "10.201"));

  constructor(figures: Figures) {
    this.#figures = figures;
    this.#apply(plan({ op: "nft.apply", namespace: hostNamespace, script: firewallRuleset(table, []) }));
    this.#apply(this.#lasting.make);
  }

  #apply(work: Plan): void {
    const { errors } = this.#executor.apply(work);
    if (errors[0]) throw errors[0];
  }

  #plans(network: DriverNetwork): { readonly make: Plan; readonly remove: Plan } {
    const rules = this.#driver.firewall(network);
    if (!rules) throw new Error("no rules");
    const batch = (script: string): Operation => ({ op: "nft.apply", namespace: hostNamespace, script });
    return {
      make: plan(batch(firewallAdd(table, rules)), this.#driver.createNetwork(network)),
      remove: plan(this.#driver.deleteNetwork(network), batch(firewallRemove(table, rules))),
    };
  }

  /** A network, made and removed. */
  async network(): Promise<void> {
    const began = performance.now();
    await this.#figures.time("network create", () => this.#apply(this.#passing.make));
    await this.#figures.time("network delete", () => this.#apply(this.#passing.remove));
    this.#figures.add("network create+delete", performance.now() - began);
  }

  #wiring(n: number) {
    const path = `/run/docker/netns/floor${n}`;
    const endpoint = {
      id: n.toString(16).padStart(64, "0").split("").reverse().join(""),
      name: "e",
      mark: "dnet:floor:e",
      addresses: [parseInterfaceAddress(`10.200.${n >> 8}.${n & 255}/16`)],
      mac: parseMac("02:42:0a:c8:00:02"),
      options: {},
    };
    const { attach, detach } = this.#driver.attach(this.#network, endpoint, {
      id: this.#network.id,
      namespace: path,
      interfaceName: "eth0",
    });
    const sandbox: readonly Operation[] = [
      { op: "namespace.add", path },
      { op: "sysctl.set", namespace: path, key: "net/ipv6/conf/default/disable_ipv6", value: "1" },
    ];
    const route: Operation = {
      op: "route.add",
      namespace: path,
      route: { to: parsePrefix("0.0.0.0/0"), via: parseIp("10.200.0.1"), device: "eth0" },
    };
    return { path, sandbox, attach: plan(attach, route), detach };
  }

  /** A sandbox, made, attached, detached and removed. */
  async cycle(n: number): Promise<void> {
    const { path, sandbox, attach, detach } = this.#wiring(2 + (n % 10));
    const began = performance.now();
    await this.#figures.time("sandbox create", () => this.#apply(plan(...sandbox)));
    await this.#figures.time("attach", () => this.#apply(attach));
    await this.#figures.time("detach", () => this.#apply(detach));
    await this.#figures.time("sandbox delete", () => this.#apply(plan({ op: "namespace.delete", path })));
    this.#figures.add("whole cycle", performance.now() - began);
  }

  /** So many sandboxes kept up at once: the kernel's own work for one more port of a bridge grows with those that it has. */
  async keep(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const { sandbox, attach } = this.#wiring(2 + n);
      this.#apply(plan(...sandbox));
      await this.#figures.time(hundred(n), () => this.#apply(attach));
    }
    for (let n = 0; n < count; n++) this.#apply(plan({ op: "namespace.delete", path: this.#wiring(2 + n).path }));
  }

  close(): void {
    this.#apply(this.#lasting.remove);
    this.#apply(plan({ op: "nft.apply", namespace: hostNamespace, script: `delete table inet ${table}\n` }));
    closeNft();
    this.#namespaces.close();
  }
}
