import type { PortForward } from "../linux/firewall-ports.ts";
import { type FlowMatch, hostNamespace, type Operation } from "../linux/plan.ts";
import { type Family, familyOf, type Ip } from "../net/ip.ts";
import type { Prefix } from "../net/prefix.ts";
import { isWildcard, type PublishedPort } from "../ports/port-mapping.ts";
import { isLoopback, type RelayTarget } from "../ports/relay-target.ts";

/** What follows from published ports and the endpoints they lead to: pure. */

/** Where the ports of a sandbox lead, of one family. */
export interface PortTarget {
  readonly address: Ip;
  /** The endpoint's network: neighbours in it are answered past the host. */
  readonly subnet: Prefix;
}

/** The endpoints that carry a sandbox's ports: those of its default routes, where their driver lets the host's NAT in. */
export interface PortTargets {
  readonly 4?: PortTarget;
  readonly 6?: PortTarget;
  /** The network's default for ports published without an address. */
  readonly hostAddress?: Ip;
}

/** For clients on the loopback. */
export const relayTarget = (targets: PortTargets): RelayTarget => ({
  address4: targets[4]?.address,
  address6: targets[6]?.address,
});

/** Forwarding by NAT; clients on the loopback are served by the sockets that hold the ports. */
export const portForwards = (ports: readonly PublishedPort[], targets: PortTargets): readonly PortForward[] =>
  ([4, 6] as const).flatMap((family: Family) => {
    const target = targets[family];
    if (!target) return [];
    return ports.flatMap(({ hostAddress, ...port }): PortForward[] => {
      if (hostAddress !== undefined && (familyOf(hostAddress) !== family || isLoopback(hostAddress))) return [];
      const one = hostAddress !== undefined && !isWildcard(hostAddress);
      return [{ ...port, ...(one && { hostAddress }), to: target.address, subnet: target.subnet }];
    });
  });

const flowsOf = (forwards: readonly PortForward[], stay: boolean): readonly FlowMatch[] =>
  forwards.map(({ protocol, hostAddress, hostPort, count, to, port }) => ({
    protocol,
    family: familyOf(to),
    ...(hostAddress !== undefined && { address: hostAddress }),
    port: hostPort,
    count,
    ...(stay && { unless: { address: to, port } }),
  }));

/** Connection tracking forgets what came to these ports, or only what does not lead where they lead. */
export const flowFlush = (change: {
  readonly all?: readonly PortForward[];
  readonly wrong?: readonly PortForward[];
}): readonly Operation[] => {
  const flows = [...flowsOf(change.all ?? [], false), ...flowsOf(change.wrong ?? [], true)];
  return flows.length === 0 ? [] : [{ op: "conntrack.flush", namespace: hostNamespace, flows }];
};
