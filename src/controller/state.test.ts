import { expect, it } from "vitest";
import { SparseAddressSet } from "../ipam/default/sparse-address-set.ts";
import { parseIp } from "../net/ip.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import type { Json, StoreEntry } from "../store/store.ts";
import { keys } from "./records.ts";
import { State } from "./state.ts";

const network = "a".repeat(64);
const idOf = (letter: string) => letter.repeat(64);
const endpoint = (letter: string, version: number): StoreEntry => {
  const value: Json = {
    version: 1,
    id: idOf(letter),
    network,
    name: "web",
    aliases: [],
    addresses: ["10.0.0.2/24"],
    options: {},
    created: "2026-01-01T00:00:00.000Z",
  };
  return { key: `global/${keys.endpoint(network, idOf(letter))}`, value, version };
};
const open = (global = new MemoryStore()) =>
  new State({ stores: { local: new MemoryStore(), global }, newAddressSet: () => new SparseAddressSet() });

it("a name and an address stay taken when the older of two that have them goes", () => {
  const state = open();
  // The newer one is known from a change of one's own; a list that was made before that brings the older one back, and the watch
  // goes on from there.
  state.absorb("global", { kind: "change", version: 5, puts: [endpoint("d", 5)], deletes: [] });
  state.absorb("global", { kind: "change", version: 6, puts: [endpoint("c", 2)], deletes: [] });
  state.absorb("global", { kind: "change", version: 7, puts: [], deletes: [endpoint("c", 2).key] });
  expect(state.endpointNamed(network, "web")?.id).toBe(idOf("d"));
  expect(state.takenIn(network).has(parseIp("10.0.0.2"))).toBe(true);
  state.absorb("global", { kind: "change", version: 8, puts: [], deletes: [endpoint("d", 5).key] });
  expect(state.endpointNamed(network, "web")).toBeUndefined();
  expect(state.takenIn(network).has(parseIp("10.0.0.2"))).toBe(false);
});

it("what must not exist must not exist in the store, whatever is known here", async () => {
  const global = new MemoryStore();
  const state = open(global);
  const key = keys.address(network, parseIp("10.0.0.2"));
  const { version } = (await global.transact({ puts: [{ key: `global/${key}`, value: {} }] })) as { version: number };
  state.absorb("global", {
    kind: "change",
    version,
    puts: [{ key: `global/${key}`, value: {}, version }],
    deletes: [],
  });
  const puts = [{ key, value: { endpoint: idOf("d") } }];
  expect(await state.commit("global", { absent: [key], puts })).toBe(false);
  expect(await state.commit("global", { unchanged: [key], puts })).toBe(true);
});

it("nothing is changed on the strength of what is only remembered", async () => {
  const global = new MemoryStore();
  const state = open(global);
  // Removed by another node while this one was down, its address given to another endpoint.
  const { key, value } = endpoint("c", 2);
  state.remember("global", [{ key, value, version: 0 }]);
  const address = keys.address(network, parseIp("10.0.0.2"));
  await global.transact({ puts: [{ key: `global/${address}`, value: { endpoint: idOf("d") } }] });
  const change = { unchanged: [keys.endpoint(network, idOf("c"))], deletes: [address] };
  expect(await state.commit("global", change)).toBe(false);
  expect(await global.get(`global/${address}`)).toBeDefined();
  expect(state.endpoints.size).toBe(0);
});
