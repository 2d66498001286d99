import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { redirectScript } from "../linux/redirect.ts";
import { redirectTable, resolverRedirect } from "./redirect.ts";

/** Runs a script in a network namespace that ends with the process. */
const inNamespace = (script: string, input = ""): string => {
  const run = spawnSync("unshare", ["-n", "sh", "-ec", script], { input, encoding: "utf8" });
  expect(run.stderr).toBe("");
  expect(run.status).toBe(0);
  return run.stdout;
};

describe("the redirect to the resolver, in the kernel", () => {
  it("is accepted, and the last load counts", () => {
    const list = `nft -f -; nft list table ip ${redirectTable}`;
    const script = redirectScript(resolverRedirect(40_001, 40_002));
    const once = inNamespace(list, script);
    expect(once).toContain("ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40001");
    expect(inNamespace(list, redirectScript(resolverRedirect(1, 2)) + script)).toBe(once);
  });

  it("leads port 53 to the resolver over UDP and TCP, and leaves port 53 to others", () => {
    const program = `
      const { Resolver } = await import(${JSON.stringify(join(import.meta.dirname, "resolver.ts"))});
      const { NameTable } = await import(${JSON.stringify(join(import.meta.dirname, "name-table.ts"))});
      const { resolverRedirect } = await import(${JSON.stringify(join(import.meta.dirname, "redirect.ts"))});
      const { redirectScript } = await import(${JSON.stringify(join(import.meta.dirname, "../linux/redirect.ts"))});
      const { spawn, spawnSync } = await import("node:child_process");
      const table = new NameTable();
      table.set("n", "e", { names: ["web"], addresses: ["172.19.0.2"] });
      const view = table.view({ networks: [{ id: "n", name: "front", subnets: [] }], aliases: [], addresses: [] });
      const at = { address: "127.0.0.11", port: 0 };
      const resolver = await Resolver.open({ udp: at, tcp: at, view, upstreams: () => undefined });
      const other = (await import("node:dgram")).createSocket("udp4");
      await new Promise((resolve) => other.bind(53, "0.0.0.0", resolve));
      spawnSync("nft", ["-f", "-"], { input: redirectScript(resolverRedirect(resolver.udpPort, resolver.tcpPort)), stdio: ["pipe", 2, 2] });
      const dig = (...more) => new Promise((resolve) => {
        const args = ["@127.0.0.11", "+short", "+tries=1", "+time=3", "web.front", ...more];
        spawn("dig", args, { stdio: ["ignore", "inherit", "inherit"] }).on("exit", resolve);
      });
      await dig();
      await dig("+tcp");
      other.close();
      await resolver.close();
    `;
    const run = `ip link set lo up; '${process.execPath}' --no-warnings --input-type=module`;
    expect(inNamespace(run, program)).toBe("172.19.0.2\n172.19.0.2\n");
  });
});
