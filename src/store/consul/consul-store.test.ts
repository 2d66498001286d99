import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import * as fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { runs } from "../../../test/runs.ts";
import { NetworkError } from "../../errors.ts";
import type { WatchEvent } from "../store.ts";
import { ConsulStore } from "./consul-store.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Something that listens where a consul should. */
const pretend = async (answer: RequestListener): Promise<ConsulStore> => {
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const store = await ConsulStore.open({
    address: `127.0.0.1:${(server.address() as AddressInfo).port}/p`,
    token: "secret-token",
    timeout: 150,
  });
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  closers.push(() => store.close());
  return store;
};

const session = "01234567-89ab-cdef-0123-456789abcdef";
/** Every question of the contract once; what it was refused with. */
const askAll = async (store: ConsulStore): Promise<void> => {
  const refusals = [
    store.get("a"),
    store.list(""),
    store.version(),
    store.lease(10_000).then(async (lease) => {
      await lease.renew();
      await lease.revoke();
    }),
  ];
  for (const reply of await Promise.allSettled(refusals)) {
    if (reply.status === "rejected") expect(reply.reason).toBeInstanceOf(NetworkError);
  }
  const checked = {
    checks: [{ key: "c", version: 3 }],
    puts: [{ key: "a", value: 1, lease: session }],
    deletes: ["b"],
  };
  const [result] = await Promise.allSettled([store.transact(checked)]);
  if (result.status === "rejected" && !(result.reason instanceof NetworkError)) {
    expect(result.reason).toMatchObject({
      name: "LostAnswer",
      message: expect.stringContaining("did not say what it did"),
    });
  } else if (result.status === "fulfilled" && !result.value.ok) {
    expect(result.value.conflicts).toEqual(["c"]);
  }
};

describe("a server that is no consul, or has gone mad", () => {
  // Shapes of consul's own answers, with anything in their places.
  const pair = fc.record(
    {
      Key: fc.oneof(fc.constantFrom("p/a", "p/.revision", "p/.log/001", `p/.leases/${session}`), fc.string()),
      Value: fc.oneof(
        fc
          .constantFrom('{"sequence":1,"id":"x"}', '{"sequence":1,"id":"x","after":"","puts":[]}', "7", "[")
          .map((text) => Buffer.from(text).toString("base64")),
        fc.anything(),
      ),
      ModifyIndex: fc.oneof(fc.nat(), fc.double(), fc.anything()),
      Session: fc.oneof(fc.constant(session), fc.anything()),
    },
    { requiredKeys: [] },
  );
  const what = fc.constantFrom(
    "index is stale",
    'key "p/x" doesn\'t exist',
    "invalid session",
    "Permission denied",
    "x",
  );
  const shaped = fc.oneof(
    fc.array(pair),
    fc.record({ Results: fc.array(fc.record({ KV: pair })), Errors: fc.constant(null) }),
    fc.record({
      Errors: fc.array(fc.record({ OpIndex: fc.oneof(fc.integer({ min: -1, max: 9 }), fc.anything()), What: what })),
    }),
    fc.record({ ID: fc.oneof(fc.constant(session), fc.string()) }),
    fc.anything(),
  );
  const text = fc.oneof(
    shaped.map((value) => {
      try {
        return JSON.stringify(value) ?? "";
      } catch {
        return "{";
      }
    }),
    fc.string({ unit: "binary" }),
    fc.constantFrom("", "No cluster leader", "null", "[]", "{}"),
  );
  const answer = fc.record({
    status: fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(200, 409) },
      fc.constantFrom(201, 204, 301, 400, 403, 404, 413, 429, 500, 503, 599),
    ),
    index: fc.oneof(fc.nat().map(String), fc.constantFrom("-1", "abc", "", "99999999999999999999", "NaN")),
    body: text,
  });

  it("is refused by typed errors only, and never believed", async () => {
    let answers: { status: number; index: string; body: string }[] = [];
    let at = 0;
    const store = await pretend((_request, response) => {
      const { status, index, body } = answers[at++ % answers.length] ?? { status: 500, index: "", body: "" };
      response.writeHead(status, { "x-consul-index": index });
      response.end(body);
    });
    await fc.assert(
      fc.asyncProperty(fc.array(answer, { minLength: 1, maxLength: 6 }), async (next) => {
        answers = next;
        at = 0;
        await askAll(store);
      }),
      { numRuns: runs(100) },
    );
  }, 60_000);

  it("does not end a watch, nor drive it to ask without pause", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(answer, { minLength: 1, maxLength: 6 }), async (answers) => {
        let at = 0;
        const store = await pretend((_request, response) => {
          const { status, index, body } = answers[at++ % answers.length] ?? { status: 500, index: "", body: "" };
          response.writeHead(status, { "x-consul-index": index });
          response.end(body);
        });
        const abort = new AbortController();
        const events: WatchEvent[] = [];
        const ended = (async () => {
          for await (const event of store.watch("", abort.signal)) events.push(event);
        })();
        await vi.waitFor(() => expect(events.length + Math.max(0, at - 6)).toBeGreaterThan(0), 10_000);
        abort.abort();
        await ended;
        for (const event of events) expect(["snapshot", "change", "lost"]).toContain(event.kind);
      }),
      { numRuns: runs(30) },
    );
  }, 60_000);

  it("or says nothing, or half of it, is given up within the time, and the token is in no message", async () => {
    const stores = [
      await pretend(() => undefined),
      await pretend((_request, response) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("[");
      }),
      await pretend((request) => request.socket.destroy()),
    ];
    const asked = stores.flatMap((store) => [store.get("a"), store.list(""), store.version(), store.lease(10_000)]);
    for (const result of await Promise.allSettled<unknown>(asked)) {
      expect(result).toMatchObject({ status: "rejected", reason: { code: "store-unavailable", kind: "no-service" } });
      const { reason } = result as PromiseRejectedResult;
      expect(JSON.stringify([String(reason), reason])).not.toContain("secret-token");
    }
  });

  it("without a leader has written nothing; with one that was lost meanwhile nobody knows", async () => {
    const bodies = [
      "No cluster leader",
      "rpc error making call: No cluster leader",
      "leadership lost while committing log",
    ];
    const errors: unknown[] = [];
    for (const body of bodies) {
      const store = await pretend((request, response) => {
        if (request.method === "GET") return void response.writeHead(404).end();
        response.writeHead(500).end(`${body}\n`);
      });
      errors.push(await store.transact({ puts: [{ key: "a", value: 1 }] }).catch((error: unknown) => error));
    }
    expect(errors).toMatchObject([
      { code: "store-unavailable" },
      { code: "store-unavailable" },
      { name: "LostAnswer" },
    ]);
  });
});
