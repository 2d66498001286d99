import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { ConsulStore, type ConsulStoreOptions } from "../../src/store/consul/consul-store.ts";
import type { Store } from "../../src/store/store.ts";
import { enterOwnHost, expectNothingLeft, run } from "../own-host.ts";
import { ConsulServer, consulBinary, consulRequest } from "./consul-server.ts";
import { listed, Replica } from "./replica.ts";

enterOwnHost();

const started: ConsulServer[] = [];
const opened: Store[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((store) => store.close()));
  await Promise.all(started.splice(0).map((server) => server.remove()));
  expectNothingLeft();
});
const open = async (options: ConsulStoreOptions): Promise<ConsulStore> => {
  const store = await ConsulStore.open({ timeout: 15_000, ...options });
  opened.push(store);
  return store;
};
/** Puts, deletes, leases, watches. */
const exercise = async (store: Store) => {
  const replica = new Replica(store);
  await replica.until("a snapshot", ({ last }) => last?.kind === "snapshot");
  const lease = await store.lease(10_000);
  await store.transact({
    puts: [
      { key: "a/b", value: { name: "one" } },
      { key: "node", value: 1, lease: lease.id },
    ],
  });
  await lease.renew();
  await lease.revoke();
  await replica.until("the lease's end", ({ state }) => state.size === 1 && state.has("a/b"));
  expect(await listed(store)).toEqual(replica.state);
  await replica.end();
};

describe("ACLs", () => {
  const root = { "x-consul-token": "root-token" };
  const start = async (): Promise<ConsulServer> => {
    const server = new ConsulServer({
      config: 'acl { enabled = true default_policy = "deny" tokens { master = "root-token" } }',
      probe: async () => {
        const ask = (method: string, path: string, body: string) =>
          consulRequest(method, "127.0.0.1:8500", path, body, root).catch(() => undefined);
        if ((await ask("PUT", "/v1/kv/probe", "1"))?.status !== 200) return false;
        // Sessions are the node's: it must be in the catalog.
        if ((await ask("GET", "/v1/acl/policies", ""))?.status !== 200) return false;
        return ((await ask("GET", "/v1/catalog/nodes", ""))?.body ?? "[]").startsWith("[{");
      },
    });
    started.push(server);
    await server.start();
    return server;
  };
  const token = async (server: ConsulServer, name: string, rules: string): Promise<string> => {
    const policy = await consulRequest(
      "PUT",
      server.address,
      "/v1/acl/policy",
      JSON.stringify({ Name: name, Rules: rules }),
      root,
    );
    expect(policy.status).toBe(200);
    const made = await consulRequest(
      "PUT",
      server.address,
      "/v1/acl/token",
      JSON.stringify({ Policies: [{ Name: name }] }),
      root,
    );
    return (JSON.parse(made.body) as { SecretID: string }).SecretID;
  };

  it("let a token with rights on the prefix and on sessions do everything", async () => {
    const server = await start();
    const secret = await token(
      server,
      "dnet",
      'key_prefix "mine/" { policy = "write" } session_prefix "" { policy = "write" }',
    );
    await exercise(await open({ address: `${server.address}/mine`, token: secret }));
    await expect((await open({ address: `${server.address}/others`, token: secret })).list("")).rejects.toMatchObject({
      code: "store-forbidden",
    });
  });

  it("say what a token lacks, instead of an empty store", async () => {
    const server = await start();
    const owner = await open({ address: `${server.address}/mine`, token: "root-token" });
    const { id } = await owner.lease(10_000);
    await owner.transact({ puts: [{ key: "a", value: 1 }] });
    const readOnly = await token(server, "reader", 'key_prefix "mine/" { policy = "read" }');
    const none = { address: `${server.address}/mine` };
    for (const store of [await open(none), await open({ ...none, token: "nonsense" })]) {
      for (const ask of [
        () => store.get("a"),
        () => store.list(""),
        () => store.version(),
        () => store.transact({ puts: [{ key: "a", value: 2 }] }),
        () => store.lease(10_000),
      ]) {
        await expect(ask()).rejects.toMatchObject({
          code: "store-forbidden",
          kind: "no-service",
          message: expect.stringContaining("token lacks rights in the consul store at 127.0.0.1:8500"),
          hint: expect.any(String),
        });
      }
      const replica = new Replica(store);
      await replica.until("lost", ({ lost }) => lost);
      expect(replica.events).toMatchObject([{ kind: "lost", reason: expect.stringContaining("token lacks rights") }]);
      await replica.end();
    }
    // Consul wants the right to write for the question whether there is a key, which every list asks.
    const reader = await open({ ...none, token: readOnly });
    expect(await reader.get("a")).toMatchObject({ key: "a", value: 1 });
    await expect(reader.list("")).rejects.toMatchObject({ code: "store-forbidden" });
    for (const change of [
      { puts: [{ key: "a", value: 2 }] },
      { deletes: ["a"] },
      { puts: [{ key: "b", value: 2, lease: id }] },
      { checks: [{ key: "a", version: 1 }], puts: [{ key: "a", value: 2 }] },
    ]) {
      await expect(reader.transact(change)).rejects.toMatchObject({ code: "store-forbidden" });
    }
    await expect(reader.lease(10_000)).rejects.toMatchObject({ code: "store-forbidden" });
  });

  it("a token that is taken back is lost, not a store that became empty", async () => {
    const server = await start();
    const secret = await token(server, "dnet", 'key_prefix "mine/" { policy = "write" }');
    const store = await open({ address: `${server.address}/mine`, token: secret });
    await store.transact({ puts: [{ key: "a", value: 1 }] });
    const replica = new Replica(store);
    await replica.until("a snapshot", ({ state }) => state.size === 1);
    const { body } = await consulRequest("GET", server.address, "/v1/acl/tokens", "", root);
    const tokens = JSON.parse(body) as { AccessorID: string; Policies?: { Name: string }[] }[];
    const accessor = tokens.find(({ Policies }) => Policies?.[0]?.Name === "dnet")?.AccessorID;
    await consulRequest("DELETE", server.address, `/v1/acl/token/${accessor}`, "", root);
    await expect(store.get("a")).rejects.toMatchObject({ code: "store-forbidden" });
    await replica.until("lost", ({ lost }) => lost);
    expect(replica.state.size).toBe(1);
    await replica.end();
  });
});

describe("TLS", () => {
  /** A CA, and certificates that it signed for a server on loopback and for a client. */
  const certificates = (directory: string) => {
    const file = (name: string) => join(directory, name);
    const openssl = (...args: string[]) => run("openssl", ...args);
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
      "req",
      "-x509",
      ...key,
      "-keyout",
      file("ca.key"),
      "-out",
      file("ca.pem"),
      "-subj",
      "/CN=test CA",
      "-days",
      "2",
    );
    for (const name of ["server", "client"]) {
      openssl(
        "req",
        "-x509",
        ...key,
        "-keyout",
        file(`${name}.key`),
        "-out",
        file(`${name}.pem`),
        "-subj",
        `/CN=${name}`,
        "-days",
        "2",
        "-CA",
        file("ca.pem"),
        "-CAkey",
        file("ca.key"),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
      );
    }
    const read = (name: string) => readFileSync(file(name), "utf8");
    return { ca: read("ca.pem"), cert: read("client.pem"), key: read("client.key") };
  };

  it("with a CA and a certificate of one's own; without them a refusal, and nothing in the clear", async () => {
    const server = new ConsulServer({ probe: async () => server.log.includes("New leader elected") });
    started.push(server);
    const tls = certificates(server.directory);
    const path = (name: string) => join(server.directory, name);
    await server.start(`
      ports { http = -1 https = 8500 }
      verify_incoming_https = true
      ca_file = "${path("ca.pem")}" cert_file = "${path("server.pem")}" key_file = "${path("server.key")}"`);
    const address = `${server.address}/secure`;
    await exercise(await open({ address, tls }));
    for (const options of [
      { address },
      { address, tls: { ca: tls.ca } },
      { address, tls: { cert: tls.cert, key: tls.key } },
    ]) {
      const store = await open(options);
      await expect(store.get("a")).rejects.toMatchObject({ kind: "no-service" });
      await expect(store.lease(10_000)).rejects.toMatchObject({ kind: "no-service" });
    }
  });
});

it("nothing is opened with options that cannot be meant", async () => {
  const address = "127.0.0.1:8500";
  for (const options of [
    { address, token: "two words" },
    { address, token: "line\r\nx-evil: 1" },
    { address, datacenter: "a&b" },
    { address, tls: { ca: "no certificate" } },
    { address, tls: { cert: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" } },
    { address, prefix: "" },
    { address, prefix: "../x" },
    { address: [] },
    { address: "127.0.0.1" },
  ]) {
    await expect(ConsulStore.open(options)).rejects.toMatchObject({ kind: "bad-request" });
  }
});

it("a datacenter that nobody knows is a reason", async () => {
  const server = new ConsulServer();
  started.push(server);
  await server.start();
  const store = await open({ address: server.address, datacenter: "elsewhere" });
  for (const ask of [() => store.get("a"), () => store.transact({ puts: [{ key: "a", value: 1 }] })]) {
    await expect(ask()).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringContaining("No path to datacenter"),
    });
  }
  await exercise(await open({ address: server.address, datacenter: "dc1" }));
});

it("what is kept is readable with consul's own commands", async () => {
  const server = new ConsulServer();
  started.push(server);
  await server.start();
  const store = await open({ address: `${server.address}/custom_prefix` });
  await store.transact({ puts: [{ key: "global/networks/1", value: { name: "mh1", subnets: ["10.0.0.0/24"] } }] });
  const consul = (...args: string[]) => run(consulBinary(), "kv", ...args);
  const at = `-http-addr=${server.address}`;
  expect(consul("get", at, "custom_prefix/global/networks/1")).toBe('{"name":"mh1","subnets":["10.0.0.0/24"]}\n');
  const exported = JSON.parse(consul("export", at, "custom_prefix/")) as { key: string; value: string }[];
  expect(exported.map(({ key }) => key)).toEqual([
    "custom_prefix/.log/001",
    "custom_prefix/.revision",
    "custom_prefix/global/networks/1",
  ]);
  for (const { value } of exported) expect(() => JSON.parse(Buffer.from(value, "base64").toString())).not.toThrow();
});
