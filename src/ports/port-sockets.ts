import { closeSync } from "node:fs";
import type { Kernel, OpenedSocket, SocketRequest } from "../linux/kernel.ts";
import { hostNamespace } from "../linux/plan.ts";
import { type Ip, parseIp } from "../net/ip.ts";
import { joinRuns, type PortProtocol, type PublishedPort } from "./port-mapping.ts";
import { RelayLimits } from "./relay-limits.ts";
import { isLoopback, type RelayTarget } from "./relay-target.ts";
import { TcpRelay } from "./tcp-relay.ts";
import { UdpRelay } from "./udp-relay.ts";

/** One port to be held. */
export interface PortSlot {
  readonly protocol: PortProtocol;
  /** Absent: every address, both families. */
  readonly hostAddress?: Ip;
  /** 0: one of the host's ephemeral ports. */
  readonly hostPort: number;
  /** First and last port to try where `hostPort` is taken. */
  readonly otherwise?: readonly [number, number];
  readonly port: number;
}

/** Ports of the host that are ours until they are closed. */
export interface HeldPorts {
  /** What was given, in the order of the slots, runs joined. */
  readonly ports: readonly PublishedPort[];
  /** Leads clients on the loopback to another address from now on. */
  retarget(target: RelayTarget): void;
  close(): Promise<void>;
}

/** Takes ports of the host so that no other program can, all or none. */
export interface PortSockets {
  /** @throws NetworkError `port-in-use`, `no-host-address`, `no-protocol`, `too-many-files` */
  hold(slots: readonly PortSlot[], target: RelayTarget, signal?: AbortSignal): Promise<HeldPorts>;
}

const everyAddress = parseIp("::");

/** True where clients on the loopback come to the socket itself. */
export const isRelayed = (address: Ip | undefined): boolean =>
  address === undefined || address === "::" || address === "0.0.0.0" || isLoopback(address);

const socketRequest = ({ protocol, hostAddress, hostPort, otherwise }: PortSlot): SocketRequest => ({
  protocol,
  address: hostAddress ?? everyAddress,
  port: hostPort,
  hold: {
    ...(hostAddress === undefined && { bothFamilies: true }),
    ...(isRelayed(hostAddress) && { listen: true }),
    ...(otherwise && { otherwise }),
  },
});

type Closer = () => Promise<void>;

/** The host's ports by sockets of this process, with relays for clients on the loopback on the very same sockets. */
export class KernelPortSockets implements PortSockets {
  readonly #kernel: Kernel;
  readonly #connections = new RelayLimits(4096);
  /** Apart from connections: whoever sends datagrams has them for a while. */
  readonly #clients = new RelayLimits(1024);

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  async hold(slots: readonly PortSlot[], target: RelayTarget, signal?: AbortSignal): Promise<HeldPorts> {
    const opened = await this.#kernel.openSockets(hostNamespace, slots.map(socketRequest), signal);
    const current: RelayTarget = { ...target };
    const closers: Closer[] = [];
    const udp: UdpRelay[] = [];
    try {
      for (const [n, slot] of slots.entries()) {
        const socket = opened[n];
        if (socket) closers.push(await this.#serve(slot, socket, current, udp));
      }
    } catch (error) {
      await Promise.all(closers.map((close) => close()));
      for (const { fd } of opened.slice(closers.length)) closeSync(fd);
      throw error;
    }
    return {
      ports: joinRuns(
        slots.map(({ protocol, hostAddress, port }, n) => ({
          protocol,
          ...(hostAddress !== undefined && { hostAddress }),
          hostPort: opened[n]?.port ?? 0,
          port,
          count: 1,
        })),
      ),
      retarget: (next) => {
        Object.assign(current, next);
        for (const relay of udp) relay.retarget();
      },
      close: async () => {
        await Promise.all(closers.splice(0).map((close) => close()));
      },
    };
  }

  async #serve(
    slot: PortSlot,
    { fd, family = 6 }: OpenedSocket,
    target: RelayTarget,
    udp: UdpRelay[],
  ): Promise<Closer> {
    if (slot.protocol === "sctp" || !isRelayed(slot.hostAddress)) return async () => closeSync(fd);
    if (slot.protocol === "tcp") {
      const relay = new TcpRelay(fd, target, slot.port, this.#connections);
      return () => relay.close();
    }
    const relay = await UdpRelay.open(fd, family, target, slot.port, this.#clients);
    udp.push(relay);
    return () => relay.close();
  }
}
