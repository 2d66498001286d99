import type { EndpointRecord } from "./records.ts";
import type { RecordChanges, State } from "./state.ts";

/** Endpoints of a network by address and MAC: misses come in thousands, and a network may have tens of thousands of endpoints. */
export class PeerIndex {
  readonly #state: State;
  readonly #ids = new Map<string, string>();

  constructor(state: State, network: string) {
    this.#state = state;
    for (const endpoint of state.endpointsOf(network)) this.#put(endpoint);
  }

  update(changes: RecordChanges["endpoints"]): void {
    for (const { before } of changes) {
      // Another endpoint may have the address by now.
      for (const key of keysOf(before)) if (this.#ids.get(key) === before?.id) this.#ids.delete(key);
    }
    for (const { after } of changes) if (after) this.#put(after);
  }

  #put(endpoint: EndpointRecord): void {
    for (const key of keysOf(endpoint)) this.#ids.set(key, endpoint.id);
  }

  /** @param key an address without its length, or a MAC */
  find(key: string): EndpointRecord | undefined {
    const endpoint = this.#state.endpoints.get(this.#ids.get(key) ?? "");
    return keysOf(endpoint).includes(key) ? endpoint : undefined;
  }
}

const keysOf = (endpoint: EndpointRecord | undefined): readonly string[] => {
  if (!endpoint) return [];
  const addresses = endpoint.addresses.map((address) => address.slice(0, address.indexOf("/")));
  return endpoint.mac === undefined ? addresses : [...addresses, endpoint.mac];
};
