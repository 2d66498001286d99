import { afterEach, describe, expect, it } from "vitest";
import { storeSuite } from "../../../test/contract/store-suite.ts";
import { FakeGossip } from "../../../test/fakes/fake-gossip.ts";
import { parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import { MemoryStore } from "../../store/memory/memory-store.ts";
import type { Json } from "../../store/store.ts";
import type { EndpointRecord } from "../records.ts";
import { StorelessStore } from "./storeless-store.ts";

storeSuite(
  "StorelessStore",
  async () => {
    const local = new MemoryStore();
    return {
      store: await StorelessStore.open(local, () => undefined),
      cleanup: async () => local.close(),
      elapse: async () => undefined,
    };
  },
  { leases: false },
);

const network = "ab".repeat(32);
const id = (n: number) => n.toString(16).padStart(2, "0").repeat(32);
const networkValue = {
  version: 1,
  id: network,
  name: "multihost",
  driver: "overlay",
  scope: "global",
  internal: false,
  ipv6: false,
  options: {},
  labels: {},
  subnets: [{ pool: parsePrefix("10.9.0.0/16"), vni: 700 }],
  auxiliary: {},
  created: "2026-01-01T00:00:00.000Z",
};
const networkPut = { key: `global/networks/${network}`, value: networkValue };
const endpoint = (n: number, name: string, more: Partial<EndpointRecord> = {}): EndpointRecord => ({
  version: 1,
  id: id(n),
  network,
  name,
  aliases: [],
  addresses: [parseInterfaceAddress(`10.9.1.${n}/16`)],
  options: {},
  created: new Date(n).toISOString(),
  ...more,
});
const putsOf = (record: EndpointRecord): readonly { key: string; value: Json }[] => [
  { key: `global/endpoints/${network}/${record.id}`, value: record },
  { key: `global/endpoint-names/${network}/${record.name}`, value: { endpoint: record.id } },
  ...record.addresses.map((address) => ({
    key: `global/addresses/${network}/${address.split("/")[0]}`,
    value: { endpoint: record.id },
  })),
];

const opened: StorelessStore[] = [];
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

class Host {
  readonly local = new MemoryStore();
  readonly gossip: FakeGossip;
  readonly node: string;
  readonly lines: string[] = [];
  store: StorelessStore;

  private constructor(gossip: FakeGossip, node: string, store: StorelessStore) {
    this.gossip = gossip;
    this.node = node;
    this.store = store;
  }

  static async start(gossip: FakeGossip, node: string): Promise<Host> {
    const host = new Host(gossip, node, await StorelessStore.open(new MemoryStore(), () => undefined));
    await host.restart();
    return host;
  }

  /** A new daemon over the same disk. */
  async restart(): Promise<void> {
    await this.store.close();
    this.store = await StorelessStore.open(this.local, (_level, message) => this.lines.push(message));
    opened.push(this.store);
  }

  connect(): void {
    this.store.connect(this.gossip.bus(this.node), this.node, this.gossip);
  }

  async publish(record: EndpointRecord): Promise<void> {
    await this.store.transact({ puts: putsOf(record) });
  }

  async names(): Promise<readonly string[]> {
    const entries = await this.store.list(`global/endpoint-names/${network}/`);
    return entries.map(({ key, value }) => `${key.split("/").at(-1)} ${JSON.stringify(value).slice(13, 15)}`);
  }
}

const two = async () => {
  const gossip = new FakeGossip();
  const [a, b] = [await Host.start(gossip, "0000000a"), await Host.start(gossip, "0000000b")];
  for (const host of [a, b]) host.connect();
  await a.store.transact({ puts: [networkPut] });
  return { gossip, a, b };
};

describe("without a shared store", () => {
  it("others' endpoints are there as long as the network is, and nobody else's to change", async () => {
    const { gossip, a, b } = await two();
    await a.publish(endpoint(1, "one"));
    await gossip.pass(2_000);
    expect(await b.names()).toEqual([]);
    await b.store.transact({ puts: [networkPut] });
    expect(await b.names()).toEqual(["one 01"]);
    const [before] = await b.store.list(`global/endpoints/`);
    expect(before?.value).toMatchObject({ name: "one", announcedBy: "0000000a" });
    const deletes = putsOf(endpoint(1, "one")).map(({ key }) => key);
    for (const change of [{ deletes }, { puts: putsOf(endpoint(1, "one")) }]) {
      await expect(b.store.transact(change)).rejects.toMatchObject({
        code: "announced-elsewhere",
        message: "service one belongs to node host-0000000a",
      });
    }
    await expect(b.publish(endpoint(2, "two", { aliases: Array(65).fill("x") }))).rejects.toMatchObject({
      code: "announcement-too-large",
    });
    // Of a node that is gone it can be put out of sight, until that node is back.
    gossip.up("0000000a", false);
    await b.store.transact({ deletes });
    expect(await b.names()).toEqual([]);
    gossip.up("0000000a", true);
    expect(await gossip.until(async () => (await b.names()).length === 1)).toBe(true);
    await b.store.transact({ deletes: [networkPut.key] });
    expect(await b.store.list("global/")).toEqual([]);
    expect(await b.local.list("")).toEqual([]);
  });

  it("a restart shows at once what was known, and learns what changed", async () => {
    const { gossip, a, b } = await two();
    await b.store.transact({ puts: [networkPut] });
    await a.publish(endpoint(1, "one"));
    expect(await gossip.until(async () => (await b.names()).length === 1)).toBe(true);
    await b.restart();
    expect(await b.names()).toEqual(["one 01"]);
    await a.store.transact({ deletes: putsOf(endpoint(1, "one")).map(({ key }) => key) });
    await a.publish(endpoint(3, "three"));
    b.connect();
    gossip.up("0000000b", false);
    gossip.up("0000000b", true);
    expect(await gossip.until(async () => (await b.names()).join() === "three 03")).toBe(true);
  });

  it("two that published one name in a partition: the older keeps it, the other has a second one while it lasts", async () => {
    const { gossip, a, b } = await two();
    await b.store.transact({ puts: [networkPut] });
    await gossip.pass(2_000);
    gossip.side = (node) => (node === "0000000a" ? 0 : 1);
    gossip.changed();
    await a.publish(endpoint(1, "web"));
    await b.publish(endpoint(2, "web"));
    gossip.side = () => 0;
    gossip.changed();
    const both = ["web 01", "web-020202 02"];
    const settled = async (expected: readonly string[]) =>
      (await a.names()).join() === expected.join() && (await b.names()).join() === expected.join();
    expect(await gossip.until(() => settled(both))).toBe(true);
    expect(b.lines).toContain("service web is called web-020202 for now: another node published an older web");
    // Attached meanwhile, under the name that is shown: its own is kept, over a restart too.
    const [shown] = (await b.store.list("global/endpoints/")).filter(({ key }) => key.endsWith(id(2)));
    const claim = { id: id(9), node: "0000000b", container: "c", interface: "eth0", order: 0, aliases: [] };
    await b.store.transact({
      puts: [{ key: shown?.key ?? "", value: { ...endpoint(2, "web-020202"), sandbox: claim } }],
    });
    await a.store.transact({ deletes: putsOf(endpoint(1, "web")).map(({ key }) => key) });
    expect(await gossip.until(() => settled(["web 02"]))).toBe(true);
    const [, , kept] = await b.local.list("global/");
    expect(kept?.value).toMatchObject({ name: "web", sandbox: claim });
  });
});
