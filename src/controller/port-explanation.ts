import type { PortExplanation } from "../linux/firewall-explain.ts";
import { explainForward, forwardElements } from "../linux/firewall-ports.ts";
import { familyOf } from "../net/ip.ts";
import { isWildcard, type PublishedPort } from "../ports/port-mapping.ts";
import { isRelayed } from "../ports/port-sockets.ts";
import { publishedText } from "../ports/port-text.ts";
import { isLoopback } from "../ports/relay-target.ts";
import { type PortTargets, portForwards, reachablePorts } from "./port-forwards.ts";

/** A run of ports that is published, and where it leads. */
export interface ExplainedRun {
  readonly container: string;
  readonly run: PublishedPort;
  readonly targets: PortTargets;
  /** False where another program has the port: NAT goes on, and nobody serves the loopback. */
  readonly held: boolean;
}

/** What happens to a packet that is sent to one port of the host that these runs have, for people. */
export const explainPublished = (hostPort: number, runs: readonly ExplainedRun[]): PortExplanation => {
  const found = runs.map((each) => explainOne(hostPort, each));
  return {
    summary: found.flatMap(({ summary }) => summary),
    elements: unique(found.flatMap(({ elements }) => elements)),
    rules: unique(found.flatMap(({ rules }) => rules)),
    translated: found.some(({ translated }) => translated),
    routed: found.some(({ routed }) => routed),
  };
};

/** Both families share some. */
const unique = <T>(all: readonly T[]): readonly T[] => [
  ...new Map(all.map((each) => [JSON.stringify(each), each])).values(),
];

const explainOne = (hostPort: number, { container, run, targets, held }: ExplainedRun): PortExplanation => {
  const { hostAddress, protocol } = run;
  const port = run.port + hostPort - run.hostPort;
  // A run that keeps its numbers is one element of a set, any other has one for each port.
  const forwards = portForwards([run.hostPort === run.port ? run : { ...run, hostPort, port, count: 1 }], targets);
  const reachable = reachablePorts([run], targets);
  const relayed = isRelayed(hostAddress) && protocol !== "sctp";
  const families = [targets[4]?.address, targets[6]?.address].flatMap((address) => address ?? []);
  const to = hostAddress === undefined || isLoopback(hostAddress) ? families : forwards.map((forward) => forward.to);
  const where = hostAddress === undefined ? "every address of this host" : wildcardText(hostAddress);
  const outside =
    forwards.length > 0
      ? "clients outside and in containers are led on by NAT, and seen with their own addresses; those in the same network with the host's address on it"
      : "programs of this host only: nobody else's packets are led on";
  return {
    summary: [
      `port ${hostPort}/${protocol} of ${where} leads to container ${container}, port ${port} of ${to.join(" and ")}`,
      outside,
      ...(relayed && held
        ? ["clients on the loopback are served by the daemon, and seen with the host's address"]
        : []),
      ...(held
        ? []
        : ["the daemon does not hold the port: clients on the loopback are not led on, and others may take it"]),
      ...(reachable.length > 0
        ? ["the network is routed: the port is reached at the container's own address, too"]
        : []),
    ],
    elements: forwards.flatMap(forwardElements),
    rules: [
      ...forwards.flatMap((forward) => explainForward(forward, port, `container ${container}`)),
      ...(relayed && held
        ? [
            {
              chain: "relay",
              rule: `the daemon listens: ${publishedText(run)}`,
              reason: `it serves clients on the loopback itself, and leads them to container ${container}`,
            },
          ]
        : []),
    ],
    translated: forwards.length > 0,
    routed: reachable.length > 0,
  };
};

const wildcardText = (address: NonNullable<PublishedPort["hostAddress"]>): string =>
  isWildcard(address) ? `every IPv${familyOf(address)} address of this host` : address;
