import { describe, expect, it } from "vitest";
import type { Observed, ObservedLink } from "../linux/kernel.ts";
import { parseIp } from "../net/ip.ts";
import { parseInterfaceAddress, parsePrefix } from "../net/prefix.ts";
import { advertiseAddress } from "./advertise.ts";

const link = (name: string, ...addresses: readonly string[]): ObservedLink => ({
  index: 1,
  name,
  mtu: 1500,
  up: true,
  addresses: addresses.map((text) => parseInterfaceAddress(text)),
});
const route = (to: string, device: string, more: object = {}) => ({ to: parsePrefix(to), device, ...more });
const host = (links: readonly ObservedLink[], routes: Observed["routes"] = []): Observed => ({ links, routes });

const chosen = (configured: string | undefined, observed: Observed | undefined) => {
  const said: string[] = [];
  const { address, local } = advertiseAddress(configured, observed, (level, text) => said.push(`${level} ${text}`));
  return { address, local, said };
};
const lo = link("lo", "127.0.0.1/8", "::1/128");
const eth0 = link("eth0", "10.1.0.5/24", "2001:db8::5/64", "fe80::5/64");
const eth1 = link("eth1", "192.168.7.5/24");

describe("the advertise address", () => {
  it("is that of the default route's interface, the lowest metric first, IPv4 before IPv6", () => {
    const routes = [route("0.0.0.0/0", "eth1", { metric: 200 }), route("0.0.0.0/0", "eth0", { metric: 100 })];
    expect(chosen(undefined, host([lo, eth1, eth0], routes)).address).toBe("10.1.0.5");
    const six = [route("::/0", "eth0"), route("10.1.0.0/24", "eth0")];
    expect(chosen("", host([lo, eth1, eth0], six)).address).toBe("2001:db8::5");
  });

  it("is the source that the default route names", () => {
    const routes = [route("0.0.0.0/0", "eth0", { source: parseIp("10.1.0.6") })];
    expect(chosen(undefined, host([link("eth0", "10.1.0.5/24", "10.1.0.6/24")], routes)).address).toBe("10.1.0.6");
  });

  it("is the first global address without a default route, the loopback's with a warning without any", () => {
    expect(chosen(undefined, host([lo, { ...eth1, up: false }, eth0])).address).toBe("10.1.0.5");
    expect(chosen(undefined, host([lo, link("eth0", "fe80::5/64", "169.254.1.1/16")]))).toEqual({
      address: "127.0.0.1",
      local: true,
      said: ["warning this host has no address that others reach: 127.0.0.1 is advertised; set [cluster] Address"],
    });
    expect(chosen(undefined, undefined).address).toBe("127.0.0.1");
  });

  it("is what is configured: an address, this host's or not, or an interface", () => {
    const one = host([lo, eth0, eth1], [route("0.0.0.0/0", "eth0")]);
    expect(chosen("192.168.7.5", one)).toEqual({ address: "192.168.7.5", local: true, said: [] });
    expect(chosen("203.0.113.9", one)).toEqual({ address: "203.0.113.9", local: false, said: [] });
    expect(chosen("2001:DB8:0::5", one)).toMatchObject({ address: "2001:db8::5", local: true });
    expect(chosen("eth1", one).address).toBe("192.168.7.5");
    expect(chosen("lo", one).address).toBe("127.0.0.1");
  });

  it.each([
    ["eth9", 'invalid cluster.address: "eth9" is neither an address nor an interface of this host that has one'],
    ["0.0.0.0", "invalid cluster.address: 0.0.0.0 is no address that others can reach"],
    ["bare", 'invalid cluster.address: "bare" is neither an address nor an interface of this host that has one'],
    ["a; reboot\n", 'invalid cluster.address: "a; reboot\\n" is neither'],
  ])("%j is refused", (configured, text) => {
    expect(() => chosen(configured, host([lo, link("bare")]))).toThrow(text);
  });
});
