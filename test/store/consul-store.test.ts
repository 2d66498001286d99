import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { ConsulStore } from "../../src/store/consul/consul-store.ts";
import { storeSuite } from "../contract/store-suite.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { ConsulServer } from "./consul-server.ts";

enterOwnHost();
const server = new ConsulServer();
let count = 0;

beforeAll(() => server.start());
afterAll(async () => {
  await server.remove();
  expectNothingLeft();
});

storeSuite("ConsulStore", async () => {
  const address = `${server.address}/suite/${++count}`;
  let current = await ConsulStore.open({ address });
  return {
    store: current,
    reopen: async () => {
      await current.close();
      current = await ConsulStore.open({ address });
      return current;
    },
    cleanup: async () => undefined,
    // Consul's shortest lease; one that is over may live on for as long again.
    ttl: 10_000,
    slack: 15_000,
    elapse: (milliseconds) => delay(milliseconds),
  };
});
