import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { eventually } from "../../test/fakes/eventually.ts";
import { type OpenControllerOptions, type Opened, openController } from "../../test/fakes/open-controller.ts";
import { NetworkError, noService } from "../errors.ts";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import type { StoreEntry } from "../store/store.ts";
import { FileCopy } from "./global-copy.ts";

/** Several controllers over one shared store, each with a local store and a kernel of its own. */

const opened: Opened[] = [];
const node = async (global: MemoryStore, options: OpenControllerOptions = {}): Promise<Opened> => {
  const one = await openController({ ...options, stores: { local: new MemoryStore(), global } });
  opened.push(one);
  return one;
};

afterEach(async () => {
  for (const { libnetwork } of opened.splice(0)) await libnetwork.close();
});

const refusal = async (work: Promise<unknown>): Promise<NetworkError> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof NetworkError)) throw new Error(`not refused: ${String(error)}`);
  return error;
};

const pair = async () => {
  const global = new MemoryStore();
  const [a, b] = [await node(global), await node(global)];
  const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "test" });
  return { global, a, b, network: id };
};

describe("what one node wrote", () => {
  it("is seen by a read on another that begins after it", async () => {
    const { a, b, network } = await pair();
    for (let n = 0; n < 20; n++) {
      const [writer, reader] = n % 2 === 0 ? [a, b] : [b, a];
      const { id } = await writer.libnetwork.createEndpoint(network, { name: `svc${n}` });
      expect(await reader.libnetwork.sync()).toBeUndefined();
      expect(reader.libnetwork.endpoint(id)).toMatchObject({ name: `svc${n}`, network: "multihost" });
      await writer.libnetwork.deleteEndpoint(id);
      await reader.libnetwork.sync();
      expect(reader.libnetwork.endpoints()).toEqual([]);
    }
  });

  it("7, moby 33795, moby 33402, moby 41576: names and addresses are the cluster's: none twice, the lowest free first", async () => {
    const { a, b, network } = await pair();
    const publish = (one: Opened, name: string) => one.libnetwork.createEndpoint(network, { name });
    const done = await Promise.allSettled(
      Array.from({ length: 40 }, (_, n) => publish(n % 2 === 0 ? a : b, `svc${n >> 1}`)),
    );
    const made = done.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    expect(made.map(({ name }) => name).sort()).toEqual(Array.from({ length: 20 }, (_, n) => `svc${n}`).sort());
    const addresses = made.flatMap((endpoint) => endpoint.addresses).sort();
    expect(addresses).toEqual(Array.from({ length: 20 }, (_, n) => `10.0.0.${n + 2}/24`).sort());
    for (const one of done)
      if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "endpoint-exists" });
  });

  it("a node that others are always ahead of gets an address all the same", async () => {
    const { global, a, b, network } = await pair();
    const transact = global.transact.bind(global);
    let ahead = 0;
    let inside = false;
    global.transact = async (transaction) => {
      // Before every attempt of b, a takes the address that b is about to.
      if (!inside && transaction.puts?.some(({ key }) => key.startsWith("global/endpoints/"))) {
        inside = true;
        await a.libnetwork.createEndpoint(network, { name: `ahead${ahead++}` });
        inside = false;
      }
      return transact(transaction);
    };
    const late = await b.libnetwork.createEndpoint(network, { name: "late" });
    await a.libnetwork.sync();
    expect(a.libnetwork.endpoint(late.id).addresses).toEqual(late.addresses);
    expect(ahead).toBeGreaterThan(1);
  });

  it("networks take turns for pools and names", async () => {
    const global = new MemoryStore();
    const nodes = [await node(global), await node(global), await node(global)];
    const made = await Promise.all(
      Array.from({ length: 12 }, (_, n) => nodes[n % 3]!.libnetwork.createNetwork({ name: `net${n}`, driver: "test" })),
    );
    const pools = made.flatMap(({ subnets }) => subnets.map(({ pool }) => pool)).sort();
    expect(pools).toEqual(Array.from({ length: 12 }, (_, n) => `10.0.${n}.0/24`).sort());
    const same = await Promise.allSettled(
      nodes.map(({ libnetwork }) => libnetwork.createNetwork({ name: "same", driver: "test" })),
    );
    expect(same.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });
});

describe("an attach that fails after another node took the endpoint away", () => {
  const failing = async (meanwhile: (all: Awaited<ReturnType<typeof pair>>, endpoint: string) => Promise<unknown>) => {
    const all = await pair();
    const endpoint = await all.a.libnetwork.createEndpoint(all.network, { name: "svc" });
    const sandbox = await all.a.libnetwork.createSandbox({ containerId: "container_0" });
    all.a.kernel.apply = async () => {
      await all.b.libnetwork.sync();
      await meanwhile(all, endpoint.id);
      const { libnetwork } = all.a;
      const isHere = () => libnetwork.endpoints().some(({ node }) => node === libnetwork.node);
      await eventually("the store has told it", () => !isHere());
      throw new Error("no veth today");
    };
    await expect(all.a.libnetwork.attach(endpoint.id, sandbox.id)).rejects.toThrow("no veth today");
    return { ...all, key: `global/endpoints/${all.network}/${endpoint.id}` };
  };

  it("does not bring it back", async () => {
    const { global, b, network } = await failing(({ b }, id) => b.libnetwork.deleteEndpoint(id, { force: true }));
    expect((await global.list("global/endpoint")).map(({ key }) => key)).toEqual([]);
    expect(await b.libnetwork.createEndpoint(network, { name: "svc" })).toMatchObject({ addresses: ["10.0.0.2/24"] });
  });

  it("does not take it from who has it now", async () => {
    const claim = { id: "f".repeat(64), node: "other", container: "c", interface: "eth0", order: 0, aliases: [] };
    const { global, key } = await failing(async ({ global, network }, id) => {
      const key = `global/endpoints/${network}/${id}`;
      const value = (await global.get(key))?.value as Record<string, never>;
      await global.transact({ puts: [{ key, value: { ...value, sandbox: claim } }] });
    });
    expect((await global.get(key))?.value).toMatchObject({ sandbox: claim });
  });
});

describe("an endpoint attached on one node", () => {
  const attached = async () => {
    const all = await pair();
    const endpoint = await all.a.libnetwork.createEndpoint(all.network, { name: "svc" });
    const sandbox = await all.a.libnetwork.createSandbox({ containerId: "container_0" });
    await all.a.libnetwork.attach(endpoint.id, sandbox.id);
    await all.b.libnetwork.sync();
    return { ...all, endpoint, sandbox };
  };

  it("is shown elsewhere without the container, which is that node's", async () => {
    const { a, b, endpoint, sandbox } = await attached();
    expect(a.libnetwork.endpoint(endpoint.id)).toMatchObject({ containerId: "container_0", sandboxId: sandbox.id });
    const { node: where, sandboxId, containerId } = b.libnetwork.endpoint(endpoint.id);
    expect({ where, sandboxId, containerId }).toEqual({ where: a.libnetwork.node });
    expect(b.naming.changes.at(-1)?.[0]?.sandbox?.container).toBe("container_0");
  });

  it("cannot be attached or unpublished elsewhere, and only one of many at once gets it", async () => {
    const { a, b, endpoint, network } = await attached();
    const other = await b.libnetwork.createSandbox({ containerId: "container_00" });
    expect(await refusal(b.libnetwork.attach(endpoint.id, other.id))).toMatchObject({
      status: 403,
      message: "another container is attached to the same network endpoint",
    });
    const error = await refusal(b.libnetwork.deleteEndpoint(endpoint.id));
    expect(error).toMatchObject({ status: 403, code: "active-containers" });
    expect(error.hint).toContain(`on node ${a.libnetwork.node}`);
    for (let n = 0; n < 10; n++) {
      const { id } = await a.libnetwork.createEndpoint(network, { name: `contested${n}` });
      await b.libnetwork.sync();
      const mine = await a.libnetwork.createSandbox({ containerId: `mine${n}` });
      const results = await Promise.allSettled([a.libnetwork.attach(id, mine.id), b.libnetwork.attach(id, other.id)]);
      expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
      const [lost] = results.flatMap((one) => (one.status === "rejected" ? [one.reason as NetworkError] : []));
      expect(lost?.message).toBe("another container is attached to the same network endpoint");
      await b.libnetwork.deleteEndpoint(id, { force: true });
      await a.libnetwork.sync();
    }
  });

  it("that is taken by force elsewhere leaves its sandbox, and its address is free", async () => {
    const { a, b, endpoint, sandbox, network } = await attached();
    await b.libnetwork.deleteEndpoint(endpoint.id, { force: true });
    await eventually(
      "the sandbox has lost its endpoint",
      () => a.libnetwork.sandbox(sandbox.id).endpoints.length === 0,
    );
    await eventually("said so", () => a.lines.some(({ message }) => message.includes("was taken from container")));
    const again = await a.libnetwork.createEndpoint(network, { name: "svc" });
    expect(again.addresses).toEqual(endpoint.addresses);
    await a.libnetwork.attach(again.id, sandbox.id);
  });
});

describe("a store that is away", () => {
  const away = async (global: MemoryStore) => {
    global.fault = () => {
      throw noService("store-unavailable", "the store does not answer");
    };
  };

  it("fails changes of global scope, says why, and leaves local ones and reads", async () => {
    const { global, a, network } = await pair();
    await away(global);
    expect(await refusal(a.libnetwork.createEndpoint(network, { name: "x" }))).toMatchObject({ status: 503 });
    expect(await a.libnetwork.sync()).toMatchObject({ reason: "the store does not answer" });
    expect(a.libnetwork.networks().map(({ name }) => name)).toContain("multihost");
    const { id } = await a.libnetwork.createNetwork({ name: "here", driver: "bridge" });
    const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
    await a.libnetwork.attach((await a.libnetwork.createEndpoint(id, { name: "c" })).id, sandbox.id);
    global.fault = () => undefined;
    await a.libnetwork.createEndpoint(network, { name: "x" });
    await vi.waitFor(async () => expect(await a.libnetwork.sync()).toBeUndefined(), 5_000);
  });

  it("of one's own, in the middle of a sandbox's removal: what is gone from the shared one has left the sandbox", async () => {
    const { a, network } = await pair();
    const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
    const endpoint = await a.libnetwork.createEndpoint(network, { name: "c" });
    await a.libnetwork.attach(endpoint.id, sandbox.id);
    let writes = 0;
    a.stores.local.fault = (point) => {
      if (point === "before-transact" && writes++ > 0)
        throw noService("store-unavailable", "the store does not answer");
    };
    a.naming.changes.length = 0;
    expect(await refusal(a.libnetwork.deleteSandbox(sandbox.id))).toMatchObject({ status: 503 });
    expect(a.libnetwork.sandbox(sandbox.id).endpoints).toEqual([]);
    expect(a.naming.changes).toEqual([[undefined, expect.objectContaining({ network })]]);
    a.stores.local.fault = () => undefined;
    // What has begun is told, and gone on with.
    expect((await a.libnetwork.diagnose([])).findings).toMatchObject([
      { code: "half-removed", subject: "container c" },
    ]);
    expect((await a.libnetwork.repair([])).after.findings).toEqual([]);
    expect(a.libnetwork.sandboxes()).toEqual([]);
  });

  it("in the middle of a sandbox's removal: what is gone from the store has left the sandbox, which stays", async () => {
    const { global, a, network } = await pair();
    const other = await a.libnetwork.createNetwork({ name: "other", driver: "test" });
    const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
    for (const id of [network, other.id]) {
      const endpoint = await a.libnetwork.createEndpoint(id, { name: "c" });
      await a.libnetwork.attach(endpoint.id, sandbox.id);
    }
    await a.libnetwork.sync();
    let removals = 0;
    global.fault = (point) => {
      if (point === "before-transact" && removals++ > 0) {
        throw noService("store-unavailable", "the store does not answer");
      }
    };
    a.naming.changes.length = 0;
    expect(await refusal(a.libnetwork.deleteSandbox(sandbox.id))).toMatchObject({ status: 503 });
    expect(a.libnetwork.sandbox(sandbox.id).endpoints).toHaveLength(1);
    expect(await refusal(a.libnetwork.deleteSandbox(sandbox.id))).toMatchObject({ status: 503 });
    // That it has begun is not forgotten where it is tried again in vain.
    const findings = (await a.libnetwork.diagnose([])).findings.filter(({ code }) => code === "half-removed");
    expect(findings).toHaveLength(1);
    // Its names are gone, and with them the interface.
    expect(a.naming.changes).toEqual([[undefined, expect.objectContaining({ network })]]);
    global.fault = () => undefined;
    await a.libnetwork.deleteSandbox(sandbox.id);
    expect(a.libnetwork.endpoints()).toEqual([]);
  });

  it("what is known is kept at once, for a start without it", async () => {
    const kept: string[] = [];
    const copy = {
      load: async () => [],
      save: () => undefined,
      flush: async (entries: readonly StoreEntry[]) => void kept.push(JSON.stringify(entries)),
    };
    const global = new MemoryStore();
    const watch = global.watch.bind(global);
    const gone = Promise.withResolvers<void>();
    global.watch = async function* (prefix, signal) {
      const events = watch(prefix, signal)[Symbol.asyncIterator]();
      const last = gone.promise.then(() => undefined);
      for (;;) {
        const next = await Promise.race([events.next(), last]);
        if (!next) break;
        if (next.done) return;
        yield next.value;
      }
      yield { kind: "lost", reason: "connection reset" };
      yield { kind: "lost", reason: "connection refused" };
    };
    const a = await node(global, { copy });
    const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "test" });
    await a.libnetwork.createEndpoint(id, { name: "svc" });
    await a.libnetwork.sync();
    expect(kept).toEqual([]);
    gone.resolve();
    await eventually("kept", () => kept.length > 0);
    expect(kept).toEqual([expect.stringContaining('"svc"')]);
  });

  it("at the start: what was last known is used, nothing is taken away, and all is put right when it is back", async () => {
    const directory = mkdtempSync(join(tmpdir(), "copy-"));
    try {
      const copy = new FileCopy(join(directory, "copy.json"), () => undefined);
      const global = new MemoryStore();
      const a = await node(global, { copy });
      const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "test" });
      const endpoint = await a.libnetwork.createEndpoint(id, { name: "svc" });
      const sandbox = await a.libnetwork.createSandbox({ containerId: "c" });
      await a.libnetwork.attach(endpoint.id, sandbox.id);
      await a.libnetwork.sync();
      await a.libnetwork.close();
      expect(readFileSync(join(directory, "copy.json"), "utf8")).toContain('"svc"');

      const gone = new MemoryStore();
      await away(gone);
      const lost = { kind: "lost", reason: "connection refused" } as const;
      const watch = gone.watch.bind(gone);
      const back = Promise.withResolvers<void>();
      gone.watch = async function* (prefix, signal) {
        yield lost;
        await back.promise;
        yield* watch(prefix, signal);
      };
      const again = await openController({ stores: { local: a.stores.local, global: gone }, kernel: a.kernel, copy });
      opened[opened.length - 1] = again;
      expect(again.libnetwork.endpoint(endpoint.id)).toMatchObject({ name: "svc", containerId: "c" });
      expect(again.naming.changes).toEqual([[expect.objectContaining({ name: "svc" }), undefined]]);
      expect(await again.libnetwork.sync()).toMatchObject({ reason: "connection refused" });
      expect(again.libnetwork.sandbox(sandbox.id).endpoints).toEqual([endpoint.id]);
      // The store comes back, and the endpoint was taken in the meantime.
      gone.fault = () => undefined;
      back.resolve();
      await eventually("in step", () => again.libnetwork.endpoints().length === 0);
      expect(again.libnetwork.networks().filter(({ scope }) => scope === "global")).toEqual([]);
      await eventually("unwired", () => again.libnetwork.sandbox(sandbox.id).endpoints.length === 0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

it("a node alone tells the names of global networks too when it starts", async () => {
  const a = await openController();
  opened.push(a);
  const { id } = await a.libnetwork.createNetwork({ name: "multihost", driver: "test" });
  await a.libnetwork.createEndpoint(id, { name: "svc" });
  await a.libnetwork.close();
  a.naming.changes.length = 0;
  await a.reopen();
  expect(a.naming.changes).toEqual([[expect.objectContaining({ name: "svc" }), undefined]]);
});

it("records that others wrote wrongly are ignored, and do no harm", async () => {
  const { global, a, network } = await pair();
  const id = "f".repeat(64);
  const good = (await global.get(`global/networks/${network}`))?.value as Record<string, never>;
  for (const [key, value] of [
    [`global/networks/${id}`, { ...good, id, scope: "local" }],
    [`global/networks/${id}`, { ...good, id, options: { x: 7 } }],
    [`global/endpoints/${network}/${id}`, { version: 1, id }],
    [`global/sandboxes/${id}`, { version: 1, id, container: "../../x" }],
    [`global/endpoints/x`, "nonsense"],
    ["global/", 1],
  ] as const) {
    await global.transact({ puts: [{ key, value }] });
    await a.libnetwork.sync();
  }
  expect(a.libnetwork.networks().filter(({ scope }) => scope === "global")).toHaveLength(1);
  expect(a.libnetwork.sandboxes()).toEqual([]);
  expect(a.libnetwork.endpoints()).toEqual([]);
  const { addresses } = await a.libnetwork.createEndpoint(network, { name: "ok", addresses: [parseIp("10.0.0.9")] });
  expect(addresses).toEqual([`${parsePrefix("10.0.0.9/32").replace("/32", "")}/24`]);
});
