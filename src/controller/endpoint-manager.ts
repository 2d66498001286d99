import { badRequest, forbidden, internal, type NetworkError } from "../errors.ts";
import { familyOf, type Ip } from "../net/ip.ts";
import { macFromIp } from "../net/mac.ts";
import { addressOf, type InterfaceAddress, prefixContains, prefixFamily } from "../net/prefix.ts";
import type { AttachmentManager } from "./attachment-manager.ts";
import { type Context, driverOf, isHere, requireEndpoint, requireNetwork } from "./context.ts";
import { furtherFree, passOver } from "./further-free.ts";
import type { CreateEndpoint } from "./model.ts";
import { checkServiceName, newId } from "./names.ts";
import { Presence } from "./presence.ts";
import { type EndpointRecord, keys, type NetworkRecord } from "./records.ts";

/** How often a decision is made anew when another node changed the store first. */
const attempts = 64;

/** Life cycle of endpoints: published and withdrawn with name and addresses, each in one transaction. */
export class EndpointManager {
  readonly #context: Context;
  readonly #attachments: AttachmentManager;

  constructor(context: Context, attachments: AttachmentManager) {
    this.#context = context;
    this.#attachments = attachments;
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
        const addresses = this.#chooseAddresses(network, request.addresses ?? [], passOver(attempt));
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
            unchanged: [keys.network(networkId)],
            absent: [keys.endpoint(networkId, id), keys.endpointName(networkId, name), ...owned],
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

  #chooseAddresses(network: NetworkRecord, requested: readonly Ip[], skip: number): readonly InterfaceAddress[] {
    if (!driverOf(this.#context, network.driver).usesIpam) {
      if (requested.length > 0)
        throw badRequest("no-addresses", `driver ${network.driver} has no addresses to choose from`);
      return [];
    }
    const outside = requested.find((ip) => !network.subnets.some(({ pool }) => prefixContains(pool, ip)));
    if (outside !== undefined) {
      throw badRequest("address-outside", `invalid address: ${outside} is in no subnet of network ${network.name}`);
    }
    for (const ip of requested) this.#refuseTaken(network, ip);
    const taken = furtherFree(this.#context.state.takenIn(network.id), skip);
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

  /** An address stays its service's, attached or not; whoever wants it too is told whose it is. */
  #refuseTaken(network: NetworkRecord, ip: Ip): void {
    if (!this.#context.state.takenIn(network.id).has(ip)) return;
    const isIt = (address: InterfaceAddress | undefined) => address !== undefined && addressOf(address) === ip;
    const owner = this.#context.state.endpointsOf(network.id).find(({ addresses }) => addresses.some(isIt));
    const reserved = Object.entries(network.auxiliary).find(([, address]) => address === ip)?.[0];
    const whose =
      (owner && `service ${owner.name}${owner.sandbox ? ` in container ${owner.sandbox.container}` : ""} has it`) ??
      (network.subnets.some(({ gateway }) => isIt(gateway)) ? "it is the gateway" : undefined) ??
      (reserved === undefined ? "it is taken" : `it is set aside as ${reserved}`);
    throw forbidden("address-in-use", "Address already in use", {
      hint: `${ip} of network ${network.name}: ${whose}`,
    });
  }

  /** @returns what was removed; where it was attached elsewhere, this host still has to forget it as a peer */
  async delete(id: string, force: boolean, signal?: AbortSignal): Promise<EndpointRecord> {
    const { state, locks } = this.#context;
    const found = requireEndpoint(this.#context, id);
    const held = [`endpoint:${id}`, ...sandboxLock(found), Presence.lock(found.network)];
    const removed = await locks.hold(held, async () => {
      for (let attempt = 0; attempt < attempts; attempt++) {
        const record = requireEndpoint(this.#context, id);
        // Attached or detached while this waited: who takes an interface out of a sandbox holds that sandbox's lock.
        if (record.sandbox?.id !== found.sandbox?.id) return undefined;
        if (record.sandbox && !force) throw this.#inUse(record, record.sandbox);
        const network = requireNetwork(this.#context, record.network);
        const change = { unchanged: [keys.endpoint(record.network, id)], deletes: endpointKeys(record) };
        if (!(await state.commit(network.scope, change, signal))) continue;
        // A sandbox elsewhere is unwired by its own node, which follows the store.
        const sandbox = isHere(this.#context, record) ? state.sandboxes.get(record.sandbox?.id ?? "") : undefined;
        if (sandbox) await this.#attachments.unwire(record, undefined, sandbox);
        else await this.#context.naming.changed(undefined, record);
        return record;
      }
      throw internal("contention", "the service could not be removed: other nodes change it too often", {
        hint: "try again",
      });
    });
    return removed ?? this.delete(id, force, signal);
  }

  #inUse(record: EndpointRecord, { container, node }: NonNullable<EndpointRecord["sandbox"]>): NetworkError {
    const text = `endpoint with name ${record.name} id ${record.id} has active containers`;
    if (isHere(this.#context, record)) {
      return forbidden("active-containers", text, { hint: `detach it from container ${container} first, or use -f` });
    }
    return forbidden("active-containers", text, {
      hint: `detach it from container ${container} on node ${this.#context.nodeName(node)}, or use -f if that node is gone`,
    });
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
