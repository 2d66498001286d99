// What a cluster costs its store: `node bench/cluster.ts` (as root). Two nodes over a real etcd and a real Consul, each behind a relay
// that counts: requests and bytes of the node that acts, and of the one that follows it.
import type { Libnetwork } from "../src/controller/libnetwork.ts";
import { parsePrefix } from "../src/net/prefix.ts";
import { ConsulStore } from "../src/store/consul/consul-store.ts";
import { EtcdStore } from "../src/store/etcd/etcd-store.ts";
import type { Store } from "../src/store/store.ts";
import { controllerOn } from "../test/cluster/controller-on.ts";
import { ConsulServer } from "../test/store/consul-server.ts";
import { EtcdServer } from "../test/store/etcd-server.ts";
import { Counter } from "./counter.ts";
import { enterHost } from "./host.ts";

const sizes = [100, 1_000, 10_000];
const operations = 50;

interface Real {
  readonly name: string;
  readonly port: number;
  readonly open: (address: string) => Promise<Store>;
  readonly remove: () => Promise<void>;
}

const etcd = async (): Promise<Real> => {
  const server = await new EtcdServer().start();
  return { name: "etcd", port: 2379, open: (address) => EtcdStore.open({ address }), remove: () => server.remove() };
};

const consul = async (): Promise<Real> => {
  const server = new ConsulServer();
  await server.start();
  return {
    name: "consul",
    port: 8500,
    open: (address) => ConsulStore.open({ address }),
    remove: () => server.remove(),
  };
};

/** Records of endpoints, put past the controllers: publishing ten thousand one by one is not what is measured. */
const fill = async (store: Store, network: string, from: number, to: number): Promise<void> => {
  for (let n = from; n < to; n += 6) {
    const made = Array.from({ length: Math.min(6, to - n) }, (_, m) => {
      const id = (n + m + 1).toString(16).padStart(64, "0");
      const ip = `10.${8 + ((n + m) >> 16)}.${((n + m) >> 8) & 255}.${(n + m) & 255}`;
      return { id, ip, name: `filler${n + m}` };
    });
    const result = await store.transact({
      puts: made.flatMap(({ id, ip, name }) => [
        {
          key: `global/endpoints/${network}/${id}`,
          value: {
            version: 1,
            id,
            network,
            name,
            aliases: [],
            addresses: [`${ip}/8`],
            options: {},
            created: new Date(0).toISOString(),
          },
        },
        { key: `global/endpoint-names/${network}/${name}`, value: { endpoint: id } },
        { key: `global/addresses/${network}/${ip}`, value: { endpoint: id } },
      ]),
    });
    if (!result.ok) throw new Error("nothing was checked");
  }
};

const measure = async (
  real: Real,
  size: number,
  counters: readonly [Counter, Counter],
  nodes: readonly [Libnetwork, Libnetwork],
  network: string,
): Promise<void> => {
  const [acting, following] = nodes;
  await Promise.all(nodes.map((node) => node.sync()));
  let ids: string[] = [];
  const run = async (what: string, work: (n: number) => Promise<unknown>) => {
    const before = counters.map((counter) => counter.snapshot());
    const began = performance.now();
    for (let n = 0; n < operations; n++) await work(n);
    const took = (performance.now() - began) / operations;
    // What the follower is told comes a little later; it has it when a read says so.
    await following.sync();
    const [own, theirs] = counters.map((counter, n) => counter.since(before[n] ?? counter.snapshot()));
    const figure = (total: number | undefined) => ((total ?? 0) / operations).toFixed(1).padStart(9);
    console.log(
      `${real.name.padEnd(7)} ${String(size).padStart(6)} ${what.padEnd(22)}${figure(own?.requests)}${figure(own?.bytes)}` +
        `${figure(theirs?.requests)}${figure(theirs?.bytes)}  ${took.toFixed(2).padStart(8)}`,
    );
    return (own?.calls ?? 0) / operations;
  };
  const trips = await run("publish", async (n) => {
    await acting.sync();
    ids.push((await acting.createEndpoint(network, { name: `svc${n}` })).id);
  });
  await run("read", () => acting.sync());
  await run("unpublish", async (n) => {
    await acting.sync();
    await acting.deleteEndpoint(ids[n] ?? "");
  });
  ids = [];
  console.log(
    `${real.name.padEnd(7)} ${String(size).padStart(6)} a publish through the API: ${trips.toFixed(2)} round trips (at most 2)`,
  );
  if (trips > 2) process.exitCode = 1;
};

const bench = async (): Promise<void> => {
  console.log("store   endpoints operation    requests and bytes of the node, of the other (its watch); ms");
  for (const start of [etcd, consul]) {
    const real = await start();
    const counters: [Counter, Counter] = [await Counter.open(real.port), await Counter.open(real.port)];
    const stores: [Store, Store] = [await real.open(counters[0].address), await real.open(counters[1].address)];
    const direct = await real.open(`127.0.0.1:${real.port}`);
    const nodes: [Libnetwork, Libnetwork] = [await controllerOn(stores[0]), await controllerOn(stores[1])];
    const pool = parsePrefix("10.0.0.0/8");
    const { id } = await nodes[0].createNetwork({ name: "big", driver: "test", subnets: [{ pool }] });
    let filled = 0;
    for (const size of sizes) {
      await fill(direct, id, filled, size);
      filled = size;
      await measure(real, size, counters, nodes, id);
    }
    for (const node of nodes) await node.close();
    for (const store of [...stores, direct]) await store.close();
    for (const counter of counters) counter.close();
    await real.remove();
  }
};

if (enterHost(import.meta.filename)) await bench();
