import { expect, it } from "vitest";
import { openController } from "../../test/fakes/open-controller.ts";
import { runs } from "../../test/runs.ts";
import { describe as commandOf } from "../linux/describe.ts";
import type { Json } from "../store/store.ts";

/** Every value with one of its strings, or one of its keys, replaced by the word: one at a time. */
function* replaced(value: Json, word: string): Generator<Json> {
  if (typeof value === "string") yield word;
  else if (Array.isArray(value)) {
    for (const [n, item] of value.entries())
      for (const other of replaced(item, word)) yield value.map((each, at) => (at === n ? other : each));
  } else if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      for (const other of replaced(item, word)) yield { ...value, [key]: other };
      const { [key]: _gone, ...rest } = value as Record<string, Json>;
      yield { ...rest, [word]: item };
    }
  }
}

it("CVE-2026-32241: no word of a record that others wrote comes into a kernel operation, a path or a command", async () => {
  const opened = await openController();
  const { libnetwork, kernel, stores } = opened;
  const network = await libnetwork.createNetwork({ name: "net", ipv6: true, labels: { a: "b" } });
  const endpoint = await libnetwork.createEndpoint(network.id, { name: "svc", aliases: ["al"] });
  const sandbox = await libnetwork.createSandbox({ containerId: "c1", hostName: "h", domainName: "d" });
  await libnetwork.attach(endpoint.id, sandbox.id);
  await libnetwork.close();
  const records = (await stores.local.list("local/")).map(({ key, value }) => ({ key, value }));
  expect(records.length).toBeGreaterThan(5);
  let tried = 0;
  const words = ["$(touch /canary)", "x; flush ruleset; canary", "../../canary", "canary\n#"];
  for (const { key, value } of records) {
    for (const word of words.slice(0, runs(words.length))) {
      for (const hostile of replaced(value, word)) {
        await stores.local.transact({ puts: [{ key, value: hostile }] });
        const from = kernel.applied.length;
        // It starts, or says why not: nothing else.
        const running = await opened.reopen().catch((error: unknown) => void expect(error).toBeInstanceOf(Error));
        await running?.diagnose([]);
        await running?.close();
        const done = kernel.applied.slice(from);
        expect(JSON.stringify(done), `${key} ${JSON.stringify(hostile)}`).not.toContain("canary");
        expect(done.map(commandOf).join("\n")).not.toContain("canary");
        await stores.local.transact({ puts: [{ key, value }] });
        tried++;
      }
    }
  }
  expect(tried).toBeGreaterThan(runs(100));
  await opened.reopen();
  expect((await opened.libnetwork.diagnose([])).findings).toEqual([]);
  await opened.libnetwork.close();
});
