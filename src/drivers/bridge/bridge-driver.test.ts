import { describe, expect, it } from "vitest";
import { describe as commandOf } from "../../linux/describe.ts";
import type { Plan } from "../../linux/plan.ts";
import { parseMac } from "../../net/mac.ts";
import { parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import type { DriverEndpoint, DriverNetwork } from "../driver.ts";
import { option } from "../options.ts";
import { bridgeDriver } from "./bridge-driver.ts";

const driver = bridgeDriver();
const id = "0123456789ab".padEnd(64, "c");
const four = { pool: parsePrefix("172.18.0.0/16"), gateway: parseInterfaceAddress("172.18.0.1/16") };
const six = { pool: parsePrefix("fd00:18::/64"), gateway: parseInterfaceAddress("fd00:18::1/64") };
const network = (more: Partial<DriverNetwork> = {}): DriverNetwork => ({
  id,
  name: "web",
  mark: `dnet:0badcafe:${id}`,
  internal: false,
  ipv6: false,
  options: {},
  subnets: [four],
  ...more,
});
const endpoint = (more: Partial<DriverEndpoint> = {}): DriverEndpoint => {
  const own = "fedcba987654".padEnd(64, "3");
  return {
    id: own,
    name: "db",
    mark: `dnet:0badcafe:${own}`,
    addresses: [parseInterfaceAddress("172.18.0.2/16")],
    mac: parseMac("02:42:ac:12:00:02"),
    options: {},
    ...more,
  };
};
const sandbox = { id: "5".repeat(64), namespace: "/var/run/docker/netns/555555555555", interfaceName: "eth0" };
const dual = network({ ipv6: true, subnets: [four, six] });
const dualEndpoint = endpoint({
  addresses: [parseInterfaceAddress("172.18.0.2/16"), parseInterfaceAddress("fd00:18::2/64")],
});
const full = network({ options: { [option.bridgeName]: "mybr0", [option.mtu]: "1400", [option.icc]: "false" } });

const text = (plan: Plan): string => `${plan.map(commandOf).join("\n")}\n`;

/** The plans as the commands that they are equivalent to; `vitest -u` writes them anew: read the difference. */
describe("plans", () => {
  it.each([
    ["network", driver.createNetwork(network())],
    ["network-delete", driver.deleteNetwork(network())],
    ["network-internal", driver.createNetwork(network({ internal: true }))],
    ["network-dual-stack", driver.createNetwork(dual)],
    ["network-all-options", driver.createNetwork(full)],
    ["attach", driver.attach(network(), endpoint(), sandbox).attach],
    ["attach-dual-stack", driver.attach(dual, dualEndpoint, sandbox).attach],
    ["attach-all-options", driver.attach(full, endpoint(), sandbox).attach],
    ["detach", driver.attach(network(), endpoint(), sandbox).detach],
  ] as const)("%s", async (name, plan) => {
    expect(Object.isFrozen(plan) && plan.every(Object.isFrozen)).toBe(true);
    await expect(text(plan)).toMatchFileSnapshot(`../../../test/golden/plans/bridge-${name}.txt`);
  });
});

describe("options", () => {
  it.each([
    [{ [option.mtu]: "67" }, "not between 68 and 65535"],
    [{ [option.mtu]: "1e3" }, "not between 68 and 65535"],
    [{ [option.bridgeName]: "a/b" }, "not an interface name"],
    [{ [option.bridgeName]: "x".repeat(16) }, "not an interface name"],
    [{ [option.bridgeName]: "all" }, "not an interface name"],
    [{ [option.bridgeName]: "default" }, "not an interface name"],
    [{ [option.icc]: "yes" }, "not true or false"],
    [{ [option.hostBindingIpv4]: "everywhere" }, "not an IPv4 address"],
    [{ [option.hostBindingIpv4]: "::1" }, "not an IPv4 address"],
    [{ nosuch: "1" }, 'unknown option "nosuch" for driver bridge'],
    [{ [option.gatewayModeIpv4]: "bridged" }, "is not one of nat, nat-unprotected, routed, isolated"],
    [{ [option.gatewayModeIpv6]: "isolated" }, "gateway mode isolated is for internal networks only"],
    [{ [option.hostIpv4]: "2001:db8::1" }, "not an IPv4 address"],
    [{ [option.hostIpv6]: "10.0.0.1" }, "not an IPv6 address"],
    [{ [option.hostBindingIpv4]: "everywhere" }, "not an IPv4 address"],
    [{ [option.inhibitIpv4]: "maybe" }, "not true or false"],
    [{ [option.trustedInterfaces]: "eth0:../x" }, '"../x" is not an interface name'],
    [{ [option.ifacePrefix]: "abcdefghijklm" }, "does not do"],
    [{ EnableICC: "false", [option.icc]: "true" }, "it is given twice"],
  ])("%j is refused by name", (options, reason) => {
    expect(() => driver.checkNetwork(network({ options: options as Record<string, string> }))).toThrow(reason);
  });

  it("an MTU that carries no IPv6 is refused where there is IPv6, and leaves its sysctls alone where not", () => {
    const small = { [option.mtu]: "1279" };
    expect(() => driver.checkNetwork(network({ ipv6: true, options: small }))).toThrow("IPv6 needs 1280 at least");
    expect(driver.checkNetwork(network({ ipv6: true, options: { [option.mtu]: "1280" } }))).toBeDefined();
    expect(text(driver.createNetwork(network({ options: small })))).not.toContain("ipv6");
  });

  it.each([
    ["enable_icc", option.icc],
    ["com.docker.network.bridge.gateway_mode_ipv", option.gatewayModeIpv4],
    ["mtu", option.mtu],
  ])("%s may have been meant as another", (name, meant) => {
    const unknown = network({ options: { [name]: "1" } });
    expect(() => driver.checkNetwork(unknown)).toThrow(
      expect.objectContaining({ code: "unknown-option", hint: expect.stringContaining(`did you mean ${meant}?`) }),
    );
  });

  it("has the original's old names for some", () => {
    const old = network({ options: { BridgeName: "docker0", EnableICC: "false", Mtu: "1400" } });
    expect(driver.checkNetwork(old)).toEqual({
      [option.bridgeName]: "docker0",
      [option.icc]: "false",
      [option.mtu]: "1400",
    });
  });

  it("isolated and inhibited networks give the bridge no address", () => {
    const devices = (more: Partial<DriverNetwork>) =>
      driver.createNetwork(network({ subnets: [four, six], ipv6: true, ...more })).flatMap((operation) => {
        return operation.op === "address.add" ? [operation.address] : [];
      });
    const isolated = { internal: true, options: { [option.gatewayModeIpv4]: "isolated" } };
    expect(devices({})).toEqual(["172.18.0.1/16", "fd00:18::1/64"]);
    expect(devices(isolated)).toEqual(["fd00:18::1/64"]);
    expect(devices({ options: { [option.inhibitIpv4]: "true" } })).toEqual(["fd00:18::1/64"]);
  });

  it("ports lead to networks with a way out, bound to the address of their choice", () => {
    const publish = (given: Partial<DriverNetwork>) => driver.attach(network(given), endpoint(), sandbox).publish;
    const bound = (address: string) => ({ options: { [option.hostBindingIpv4]: address } });
    expect(publish({})).toEqual({});
    expect(publish(bound("192.0.2.1"))).toEqual({ hostAddress: "192.0.2.1" });
    expect(publish(bound("0.0.0.0"))).toEqual({});
    expect(publish({ internal: true })).toBeUndefined();
  });

  it("internal networks give no gateway, others one a family", () => {
    expect(driver.attach(network({ internal: true }), endpoint(), sandbox).gateways).toEqual([]);
    expect(driver.attach(dual, dualEndpoint, sandbox).gateways).toEqual(["172.18.0.1", "fd00:18::1"]);
  });
});
