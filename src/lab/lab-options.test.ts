import { describe, expect, it } from "vitest";
import { parseConfig } from "../daemon/config.ts";
import { hostAddress, macOf } from "./addresses.ts";
import { checkLabName, daemonConfig, planLab } from "./lab-options.ts";

describe("planLab", () => {
  it("fills in what is not said", () => {
    expect(planLab({})).toEqual({ name: "lab", hosts: 3, store: "etcd", port: 41000, daemon: {}, cluster: {} });
    expect(planLab({ store: "embedded-single" }).hosts).toBe(1);
  });

  it.each([
    [{ hosts: 0 }, "1 to 32 hosts, not 0"],
    [{ hosts: 33 }, "1 to 32 hosts, not 33"],
    [{ hosts: 1.5 }, "1 to 32 hosts, not 1.5"],
    [{ port: 0 }, "0 is no port"],
    [{ port: 65_534, hosts: 3 }, "65534 is no port"],
    [{ store: "embedded-single", hosts: 2 }, "--hosts 1"],
    [{ store: "zookeeper" as "etcd" }, 'unknown store "zookeeper"'],
    [{ name: "" }, "invalid name"],
  ] as const)("refuses %j", (options, text) => {
    expect(() => planLab(options)).toThrow(text);
  });

  it.each(["..", ".hidden", "a/b", "A", "-a", "a b", "a".repeat(33), "a\n"])("refuses the name %j", (name) => {
    expect(() => checkLabName(name)).toThrow("invalid name of a lab");
  });
});

describe("the configuration of a host", () => {
  it.each(["consul", "etcd"] as const)("names the %s store, and is what the daemon understands", (store) => {
    const plan = planLab({ store, cluster: { serf: false }, daemon: { firewall: "none" } });
    const config = parseConfig(daemonConfig(plan, 2), "dnet.toml");
    const address = `172.17.0.2:${store === "consul" ? 8500 : 2379}/dnet`;
    expect(config.cluster).toEqual({
      discovery: `${store}://${address}`,
      address: "172.17.0.4",
      heartbeat: 10,
      serf: false,
    });
    expect(config.scopes?.global?.client).toEqual({ provider: store, address });
    expect(config.daemon).toEqual({ debug: true, firewall: "none" });
  });

  it("has no cluster where one host is alone", () => {
    const config = parseConfig(daemonConfig(planLab({ store: "embedded-single" }), 1), "dnet.toml");
    expect(config).toEqual({ daemon: { debug: true } });
  });

  it("names the other hosts where there is no store", () => {
    const config = parseConfig(daemonConfig(planLab({ store: "storeless" }), 2), "dnet.toml");
    expect(config).toEqual({
      daemon: { debug: true },
      orchestration: { agent: true, bind: "172.17.0.4", peer: "172.17.0.3,172.17.0.5" },
    });
    expect(daemonConfig(planLab({ store: "storeless", hosts: 1 }), 1)).not.toContain("peer");
  });

  it("quotes what it is given", () => {
    const text = 'a"b\\c\n[x]';
    const plan = planLab({ daemon: { defaultNetwork: text } });
    expect(parseConfig(daemonConfig(plan, 1), "dnet.toml").daemon?.defaultNetwork).toBe(text);
  });
});

it("gives the n-th host the address after gateway and store, and a MAC that shows it", () => {
  expect([hostAddress(1), hostAddress(32)]).toEqual(["172.17.0.3", "172.17.0.34"]);
  expect(macOf("172.17.0.34")).toBe("02:42:ac:11:00:22");
});
