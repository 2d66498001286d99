import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { FakeKernel } from "../../test/fakes/fake-kernel.ts";
import { sandboxFiles } from "../dns/files.ts";
import { NameTable } from "../dns/name-table.ts";
import { HostUpstreams } from "../dns/upstreams.ts";
import { SparseAddressSet } from "../ipam/default/sparse-address-set.ts";
import type { InterfaceAddress } from "../net/prefix.ts";
import { MemoryStore } from "../store/memory/memory-store.ts";
import { SandboxNaming } from "./naming.ts";
import { type EndpointRecord, keys, type SandboxRecord } from "./records.ts";
import { State } from "./state.ts";

it("refuses a new sandbox whose hosts file cannot be written; for one that runs it only warns", async () => {
  const directory = mkdtempSync(join(tmpdir(), "dnet-naming-"));
  const store = new MemoryStore();
  const lines: string[] = [];
  let failing = false;
  const naming = new SandboxNaming({
    state: new State({ stores: { local: store, global: store }, newAddressSet: () => new SparseAddressSet() }),
    kernel: new FakeKernel(),
    directory,
    namespaceOf: () => "host",
    hostUpstreams: new HostUpstreams({ path: join(directory, "none") }),
    files: {
      ...sandboxFiles,
      write: (path, text) => (failing ? Promise.reject(new Error("EIO")) : sandboxFiles.write(path, text)),
    },
    log: (level, message) => lines.push(`${level} ${message}`),
  });
  const sandbox: SandboxRecord = {
    ...{ version: 1, id: "5".repeat(64), container: "c1", hostName: "", domainName: "", host: true },
    ...{ dns: [], dnsSearch: [], dnsOptions: [], extraHosts: [], created: new Date().toISOString() },
    hostsPath: join(directory, "nosuch", "hosts"),
  };
  await naming.prepare(sandbox);
  await expect(naming.open(sandbox, undefined, true)).rejects.toMatchObject({
    kind: "bad-request",
    code: "invalid-path",
    message: expect.stringContaining("invalid path of hosts: ENOENT") as string,
  });
  expect(lines).toEqual([]);
  await naming.open(sandbox);
  expect(lines).toEqual([expect.stringContaining("warning could not write")]);
  expect(readFileSync(join(directory, sandbox.id, "resolv.conf"), "utf8")).toBe("");
  // A change that does not get into the file is a difference until it is written again.
  const kept: SandboxRecord = { ...sandbox, id: "6".repeat(64), hostsPath: join(directory, "hosts") };
  await naming.prepare(kept);
  await naming.open(kept);
  expect(await naming.examine(kept)).toEqual([]);
  failing = true;
  await naming.close(kept);
  await naming.open(kept);
  expect(await naming.examine(kept)).toEqual([]);
  writeFileSync(join(directory, "hosts"), "old\n");
  await naming.close(kept);
  await naming.open(kept);
  expect(await naming.examine(kept)).toContainEqual({
    part: "hosts",
    what: `${join(directory, "hosts")} is out of date: it could not be written: EIO`,
  });
  failing = false;
  await naming.close(kept);
  await naming.open(kept);
  expect(await naming.examine(kept)).toEqual([]);
  await naming.closeAll();
  rmSync(directory, { recursive: true });
});

it("names follow the record that is, whatever older one is told of late", async () => {
  const store = new MemoryStore();
  const state = new State({ stores: { local: store, global: store }, newAddressSet: () => new SparseAddressSet() });
  const network = "1".repeat(64);
  const published: EndpointRecord = {
    ...{ id: "2".repeat(64), name: "web", network, addresses: ["10.0.0.2/24" as InterfaceAddress], aliases: [] },
    ...{ version: 1, options: {}, created: "2026-11-25T00:00:00.000Z" },
  };
  const sandbox = { id: "3".repeat(64), node: "00000001", container: "c", interface: "eth0", order: 0, aliases: [] };
  const attached: EndpointRecord = { ...published, sandbox };
  const table = new NameTable();
  const naming = new SandboxNaming({
    ...{
      state,
      table,
      kernel: new FakeKernel(),
      directory: "/nowhere",
      namespaceOf: () => "host",
      log: () => undefined,
    },
    ...{ hostUpstreams: new HostUpstreams({ path: "/nowhere" }) },
  });
  const key = keys.endpoint(network, attached.id);
  await state.commit("local", { puts: [{ key, value: attached }] });
  await naming.changed(attached, published);
  await naming.changed(published, undefined);
  expect(table.addressesOf(network, "web")).toEqual(["10.0.0.2"]);
  await state.commit("local", { deletes: [key] });
  await naming.changed(undefined, attached);
  await naming.changed(attached, published);
  expect(table.addressesOf(network, "web")).toBeUndefined();
});
