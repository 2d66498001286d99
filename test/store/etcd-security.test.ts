import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EtcdStoreOptions } from "../../src/store/etcd/etcd-options.ts";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import { enterOwnHost, expectNothingLeft, run, shell } from "../own-host.ts";
import { EtcdServer } from "./etcd-server.ts";
import { Replica } from "./replica.ts";

enterOwnHost();
afterAll(expectNothingLeft);

let server: EtcdServer;
let stores: EtcdStore[] = [];
const open = async (options: Omit<EtcdStoreOptions, "address">) => {
  const store = await EtcdStore.open({ address: server.address, timeout: 10_000, ...options });
  stores.push(store);
  return store;
};
afterEach(async () => {
  for (const store of stores) await store.close();
  stores = [];
  await server.remove();
});
/** Everything of an error that may get into a log. */
const whole = (error: unknown): string =>
  error instanceof Error ? `${error.stack} ${JSON.stringify(error)} ${whole(error.cause)}` : String(error);

describe("with authentication", () => {
  const secret = "s3cret-of-dnet";
  const user = { username: "dnet", password: secret };
  const setUp = [
    "user add root:rootpass",
    "user grant-role root root",
    "role add dnet",
    "role grant-permission dnet --prefix=true readwrite dnet/",
    `user add dnet:${secret}`,
    "user grant-role dnet dnet",
    "auth enable",
  ];
  beforeEach(async () => {
    server = await new EtcdServer().start();
    for (const command of ["role add root", ...setUp]) run("etcdctl", ...command.split(" "));
  });

  it("works with a role on the prefix, over a server that forgets tokens or ends them", async () => {
    const store = await open(user);
    const replica = new Replica(store);
    const put = async (value: number) => {
      const result = await store.transact({ puts: [{ key: "a", value }] });
      expect(result.ok).toBe(true);
      await replica.caughtUp(store);
      expect(replica.state.get("a")).toBe(value);
    };
    await put(1);
    const lease = await store.lease(30_000);
    await store.transact({ puts: [{ key: "b", value: 1, lease: lease.id }] });
    await lease.renew();
    await server.stop("SIGTERM");
    await server.start();
    await put(2);
    // A new password, even the same, ends the tokens of its user.
    shell(`echo ${secret} | etcdctl --user root:rootpass user passwd --interactive=false dnet`);
    await put(3);
    await lease.revoke();
    expect((await store.list("")).map(({ key }) => key)).toEqual(["a"]);
    await replica.end();
  });

  it.each([
    ["a wrong password", { username: "dnet", password: "wr0ng" }],
    ["an unknown user", { username: "nobody", password: "wr0ng" }],
    ["nobody's name", {}],
    ["another prefix", { ...user, prefix: "other" }],
  ])("refuses %s, says so and tells no secret", async (_what, options) => {
    const store = await open(options);
    const denied = { code: "store-forbidden", kind: "no-service", hint: expect.any(String) };
    for (const call of [
      () => store.get("a"),
      () => store.list(""),
      () => store.version(),
      () => store.transact({ puts: [{ key: "a", value: 1 }] }),
    ]) {
      const error: unknown = await call().then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(error).toMatchObject(denied);
      expect(whole(error)).not.toMatch(/s3cret|wr0ng/);
    }
    const replica = new Replica(store);
    await replica.until("lost", ({ lost }) => lost);
    expect(replica.last).toMatchObject({ reason: expect.stringContaining("refuses") });
    await store.close();
    await replica.end();
  });

  it("that is switched off, a user's name does no harm; and switched on again, it counts", async () => {
    run("etcdctl", "--user", "root:rootpass", "auth", "disable");
    const store = await open(user);
    expect((await store.transact({ puts: [{ key: "a", value: 1 }] })).ok).toBe(true);
    run("etcdctl", "auth", "enable");
    expect((await store.transact({ puts: [{ key: "a", value: 2 }] })).ok).toBe(true);
  });
});

describe("with TLS", () => {
  let directory: string;
  const file = (name: string) => join(directory, name);
  const text = (name: string) => readFileSync(file(name), "utf8");
  const openssl = (...args: string[]) => run("openssl", ...args);
  const authority = (name: string) =>
    openssl(
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...["-subj", `/CN=${name}`, "-keyout", file(`${name}.key`), "-out", file(`${name}.pem`)],
    );
  const certificate = (name: string, usage: string) => {
    writeFileSync(file(`${name}.ext`), `subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=${usage}\n`);
    openssl(
      ...["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", `/CN=${name}`],
      ...["-keyout", file(`${name}.key`), "-out", file(`${name}.csr`)],
    );
    openssl(
      ...[
        "x509",
        "-req",
        "-in",
        file(`${name}.csr`),
        "-CA",
        file("ca.pem"),
        "-CAkey",
        file("ca.key"),
        "-CAcreateserial",
      ],
      ...["-days", "2", "-extfile", file(`${name}.ext`), "-out", file(`${name}.pem`)],
    );
  };
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "dnet-tls-"));
    authority("ca");
    authority("stranger");
    certificate("server", "serverAuth,clientAuth");
    certificate("client", "clientAuth");
    server = new EtcdServer({
      tls: { ca: file("ca.pem"), cert: file("server.pem"), key: file("server.key") },
      flags: ["--client-cert-auth"],
    });
    await server.start();
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("works with a certificate of the authority, watch included", async () => {
    const store = await open({ tls: { ca: text("ca.pem"), cert: text("client.pem"), key: text("client.key") } });
    const replica = new Replica(store);
    expect((await store.transact({ puts: [{ key: "a", value: 1 }] })).ok).toBe(true);
    await replica.caughtUp(store);
    expect(replica.state).toEqual(new Map([["a", 1]]));
    await replica.end();
  });

  it("refuses a server of another authority before anything is sent", async () => {
    const store = await open({ tls: { ca: text("stranger.pem") } });
    const refused = {
      code: "store-unavailable",
      message: `the etcd store at ${server.address} does not answer: unable to verify the first certificate`,
    };
    await expect(store.get("a")).rejects.toMatchObject(refused);
    await expect(store.transact({ puts: [{ key: "a", value: 1 }] })).rejects.toMatchObject(refused);
  });

  it("is refused without a certificate of one's own, and nothing is written", async () => {
    const store = await open({ tls: { ca: text("ca.pem") } });
    await expect(store.get("a")).rejects.toMatchObject({ code: "store-unavailable", kind: "no-service" });
    await expect(store.transact({ puts: [{ key: "a", value: 1 }] })).rejects.toThrow(server.address);
    const allowed = await open({ tls: { ca: text("ca.pem"), cert: text("client.pem"), key: text("client.key") } });
    expect(await allowed.list("")).toEqual([]);
  });

  it("refuses plain HTTP", async () => {
    await expect((await open({})).get("a")).rejects.toMatchObject({
      code: "store-unavailable",
      hint: expect.stringMatching(/TLS/),
    });
  });
});
