import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import type { DriverEndpoint } from "../../src/drivers/driver.ts";
import { option } from "../../src/drivers/options.ts";
import { endpointOf, hostOf, type LanHost, overlayNetwork, useLan, wire } from "./lan.ts";

const hosts = useLan(3);
const program = new URL("./datagram.cjs", import.meta.url).pathname;
const a = endpointOf("a", "10.0.3.2/24");
const b = endpointOf("b", "10.0.3.3/24");
const c = endpointOf("c", "10.0.3.4/24");

/** Listens in a sandbox; `next` is the next datagram that arrives there. */
const listen = async (host: LanHost, endpoint: DriverEndpoint, group: string) => {
  const address = endpoint.addresses[0]?.replace(/\/.*/, "") ?? "";
  const child = host.start(endpoint, process.execPath, program, "listen", group, "5353", address);
  if (!child.stdout) throw new Error("no output");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe("ready");
  return {
    next: async () => (await lines.next()).value as string,
    stop: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
};

const send = (host: LanHost, endpoint: DriverEndpoint, to: string, hex: string): void => {
  const address = endpoint.addresses[0]?.replace(/\/.*/, "") ?? "";
  host.in(endpoint, process.execPath, program, "send", to, "5353", address, hex);
};

describe.each(["224.0.0.251", "10.0.3.255"])("datagrams to %s", (group) => {
  it("ln 552: reach every host that has the network, where the option is on", async () => {
    const network = overlayNetwork("loud", 400, ["10.0.3.0/24"], { options: { [option.multicast]: "true" } });
    const [one, two, three] = [hostOf(hosts, 1), hostOf(hosts, 2), hostOf(hosts, 3)];
    await wire(network, [
      [one, a],
      [two, b],
      [three, c],
    ]);
    const [there, further] = [await listen(two, b, group), await listen(three, c, group)];
    send(one, a, group, "c0ffee");
    expect(await there.next()).toBe("c0ffee");
    expect(await further.next()).toBe("c0ffee");
    // A host that no longer has it gets nothing more; the other one does. What is sent to it alone comes after.
    await one.tellHosts(network, [three], [two.host.vtep]);
    send(one, a, group, "decade");
    send(one, a, "10.0.3.3", "0dd0");
    expect(await further.next()).toBe("decade");
    expect(await there.next()).toBe("0dd0");
    await there.stop();
    await further.stop();
  });

  it("stay here where it is off", async () => {
    const network = overlayNetwork("quiet", 401, ["10.0.3.0/24"]);
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await wire(network, [
      [one, a],
      [one, c],
      [two, b],
    ]);
    const [here, there] = [await listen(one, c, group), await listen(two, b, group)];
    send(one, a, group, "c0ffee");
    expect(await here.next()).toBe("c0ffee");
    send(one, a, "10.0.3.3", "0dd0");
    expect(await there.next()).toBe("0dd0");
    await here.stop();
    await there.stop();
  });
});
