import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import * as fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { NetworkError } from "../../src/errors.ts";
import { EtcdStore } from "../../src/store/etcd/etcd-store.ts";
import type { StoreEntry, WatchEvent } from "../../src/store/store.ts";
import { enterOwnHost } from "../own-host.ts";

enterOwnHost();

/** A server that answers as the test says: what a broken or hostile one may send. */
const servers: Server[] = [];
const stores: EtcdStore[] = [];
const serve = async (listener: RequestListener): Promise<EtcdStore> => {
  const server = createServer(listener).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const store = await EtcdStore.open({ address: `127.0.0.1:${port}`, timeout: 10_000 });
  stores.push(store);
  return store;
};
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  }
});

const base64 = (text: string) => Buffer.from(text).toString("base64");
const header = { cluster_id: "1", member_id: "2", revision: "7", raft_term: "2" };
const kv = { key: base64("dnet/a"), create_revision: "5", mod_revision: "5", version: "1", value: base64("1") };
const read = { response_range: { header, kvs: [kv], count: "1" } };
const watchLines = [
  { result: { header, created: true } },
  { result: { header: { ...header, revision: "8" }, events: [{ kv: { ...kv, mod_revision: "8" } }] } },
  {
    result: {
      header: { ...header, revision: "9" },
      events: [{ type: "DELETE", kv: { key: kv.key, mod_revision: "9" } }],
    },
  },
];
/** What etcd would say, by path. */
const proper: Readonly<Record<string, unknown>> = {
  "/v3/kv/range": { header, kvs: [kv], count: "1" },
  "/v3/kv/txn": {
    header,
    succeeded: true,
    responses: [read, { response_range: { header, kvs: [{ ...kv, value: base64('"id"') }] } }],
  },
  "/v3/lease/grant": { header, ID: "77", TTL: "5" },
  "/v3/lease/keepalive": { result: { header, ID: "77", TTL: "5" } },
  "/v3/lease/revoke": { header },
};

type Path = readonly (string | number)[];
const paths = (value: unknown, path: Path = []): Path[] =>
  typeof value === "object" && value !== null
    ? [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))]
    : [path];
const replaced = (value: unknown, [key, ...rest]: Path, by: unknown): unknown => {
  if (key === undefined) return by;
  if (Array.isArray(value))
    return value.map((inner, n) => (String(n) === String(key) ? replaced(inner, rest, by) : inner));
  const object = value as Record<string, unknown>;
  return { ...object, [key]: replaced(object[key], rest, by) };
};

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(
    "-1",
    "9223372036854775807",
    "99999999999999999999",
    "1e3",
    -1,
    1.5,
    null,
    "",
    base64("dnet/.revision"),
  ),
  fc.constantFrom(
    base64("dnet/a\0b"),
    base64("elsewhere"),
    "*no base64*",
    Buffer.of(0x64, 0x6e, 0x65, 0x74, 0x2f, 0xff).toString("base64"),
  ),
);
/** A proper answer with one thing in it replaced, cut short, or something else altogether. */
const mangled = (value: unknown): fc.Arbitrary<string> =>
  fc.oneof(
    fc.tuple(fc.constantFrom(...paths(value)), odd).map(([path, by]) => JSON.stringify(replaced(value, path, by))),
    fc.nat(JSON.stringify(value).length).map((length) => JSON.stringify(value).slice(0, length)),
    fc.string({ unit: "binary" }),
    fc.json(),
  );
const status = fc.oneof(
  { weight: 4, arbitrary: fc.constant(200) },
  { weight: 1, arbitrary: fc.constantFrom(204, 301, 400, 401, 404, 429, 500, 503) },
);

const isEntry = (entry: StoreEntry): boolean =>
  typeof entry.key === "string" &&
  Number.isSafeInteger(entry.version) &&
  entry.version >= 0 &&
  entry.value !== undefined;

describe("answers that are none", () => {
  let answer: (path: string) => { readonly status: number; readonly body: string };
  const listener: RequestListener = (request, response) => {
    request.resume();
    const { status, body } = answer(request.url ?? "");
    response.writeHead(status).end(status === 204 ? undefined : body);
  };

  it("to a call become typed errors, or values of the right shape", async () => {
    const store = await serve(listener);
    const outcomes = { values: 0, errors: 0 };
    const outcome = async <T>(call: Promise<T>, check: (value: T) => boolean, mayBeLost = false) => {
      try {
        expect(check(await call)).toBe(true);
        outcomes.values++;
      } catch (error) {
        outcomes.errors++;
        if (error instanceof NetworkError) expect(error.message).not.toMatch(/[\0-\x1f]/);
        else if (mayBeLost) expect(String(error)).toMatch(/^Error: the answer to a transaction got lost: /);
        else throw error;
      }
    };
    const cases = fc.tuple(
      ...Object.entries(proper).map(([path, value]) => mangled(value).map((text) => [path, text] as const)),
      status,
    );
    await fc.assert(
      fc.asyncProperty(cases, async (all) => {
        const code = all.at(-1) as number;
        const texts = new Map(all.slice(0, -1) as (readonly [string, string])[]);
        answer = (path) => ({ status: code, body: texts.get(path) ?? "" });
        await outcome(store.get("a"), (entry) => entry === undefined || isEntry(entry));
        await outcome(store.list(""), (entries) => entries.every(isEntry));
        await outcome(store.version(), (version) => Number.isSafeInteger(version) && version >= 0);
        const transaction = { checks: [{ key: "a", version: 5 }], puts: [{ key: "a", value: 1 }] };
        await outcome(
          store.transact(transaction),
          (result) => (result.ok ? result.version >= 0 : result.conflicts.every((key) => key === "a")),
          true,
        );
        answer = (path) => ({ status: 200, body: JSON.stringify(proper[path]) });
        const lease = await store.lease(5_000);
        answer = (path) => ({ status: code, body: texts.get(path) ?? "" });
        await outcome(lease.renew(), () => true);
        await outcome(store.lease(5_000), ({ id }) => /^-?\d+$/.test(id));
      }),
      { numRuns: 150 },
    );
    expect(outcomes.values).toBeGreaterThan(50);
    expect(outcomes.errors).toBeGreaterThan(50);
  });

  it("in a watch are a loss; with proper ones again it goes on", async () => {
    let lines: string[] = [];
    const store = await serve((request, response) => {
      request.resume();
      if (request.url !== "/v3/watch") {
        response.end(JSON.stringify(proper[request.url ?? ""]));
        return;
      }
      response.write(`${lines.join("\n")}\n`);
      // What comes after the first time is proper, and stays open.
      if (lines === good) return;
      lines = good;
      response.end();
    });
    const good = watchLines.map((line) => JSON.stringify(line));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(...watchLines.map(mangled), fc.constantFrom(...good)), { maxLength: 5 }),
        async (all) => {
          lines = all;
          const abort = new AbortController();
          const events: WatchEvent[] = [];
          for await (const event of store.watch("", abort.signal)) {
            events.push(event);
            if (event.kind === "lost") expect(event.reason).not.toMatch(/[\0-\x1f]/);
            if (event.kind === "change") {
              expect(event.puts.every(isEntry)).toBe(true);
              expect(event.deletes.every((key) => typeof key === "string")).toBe(true);
            }
            // The last of the proper lines, or what a mangled one said in its place.
            if (event.kind === "change" && event.version >= 9) abort.abort();
          }
          expect(events.some(({ kind }) => kind === "snapshot")).toBe(true);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("answers without an end", () => {
  it("to a call are cut off", async () => {
    const chunk = Buffer.alloc(1024 * 1024, "[");
    const store = await serve((_request, response) => {
      const more = () => {
        while (response.write(chunk));
      };
      response.on("drain", more);
      more();
    });
    await expect(store.get("a")).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringMatching(/longer than/),
    });
  });

  it("in one line of a watch are cut off", async () => {
    const chunk = Buffer.alloc(1024 * 1024, "[");
    const store = await serve((request, response) => {
      request.resume();
      if (request.url !== "/v3/watch") {
        response.end(JSON.stringify(proper[request.url ?? ""]));
        return;
      }
      const more = () => {
        while (response.write(chunk));
      };
      response.on("drain", more);
      more();
    });
    const abort = new AbortController();
    for await (const event of store.watch("", abort.signal)) {
      if (event.kind !== "lost") continue;
      expect(event.reason).toMatch(/a line longer than/);
      abort.abort();
    }
  });

  it("in pages that repeat themselves are cut off", async () => {
    const store = await serve((request, response) => {
      request.resume();
      response.end(JSON.stringify({ header, kvs: [kv], more: true }));
    });
    await expect(store.list("")).rejects.toMatchObject({ code: "store-unavailable" });
  });
});
