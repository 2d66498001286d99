import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import { storeSuite } from "../contract/store-suite.ts";
import { enterOwnHost, expectNothingLeft } from "../own-host.ts";
import { EtcdServer } from "./etcd-server.ts";

enterOwnHost();

let server: EtcdServer;
beforeAll(async () => {
  server = await new EtcdServer().start();
});
afterAll(async () => {
  await server.remove();
  expectNothingLeft();
});

let suites = 0;
storeSuite("EtcdStore", async () => {
  const prefix = `suite/${++suites}`;
  let current = EtcdStore.open({ servers: [server.address], prefix });
  return {
    store: current,
    reopen: async () => {
      await current.close();
      await server.stop("SIGKILL");
      await server.start();
      current = EtcdStore.open({ servers: [server.address], prefix });
      return current;
    },
    cleanup: async () => undefined,
    // Long enough that a busy machine does not miss a third of it. A new leader lets leases live for their whole time once more.
    ttl: 12_000,
    slack: 20_000,
    elapse: (milliseconds) => delay(milliseconds),
  };
});
