// What a store costs: `node bench/stores.ts` (as root). Real servers on loopback, data on this machine's disk.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { EtcdStore } from "../src/store/etcd/etcd-store.ts";
import { SqliteStore } from "../src/store/sqlite/sqlite-store.ts";
import type { Store } from "../src/store/store.ts";
import { Figures, ms } from "./figures.ts";
import { enterHost } from "./host.ts";

const rounds = 500;
const root = new URL("..", import.meta.url).pathname;

/** Forwards requests to a server and counts them: each is one round trip. */
const counting = async (port: number) => {
  let requests = 0;
  const server = createServer((incoming, outgoing) => {
    requests++;
    const { method, url: path, headers } = incoming;
    const forward = request({ port, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    forward.on("error", () => outgoing.destroy());
    incoming.pipe(forward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    count: () => requests,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
};

const startEtcd = async (directory: string): Promise<ChildProcess | undefined> => {
  const child = spawn("etcd", ["--data-dir", join(directory, "etcd")], { stdio: ["ignore", "ignore", "pipe"] });
  return new Promise((resolve) => {
    let text = "";
    child.on("error", () => resolve(undefined));
    child.stderr.on("data", (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-10_000);
      if (/serving (insecure )?client requests on/.test(text)) resolve(child);
    });
  });
};

const value = { id: "f".repeat(64), name: "web", network: "0".repeat(64), addresses: ["10.0.0.7/24"] };

/** An endpoint as it is published: three keys, two of them checked. */
const publish = (n: number) => ({
  checks: [
    { key: `endpoints/${n}`, version: 0 },
    { key: `addresses/${n}`, version: 0 },
  ],
  puts: [`endpoints/${n}`, `addresses/${n}`, "network-use/0"].map((key) => ({ key, value })),
});

const measure = async (name: string, store: Store): Promise<void> => {
  const figures = new Figures();
  for (let n = 0; n < rounds; n++) {
    await figures.time("transact", () => store.transact(publish(n)));
    await figures.time("get", () => store.get(`endpoints/${n}`));
    await figures.time("version", () => store.version());
  }
  for (const what of figures.names()) {
    console.log(`${name.padEnd(8)} ${what.padEnd(10)} ${ms(figures.at(what, 0.5))} ${ms(figures.at(what, 0.99))}`);
  }
};

const roundTrips = async (port: number, open: (address: string) => Promise<Store>): Promise<void> => {
  const proxy = await counting(port);
  const store = await open(proxy.address);
  const counts: string[] = [];
  const count = async (what: string, work: () => Promise<unknown>) => {
    const before = proxy.count();
    await work();
    counts.push(`${what} ${proxy.count() - before}`);
  };
  await count("transact", () => store.transact(publish(rounds)));
  await count("transact (in the way)", () => store.transact(publish(rounds)));
  await count("get", () => store.get(`endpoints/${rounds}`));
  await count("version", () => store.version());
  console.log(`etcd     round trips: ${counts.join(", ")}`);
  await store.close();
  proxy.close();
};

const bench = async (): Promise<void> => {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const directory = mkdtempSync(join(root, ".cache/stores-"));
  console.log(`${rounds} rounds, one after the other; milliseconds    p50      p99`);
  const sqlite = await SqliteStore.open(join(directory, "dnet.db"));
  await measure("sqlite", sqlite);
  await sqlite.close();
  const etcd = await startEtcd(directory);
  if (etcd) {
    const store = await EtcdStore.open({ address: "127.0.0.1:2379" });
    await measure("etcd", store);
    await store.close();
    await roundTrips(2379, (address) => EtcdStore.open({ address }));
    const ended = once(etcd, "exit");
    etcd.kill("SIGKILL");
    await ended;
  } else console.log("etcd is not installed");
  rmSync(directory, { recursive: true });
};

if (enterHost(fileURLToPath(import.meta.url))) await bench();
