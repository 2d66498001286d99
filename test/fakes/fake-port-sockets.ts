import { forbidden } from "../../src/errors.ts";
import { joinRuns, type PublishedPort } from "../../src/ports/port-mapping.ts";
import type { HeldPorts, PortSlot, PortSockets } from "../../src/ports/port-sockets.ts";
import type { RelayTarget } from "../../src/ports/relay-target.ts";

/** Ports of a host that exist in memory. */
export class FakePortSockets implements PortSockets {
  /** `tcp 8080` and who has it; tests put other programs in. */
  readonly taken = new Map<string, string>();
  /** Targets by the first port held, as clients on the loopback would reach them. */
  readonly targets = new Map<number, RelayTarget>();
  /** Called before every hold; what it throws, the hold fails with. */
  fault: () => void = () => undefined;
  #ephemeral = 40_000;

  async hold(slots: readonly PortSlot[], target: RelayTarget): Promise<HeldPorts> {
    this.fault();
    const given: PublishedPort[] = [];
    try {
      for (const slot of slots) given.push(this.#take(slot));
    } catch (error) {
      this.#free(given);
      throw error;
    }
    const first = given[0]?.hostPort ?? 0;
    this.targets.set(first, target);
    return {
      ports: joinRuns(given),
      retarget: (next) => void this.targets.set(first, next),
      close: async () => {
        this.targets.delete(first);
        this.#free(given);
      },
    };
  }

  #take({ protocol, hostAddress, hostPort, otherwise, port }: PortSlot): PublishedPort {
    const [from, to] = otherwise ?? [1, 0];
    const range = Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n);
    for (const wanted of [hostPort, ...range]) {
      const number = wanted === 0 ? this.#ephemeral++ : wanted;
      const key = `${protocol} ${number}`;
      if (this.taken.has(key)) continue;
      this.taken.set(key, "dnet");
      return { protocol, ...(hostAddress !== undefined && { hostAddress }), hostPort: number, port, count: 1 };
    }
    throw forbidden("port-in-use", `failed to bind host port ${hostPort}/${protocol}: address already in use`, {
      errno: 98,
    });
  }

  #free(ports: readonly PublishedPort[]): void {
    for (const { protocol, hostPort } of ports) this.taken.delete(`${protocol} ${hostPort}`);
  }
}
