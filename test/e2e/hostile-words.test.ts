import { existsSync, readdirSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft, run, shell, sweep } from "../own-host.ts";
import { DaemonProcess, ok } from "./dnet.ts";

/** What clients, records and peers say never reaches a shell, a path, or another program's language. */

const canary = "/run/canary";
/** Each would make the canary where a shell, nft or a path took it for its own. */
const words: readonly string[] = [
  `$(touch ${canary})`,
  `\`touch ${canary}\``,
  `;touch ${canary};`,
  `x\ntouch ${canary}\n`,
  `' ; touch ${canary} ; '`,
  `" ; touch ${canary} ; "`,
  `&& touch ${canary} #`,
  `| touch ${canary}`,
  `-f ${canary}`,
  `--output=${canary}`,
  `../../../../..${canary}`,
  `${canary}`,
  `" }; flush ruleset; add table inet owned; #`,
  `web" ; add table inet owned`,
  "%s%n%x",
  "\u0000",
];

let daemon: DaemonProcess;
beforeAll(async () => {
  enterOwnHost();
  daemon = await DaemonProcess.start();
});
afterAll(async () => {
  expect(await daemon.stop()).toBe(0);
  sweep();
  expectNothingLeft();
});

const call = (method: string, path: string, body?: unknown): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const sent = request({ socketPath: "/run/dnet.sock", method, path }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });

const harmless = async (): Promise<void> => {
  expect(existsSync(canary)).toBe(false);
  expect(run("nft", "list", "tables")).not.toContain("owned");
  expect((await call("GET", "/networks")).status).toBe(200);
};

describe("CVE-2026-32241: words that a shell would obey", () => {
  it("in any field of any request are refused or kept as they are", async () => {
    const id = ok("network", "create", "web");
    for (const word of words) {
      const bodies: readonly (readonly [string, object])[] = [
        ["/networks", { name: word }],
        ["/networks", { name: "n", id: word }],
        ["/networks", { name: "n", network_type: word }],
        ["/networks", { name: "n", driver_opts: { [word]: word } }],
        ...[
          "com.docker.network.bridge.name",
          "com.docker.network.container_iface_prefix",
          "com.docker.network.bridge.trusted_host_interfaces",
          "com.docker.network.host_ipv4",
          "com.docker.network.driver.mtu",
        ].map((option) => ["/networks", { name: "n", driver_opts: { [option]: word } }] as const),
        [
          "/networks",
          {
            name: "n",
            ipv4_configuration: [{ PreferredPool: word, SubPool: word, Gateway: word, AuxAddresses: { [word]: word } }],
          },
        ],
        [`/networks/${id}/endpoints`, { name: word }],
        [`/networks/${id}/endpoints`, { name: "e", my_aliases: [word] }],
        ["/services", { name: word, network_name: "web" }],
        ["/services", { name: "s", network_name: word }],
        ["/sandboxes", { container_id: word }],
        ["/sandboxes", { container_id: "k", host_name: word }],
        ["/sandboxes", { container_id: "k", domain_name: word }],
        ["/sandboxes", { container_id: "k", dns: [word], dns_search: [word], dns_options: [word] }],
        ["/sandboxes", { container_id: "k", extra_hosts: [{ name: word, address: word }] }],
        ["/sandboxes", { container_id: "k", port_mapping: [{ Proto: 6, Port: 80, HostIP: word, HostPort: 80 }] }],
      ];
      for (const [path, body] of bodies) {
        const { status, text } = await call("POST", path, body);
        expect(status, `${path} ${JSON.stringify(body)}: ${text}`).toSatisfy(
          (code: number) => code === 201 || (code >= 400 && code < 500),
        );
        if (status !== 201) continue;
        // What was taken is one thing with that word in it, and goes again.
        const taken = `${path}/${JSON.parse(text)}`;
        expect((await call("DELETE", taken, path === "/services" ? {} : undefined)).status, taken).toBe(200);
      }
      for (const path of ["/networks", "/services", "/sandboxes", "/firewall/ports", `/networks/${id}/endpoints`])
        expect((await call("GET", `${path}/${encodeURIComponent(word)}`)).status).toSatisfy(
          (code: number) => code < 500,
        );
      await harmless();
    }
    ok("network", "rm", "web");
  }, 120_000);

  it("in labels come into no command that is shown, nor into the kernel", async () => {
    const labels = Object.fromEntries(
      words.filter((word) => !word.includes("\u0000")).map((word, n) => [`l${n}`, word]),
    );
    const { status, text } = await call("POST", "/networks", { name: "web", labels });
    if (status === 201) {
      const shown = (await call("GET", `/networks/${JSON.parse(text)}/explain`)).text;
      expect(shown).not.toContain(canary);
      expect(shell("ip -d link; nft list ruleset")).not.toContain(canary);
      ok("network", "rm", "web");
    } else expect(status).toBe(400);
    await harmless();
  });

  it("no source starts a shell, or a program by a line of text", () => {
    const root = new URL("../../src/", import.meta.url).pathname;
    const sources = readdirSync(root, { recursive: true, encoding: "utf8" }).filter(
      (name) => name.endsWith(".ts") && !name.endsWith(".test.ts"),
    );
    expect(sources.length).toBeGreaterThan(200);
    const guilty = sources.filter((name) => {
      const text = readFileSync(root + name, "utf8");
      const imported = /import \{([^}]*)\} from "node:child_process"/.exec(text)?.[1] ?? "";
      return (
        /\b(exec|execSync)\b/.test(imported) || /\bshell: *(true|["'`])/.test(text) || /sh", *"-e?c", *[`"$]/.test(text)
      );
    });
    expect(guilty).toEqual([]);
  });
});
