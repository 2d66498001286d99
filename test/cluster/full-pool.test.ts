import { afterAll, describe, expect, it } from "vitest";
import { NetworkError } from "../../src/errors.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { ConsulStore } from "../../src/store/consul/consul-store.ts";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import type { Store } from "../../src/store/store.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { ConsulServer } from "../store/consul-server.ts";
import { EtcdServer } from "../store/etcd-server.ts";
import { controllerOn } from "./controller-on.ts";

enterOwnHost();
afterAll(() => expectNothingLeft());

const nodes = 5;
const publishesEach = 60;

interface Real {
  readonly open: () => Promise<Store>;
  readonly remove: () => Promise<void>;
}

const startEtcd = async (): Promise<Real> => {
  const server = await new EtcdServer().start();
  return { open: () => EtcdStore.open({ address: server.address, timeout: 30_000 }), remove: () => server.remove() };
};

const startConsul = async (): Promise<Real> => {
  const server = new ConsulServer();
  await server.start();
  return { open: () => ConsulStore.open({ address: server.address, timeout: 30_000 }), remove: () => server.remove() };
};

describe.each([
  ["etcd", startEtcd],
  ["consul", startConsul],
])("on %s", (_, start) => {
  it("five nodes that publish 300 services at once into a /24 fill it to the last address, and take none twice", async () => {
    const real = await start();
    const stores = await Promise.all(Array.from({ length: nodes }, () => real.open()));
    const controllers = await Promise.all(stores.map((store) => controllerOn(store)));
    try {
      const [first] = controllers;
      if (!first) throw new Error("there are five");
      const pool = parsePrefix("10.77.0.0/24");
      const { id } = await first.createNetwork({ name: "full", driver: "test", subnets: [{ pool }] });
      await Promise.all(controllers.map((one) => one.sync()));
      const results = await Promise.allSettled(
        controllers.flatMap((one, node) =>
          Array.from({ length: publishesEach }, (_, n) => one.createEndpoint(id, { name: `svc-${node}-${n}` })),
        ),
      );
      const made = results.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      const refused = results.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []));
      for (const error of refused) expect(error).toBeInstanceOf(NetworkError);
      expect(refused.map((error) => error instanceof NetworkError && [error.status, error.code])).toEqual(
        Array.from({ length: nodes * publishesEach - 253 }, () => [403, "addresses-exhausted"]),
      );
      // All of the subnet but its own address, its broadcast address and the gateway.
      const usable = Array.from({ length: 253 }, (_, n) => `10.77.0.${n + 2}/24`);
      expect(made.flatMap(({ addresses }) => addresses).sort()).toEqual(usable.sort());
      for (const one of controllers) {
        expect(await one.sync()).toBeUndefined();
        expect(
          one
            .endpoints(id)
            .flatMap(({ addresses }) => addresses)
            .sort(),
        ).toEqual(usable);
      }
    } finally {
      for (const one of controllers) await one.close();
      for (const store of stores) await store.close();
      await real.remove();
    }
  }, 180_000);
});
