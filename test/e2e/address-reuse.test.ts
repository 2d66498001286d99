import { afterAll, beforeAll, expect, it } from "vitest";
import { parseIp } from "../../src/net/ip.ts";
import { parseMac } from "../../src/net/mac.ts";
import { enterOwnHost, eventually, expectNothingLeft } from "../own-host.ts";
import { at, here, Lab, pings } from "./firewall-lab.ts";

let lab: Lab;

beforeAll(async () => {
  enterOwnHost();
  lab = await Lab.open();
});
afterAll(async () => {
  await lab.close();
  expectNothingLeft();
});

it("41: an address that moves to another interface is known there at once, by peers and by the host", async () => {
  const network = await lab.network("web");
  const addresses = ["10.77.1.50", "fd00:77:1::50"];
  const peer = await lab.sandbox("peer", network);
  for (let n = 1; n <= 10; n++) {
    const mac = parseMac(`02:00:00:00:00:${n.toString(16).padStart(2, "0")}`);
    const endpoint = await lab.libnetwork.createEndpoint(network.id, {
      name: "moving",
      addresses: addresses.map((a) => parseIp(a)),
      mac,
    });
    const { id } = await lab.libnetwork.createSandbox({ containerId: "moving" });
    await lab.libnetwork.attach(endpoint.id, id);
    for (const address of addresses) {
      for (const [name, place] of Object.entries({ peer, here })) {
        const known = () => at(place, "ip", "neigh", "show", address);
        if (n === 1) expect(await pings(place, address, true)).toBe(true);
        await eventually(`${name} knows ${address} at ${mac}: ${n}`, () => known().includes(mac), 30_000);
      }
    }
    await lab.libnetwork.deleteSandbox(id);
  }
});
