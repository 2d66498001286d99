import { badRequest, forbidden, internal } from "../errors.ts";
import { type Plan, plan } from "../linux/plan.ts";
import { familyOf, type Ip } from "../net/ip.ts";
import { macFromIp } from "../net/mac.ts";
import { addressOf, type InterfaceAddress, prefixContains, prefixFamily } from "../net/prefix.ts";
import { type Context, driverOf, requireEndpoint, requireNetwork, requireSandbox } from "./context.ts";
import type { CreateEndpoint } from "./model.ts";
import { checkServiceName, newId } from "./names.ts";
import { type EndpointRecord, keys, type NetworkRecord, type SandboxRecord } from "./records.ts";
import { attachPlan, detachPlan, joinPorts, leavePorts } from "./wiring.ts";

/** How often a decision is made anew when another node changed the store first. */
const attempts = 64;

/** Life cycle of endpoints: published with name and addresses in one transaction, claimed by one sandbox in another. */
export class EndpointManager {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  async create(networkId: string, request: CreateEndpoint, signal?: AbortSignal): Promise<EndpointRecord> {
    const { state, locks } = this.#context;
    const name = checkServiceName(request.name);
    for (const alias of request.aliases ?? []) checkServiceName(alias);
    const id = newId();
    return locks.hold([`network:${networkId}`], async () => {
      for (let attempt = 0; attempt < attempts; attempt++) {
        const network = requireNetwork(this.#context, networkId);
        if (state.endpointNamed(networkId, name)) {
          throw forbidden("endpoint-exists", `endpoint with name ${name} already exists in network ${network.name}`);
        }
        const addresses = this.#chooseAddresses(network, request.addresses ?? []);
        const first = addresses[0] && addressOf(addresses[0]);
        const mac = request.mac ?? (first && macFromIp(first));
        const record: EndpointRecord = {
          version: 1,
          id,
          network: networkId,
          name,
          aliases: [...new Set(request.aliases ?? [])],
          addresses: [...addresses],
          ...(mac !== undefined && { mac }),
          options: { ...request.options },
          created: new Date().toISOString(),
        };
        const owned = addresses.map((address) => keys.address(networkId, addressOf(address)));
        const committed = await state.commit(
          network.scope,
          {
            unchanged: [
              keys.network(networkId),
              keys.endpoint(networkId, id),
              keys.endpointName(networkId, name),
              ...owned,
            ],
            puts: [
              { key: keys.endpoint(networkId, id), value: record },
              { key: keys.endpointName(networkId, name), value: { endpoint: id } },
              { key: keys.networkUse(networkId), value: { endpoint: id } },
              ...owned.map((key) => ({ key, value: { endpoint: id } })),
            ],
          },
          signal,
        );
        if (!committed) continue;
        await this.#context.naming.changed(record, undefined);
        return record;
      }
      throw internal("contention", `service ${name} could not be published: other nodes change the store too often`, {
        hint: "try again",
      });
    });
  }

  #chooseAddresses(network: NetworkRecord, requested: readonly Ip[]): readonly InterfaceAddress[] {
    if (!driverOf(this.#context, network.driver).usesIpam) {
      if (requested.length > 0)
        throw badRequest("no-addresses", `driver ${network.driver} has no addresses to choose from`);
      return [];
    }
    const outside = requested.find((ip) => !network.subnets.some(({ pool }) => prefixContains(pool, ip)));
    if (outside !== undefined) {
      throw badRequest("address-outside", `invalid address: ${outside} is in no subnet of network ${network.name}`);
    }
    const taken = this.#context.state.takenIn(network.id);
    const result: InterfaceAddress[] = [];
    for (const family of [4, 6] as const) {
      const subnets = network.subnets.filter(({ pool }) => prefixFamily(pool) === family);
      const wanted = requested.filter((ip) => familyOf(ip) === family);
      if (wanted.length > 1)
        throw badRequest("too-many-addresses", `invalid address: more than one IPv${family} address asked for`);
      let failure: unknown;
      for (const { pool, range } of subnets) {
        const address = wanted[0];
        if (address !== undefined && !prefixContains(pool, address)) continue;
        try {
          const chosen = this.#context.ipam.chooseAddress(
            { pool, ...(range && { range }), ...(address && { address }) },
            taken,
          );
          if (chosen) result.push(chosen);
          failure = undefined;
          break;
        } catch (error) {
          // The next subnet of the family may still have room.
          failure = error;
        }
      }
      if (failure !== undefined) throw failure;
    }
    return result;
  }

  async delete(id: string, force: boolean, signal?: AbortSignal): Promise<void> {
    const { state, locks } = this.#context;
    const found = requireEndpoint(this.#context, id);
    await locks.hold([`endpoint:${id}`, ...sandboxLock(found)], async () => {
      const record = requireEndpoint(this.#context, id);
      if (record.sandbox && !force) {
        throw forbidden("active-containers", `endpoint with name ${record.name} id ${id} has active containers`, {
          hint: `detach it from container ${record.sandbox.container} first, or use -f`,
        });
      }
      const sandbox = record.sandbox && state.sandboxes.get(record.sandbox.id);
      const teardown = sandbox && detachPlan(this.#context, record, this.#others(record, sandbox), sandbox);
      const network = requireNetwork(this.#context, record.network);
      await this.#commitOrFail(network, record, undefined, signal);
      await this.#context.naming.changed(undefined, record);
      if (teardown && sandbox) await this.#teardown(teardown, this.#others(record, sandbox), sandbox);
    });
  }

  async attach(
    endpointId: string,
    sandboxId: string,
    aliases: readonly string[],
    signal?: AbortSignal,
  ): Promise<SandboxRecord> {
    const checked = aliases.map(checkAlias);
    requireEndpoint(this.#context, endpointId);
    return this.#context.locks.hold([`endpoint:${endpointId}`, `sandbox:${sandboxId}`], async () => {
      const sandbox = requireSandbox(this.#context, sandboxId);
      const endpoint = requireEndpoint(this.#context, endpointId);
      const network = requireNetwork(this.#context, endpoint.network);
      this.#refuseAttach(endpoint, network, sandbox);
      const others = this.#context.state.endpointsIn(sandboxId);
      const claimed: EndpointRecord = {
        ...endpoint,
        sandbox: {
          id: sandboxId,
          container: sandbox.container,
          interface: freeInterface(others),
          order: Math.max(-1, ...others.map((other) => other.sandbox?.order ?? 0)) + 1,
          aliases: checked,
        },
      };
      const work = attachPlan(this.#context, claimed, others, sandbox);
      const ports = await joinPorts(this.#context, [...others, claimed], sandbox, signal);
      try {
        await this.#commitOrFail(network, endpoint, claimed, signal);
        try {
          await this.#context.kernel.apply(plan(work, ports.plan()), signal);
        } catch (error) {
          await this.#commitOrFail(network, claimed, endpoint);
          throw error;
        }
      } catch (error) {
        await ports.cancel();
        throw error;
      }
      await ports.settle();
      await this.#context.naming.changed(claimed, endpoint);
      return sandbox;
    });
  }

  #refuseAttach(endpoint: EndpointRecord, network: NetworkRecord, sandbox: SandboxRecord): void {
    if (endpoint.sandbox) {
      throw forbidden("endpoint-attached", "another container is attached to the same network endpoint", {
        hint: `it is container ${endpoint.sandbox.container}; publish another service for this one`,
      });
    }
    if (this.#context.state.endpointsIn(sandbox.id).some((other) => other.network === network.id)) return;
    if (sandbox.host !== (network.driver === "host")) {
      throw forbidden(
        "host-sandbox",
        sandbox.host
          ? "container sharing the host's network stack can join only the host network"
          : "only a container that shares the host's network stack can join the host network",
      );
    }
  }

  async detach(endpointId: string, sandboxId: string, signal?: AbortSignal): Promise<void> {
    requireEndpoint(this.#context, endpointId);
    requireSandbox(this.#context, sandboxId);
    await this.#context.locks.hold([`endpoint:${endpointId}`, `sandbox:${sandboxId}`], async () => {
      const sandbox = requireSandbox(this.#context, sandboxId);
      const endpoint = requireEndpoint(this.#context, endpointId);
      if (!endpoint.sandbox) throw forbidden("not-attached", "cannot leave endpoint with no attached sandbox");
      if (endpoint.sandbox.id !== sandboxId) {
        throw forbidden(
          "other-sandbox",
          `unexpected sandbox ID in leave request. Expected ${endpoint.sandbox.id}. Got ${sandboxId}`,
        );
      }
      const teardown = detachPlan(this.#context, endpoint, this.#others(endpoint, sandbox), sandbox);
      const { sandbox: _claim, ...free } = endpoint;
      await this.#commitOrFail(requireNetwork(this.#context, endpoint.network), endpoint, free, signal);
      await this.#context.naming.changed(free, endpoint);
      await this.#teardown(teardown, this.#others(endpoint, sandbox), sandbox);
    });
  }

  /** Takes an endpoint out of its sandbox; ports that it carried lead to the next one, or nowhere. */
  async #teardown(work: Plan, others: readonly EndpointRecord[], sandbox: SandboxRecord): Promise<void> {
    const ports = await leavePorts(this.#context, others, sandbox);
    try {
      await this.#context.kernel.teardown(plan(ports.plan(), work));
    } finally {
      await ports.settle();
    }
  }

  #others(endpoint: EndpointRecord, sandbox: SandboxRecord): readonly EndpointRecord[] {
    return this.#context.state.endpointsIn(sandbox.id).filter(({ id }) => id !== endpoint.id);
  }

  /** Replaces or removes an endpoint's record; refuses where another node was first. */
  async #commitOrFail(
    network: NetworkRecord,
    before: EndpointRecord,
    after: EndpointRecord | undefined,
    signal?: AbortSignal,
  ) {
    const key = keys.endpoint(before.network, before.id);
    const change = after ? { puts: [{ key, value: after }] } : { deletes: endpointKeys(before) };
    if (!(await this.#context.state.commit(network.scope, { unchanged: [key], ...change }, signal))) {
      throw forbidden("endpoint-changed", `endpoint ${before.name} was changed by another node in the meantime`, {
        hint: "look at it and try again",
      });
    }
  }
}

/** Every key that an endpoint owns. */
export const endpointKeys = (record: EndpointRecord): readonly string[] => [
  keys.endpoint(record.network, record.id),
  keys.endpointName(record.network, record.name),
  ...record.addresses.map((address) => keys.address(record.network, addressOf(address))),
];

const sandboxLock = (record: EndpointRecord): readonly string[] =>
  record.sandbox ? [`sandbox:${record.sandbox.id}`] : [];

/** `name` or `container:alias`. @throws NetworkError `invalid-alias` with the original's text and its status */
const checkAlias = (alias: string): string => {
  const parts = alias.split(":");
  if (parts.length > 2) throw internal("invalid-alias", `bad format for alias: ${alias.slice(0, 100)}`);
  for (const part of parts) checkServiceName(part);
  return alias;
};

/** `eth0` for the first network joined, then the lowest number that is free. */
const freeInterface = (others: readonly EndpointRecord[]): string => {
  const used = new Set(others.map((other) => other.sandbox?.interface));
  for (let n = 0; ; n++) if (!used.has(`eth${n}`)) return `eth${n}`;
};
