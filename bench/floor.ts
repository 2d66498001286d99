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

/**
 * The floor: the kernel operations of a cycle by bare netlink from this thread, no daemon, store or names. One nft transaction a
 * network, as the daemon has it.
 */
export const measureFloor = async (figures: Figures, rounds: number): Promise<void> => {
  const namespaces = new Namespaces();
  const executor = new Executor(namespaces);
  const apply = (work: Plan) => {
    const { errors } = executor.apply(work);
    if (errors[0]) throw errors[0];
  };
  const driver = bridgeDriver();
  const id = "f".repeat(64);
  const network: DriverNetwork = {
    id,
    name: "floor",
    mark: `dnet:floor:${id}`,
    internal: false,
    ipv6: false,
    options: {},
    subnets: [{ pool: parsePrefix("10.200.0.0/16"), gateway: parseInterfaceAddress("10.200.0.1/16") }],
  };
  const table = "dnet_floor";
  const rules = driver.firewall(network);
  if (!rules) throw new Error("no rules");
  apply(plan({ op: "nft.apply", namespace: hostNamespace, script: firewallRuleset(table, []) }));
  const make = plan(
    { op: "nft.apply", namespace: hostNamespace, script: firewallAdd(table, rules) },
    driver.createNetwork(network),
  );
  const remove = plan(driver.deleteNetwork(network), {
    op: "nft.apply",
    namespace: hostNamespace,
    script: firewallRemove(table, rules),
  });
  for (let n = 0; n < Math.ceil(rounds / 4); n++) {
    const began = performance.now();
    await figures.time("network create", () => apply(make));
    await figures.time("network delete", () => apply(remove));
    figures.add("network create+delete", performance.now() - began);
  }
  apply(make);
  const wiring = (n: number) => {
    const path = `/run/docker/netns/floor${n}`;
    const endpoint = {
      id: n.toString(16).padStart(64, "0").split("").reverse().join(""),
      name: "e",
      mark: "dnet:floor:e",
      addresses: [parseInterfaceAddress(`10.200.${n >> 8}.${n & 255}/16`)],
      mac: parseMac("02:42:0a:c8:00:02"),
      options: {},
    };
    const { attach, detach } = driver.attach(network, endpoint, { id, namespace: path, interfaceName: "eth0" });
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
  };
  for (let n = 0; n < rounds; n++) {
    const { path, sandbox, attach, detach } = wiring(2 + (n % 10));
    const began = performance.now();
    await figures.time("sandbox create", () => apply(plan(...sandbox)));
    await figures.time("attach", () => apply(attach));
    await figures.time("detach", () => apply(detach));
    await figures.time("sandbox delete", () => apply(plan({ op: "namespace.delete", path })));
    figures.add("whole cycle", performance.now() - began);
  }
  // The kernel's own work for one more port of a bridge grows with those that it has.
  for (let n = 0; n < 1000; n++) {
    const { sandbox, attach } = wiring(2 + n);
    apply(plan(...sandbox));
    await figures.time(hundred(n), () => apply(attach));
  }
  for (let n = 0; n < 1000; n++) apply(plan({ op: "namespace.delete", path: wiring(2 + n).path }));
  apply(remove);
  apply(plan({ op: "nft.apply", namespace: hostNamespace, script: `delete table inet ${table}\n` }));
  closeNft();
  namespaces.close();
};
