import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import { portsClear, portsRuleset } from "../../src/linux/firewall-ports.ts";
import { parseIp } from "../../src/net/ip.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { at, inject, Lab, Neighbour } from "./firewall-lab.ts";
import { ethernet, sctpInit } from "./frames.ts";

/**
 * NAT of SCTP needs no sockets of it: packets made by hand go the way of a published port, whether this kernel has the protocol or not. To
 * hold the port takes a kernel that has it; `ports.test.ts` says what happens without.
 */

let lab: Lab;
let neighbour: Neighbour;

beforeAll(async () => {
  enterOwnHost();
  neighbour = new Neighbour();
  await neighbour.connect();
  lab = await Lab.open();
});
afterAll(async () => {
  await lab.close();
  await neighbour.close();
  expectNothingLeft();
});

it("an SCTP port of the host leads to a sandbox's port, and no other does", async () => {
  const network = await lab.network("web");
  const sandbox = await lab.sandbox("c1", network);
  const address = sandbox.addresses.web?.[4] ?? "";
  const table = "sctp_ports";
  const load = (script: string) => execFileSync("nft", ["-f", "-"], { input: script });
  load(
    portsRuleset(table, [
      {
        protocol: "sctp",
        hostPort: 9000,
        port: 80,
        count: 1,
        to: parseIp(address),
        subnet: parsePrefix("10.77.1.0/24"),
      },
    ]),
  );
  at(
    sandbox,
    "nft",
    "add table ip seen; add chain ip seen in { type filter hook input priority 0; }; add rule ip seen in ip protocol sctp counter",
  );
  at(
    sandbox,
    "nft",
    `add rule ip seen in ip saddr ${neighbour.addresses[4]} ip daddr ${address} sctp dport 80 counter comment "led on"`,
  );
  const seen = () =>
    [...at(sandbox, "nft", "list", "table", "ip", "seen").matchAll(/packets (\d+)/g)].map(([, n]) => Number(n));
  const send = (port: number) =>
    inject(
      neighbour,
      "eth0",
      ethernet(
        neighbour.hostMac(),
        "02:00:00:00:00:99",
        0x0800,
        sctpInit(neighbour.addresses[4], neighbour.host[4], port),
      ),
    );
  send(9001);
  send(9000);
  await eventually("it arrives", () => (seen()[1] ?? 0) > 0);
  expect(seen()).toEqual([1, 1]);
  load(portsClear(table));
});
