import { hostNamespace } from "../../linux/plan.ts";
import { familyOf } from "../../net/ip.ts";
import { addressOf } from "../../net/prefix.ts";
import type { Check, Finding } from "./check.ts";
import { offloadFindings } from "./offload.ts";

/** What VXLAN adds to a packet (RFC 7348 section 5), by family of the underlay. */
const overhead = { 4: 50, 6: 70 } as const;

/** The way between the hosts as it is now, against what the networks on it were made for. */
export const underlayCheck: Check = {
  name: "underlay",
  async run({ context: { kernel, host }, presence, probe, signal }) {
    if (!host) return [];
    const networks = presence.networks();
    if (networks.length === 0) return [];
    const own = await kernel.observe(hostNamespace, signal);
    const device = own?.links.find(({ addresses }) => addresses.some((address) => addressOf(address) === host.vtep));
    if (!device) {
      return [
        {
          code: "no-vtep",
          subject: "host",
          what: `no interface has the address ${host.vtep}`,
          expected: "the address at which other hosts reach this one",
          consequence: "packets between containers of this host and of others are lost",
          remedy: "give the address back, or set [cluster] address to one that this host has and start the daemon anew",
          repairable: false,
        },
      ];
    }
    const offload = await offloadFindings(probe, device.name, signal);
    const mtu = networks.flatMap((network): readonly Finding[] => {
      const mtus = presence
        .plan(network)
        .flatMap((operation) =>
          operation.op === "link.add" && operation.link.kind === "vxlan" ? (operation.link.mtu ?? []) : [],
        );
      const needed = Math.max(0, ...mtus) + overhead[familyOf(host.vtep)];
      if (device.name === "lo" || needed <= device.mtu) return [];
      return [
        {
          code: "mtu-too-large",
          subject: `network ${network.name}`,
          what: `${device.name} carries packets of ${device.mtu} bytes`,
          expected: `${needed}, for the network's MTU of ${needed - overhead[familyOf(host.vtep)]} and VXLAN's ${overhead[familyOf(host.vtep)]}`,
          consequence: "large packets to containers on other hosts are lost, small ones arrive: connections hang",
          remedy: `ip link set dev ${device.name} mtu ${needed}, or make the network with the option com.docker.network.driver.mtu`,
          repairable: false,
        },
      ];
    });
    return [...mtu, ...offload];
  },
};
