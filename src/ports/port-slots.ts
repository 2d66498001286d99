import type { Ip } from "../net/ip.ts";
import type { PortRequest, PublishedPort } from "./port-mapping.ts";
import type { PortSlot } from "./port-sockets.ts";

const keyOf = (protocol: string, hostAddress: Ip | undefined, port: number): string =>
  `${protocol} ${hostAddress ?? ""} ${port}`;

/**
 * The ports to be held for what was asked: a range of as many host ports as container ports goes one to one, of others one
 * port is chosen. What was chosen before is chosen again where it is free.
 * @param standard the address of requests without one; undefined: every address
 * @param before what was given the last time
 */
export const portSlots = (
  requests: readonly PortRequest[],
  standard: Ip | undefined,
  before: readonly PublishedPort[],
): readonly PortSlot[] => {
  const chosen = new Map<string, number[]>();
  for (const { protocol, hostAddress, port, hostPort, count } of before) {
    for (let n = 0; n < count; n++) {
      const key = keyOf(protocol, hostAddress, port + n);
      chosen.set(key, [...(chosen.get(key) ?? []), hostPort + n]);
    }
  }
  return requests.flatMap(({ protocol, port, count, hostPort, hostPortEnd = hostPort, ...request }): PortSlot[] => {
    const hostAddress = request.hostAddress ?? standard;
    const common = { protocol, ...(hostAddress !== undefined && { hostAddress }) };
    const known = (at: number): number[] => chosen.get(keyOf(protocol, hostAddress, at)) ?? [];
    if (hostPort === undefined || hostPortEnd === undefined) {
      return Array.from({ length: count }, (_, n) => {
        const again = known(port + n).shift();
        return {
          ...common,
          port: port + n,
          hostPort: again ?? 0,
          ...(again !== undefined && { otherwise: [0, 0] as const }),
        };
      });
    }
    if (count === 1 && hostPortEnd > hostPort) {
      const again = known(port).find((given) => given >= hostPort && given <= hostPortEnd);
      return [{ ...common, port, hostPort: again ?? hostPort, otherwise: [hostPort, hostPortEnd] }];
    }
    return Array.from({ length: count }, (_, n) => ({ ...common, port: port + n, hostPort: hostPort + n }));
  });
};

/** The slots of ports that were given already. */
export const slotsOf = (ports: readonly PublishedPort[]): readonly PortSlot[] =>
  ports.flatMap(({ protocol, hostAddress, hostPort, port, count }) =>
    Array.from({ length: count }, (_, n) => ({
      protocol,
      ...(hostAddress !== undefined && { hostAddress }),
      hostPort: hostPort + n,
      port: port + n,
    })),
  );
