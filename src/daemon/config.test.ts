import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { NetworkError } from "../errors.ts";
import { parseConfig } from "./config.ts";

const file = (name: string) => readFileSync(new URL(`../../cmd/dnet/${name}`, import.meta.url), "utf8");
const error = (source: string): string => {
  try {
    parseConfig(source, "x.toml");
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(NetworkError);
    return (thrown as Error).message;
  }
  throw new Error("accepted");
};

describe("configuration", () => {
  it("of the walk-through is read, whatever the case of its keys", () => {
    expect(parseConfig(file("libnetwork-consul.toml"), "x")).toEqual({
      title: "LibNetwork Configuration file",
      daemon: { debug: true },
      cluster: { discovery: "consul://172.17.0.1:8500/custom_prefix", heartbeat: 10 },
      scopes: { global: { client: { provider: "consul", address: "172.17.0.1:8500/custom_prefix" } } },
    });
    expect(parseConfig(file("libnetwork.toml"), "x")).toMatchObject({ daemon: { debug: false } });
    expect(parseConfig('[daemon]\n  debug = true\n  dataDir = "/tmp/dnet1"\n', "x").daemon?.dataDir).toBe("/tmp/dnet1");
    expect(
      parseConfig('[Daemon]\nDATADIR="/d"\nDefaultNetwork="n"\nDefaultDriver="test"\nLabels=["a=b"]\n', "x").daemon,
    ).toEqual({ dataDir: "/d", defaultNetwork: "n", defaultDriver: "test", labels: ["a=b"] });
    expect(parseConfig("", "x")).toEqual({});
  });

  it.each([
    ["this is not toml\n", /^Error parsing config x\.toml, line 1: /],
    [
      '[daemon]\ndebug = "yes"\n',
      "Error parsing config x.toml, line 2: daemon.debug: Invalid input: expected boolean, received string",
    ],
    [
      "[daemon]\n\ndebgu = true\n",
      "Error parsing config x.toml, line 3: daemon.debgu: unknown key; did you mean debug?",
    ],
    ["[nosuch]\n", "Error parsing config x.toml, line 1: nosuch: unknown key"],
    [
      '[daemon]\ndataDir = "relative"\n',
      "Error parsing config x.toml, line 2: daemon.dataDir: must be an absolute path without ..",
    ],
    ['[daemon]\nexecRoot = "/a/../b"\n', /line 2: daemon\.execRoot: must be an absolute path/],
    ["[cluster]\nHeartbeat = 0\n", /line 2: cluster\.heartbeat: /],
    ['[daemon]\nfirewall = "iptables"\n', /line 2: daemon\.firewall: /],
    [
      '[scopes.global.client]\nprovider = "zookeeper"\naddress = "x"\n',
      "Error parsing config x.toml, line 2: scopes.global.client.provider: unknown provider; there are consul and etcd",
    ],
    [
      '[cluster]\ndiscovery = "zk://127.0.0.1:2181"\n',
      /line 2: cluster\.discovery: "zk:\/\/127\.0\.0\.1:2181": it begins with one of consul:\/\/, etcd:\/\/, nodes:\/\/, file:\/\/$/,
    ],
    ['[cluster]\nencrypt = "c2VjcmV0"\n', /line 2: cluster\.encrypt: it is not base64 of 16, 24 or 32 bytes$/],
    ["[cluster]\nserfRpcPort = 0\n", /line 2: cluster\.serfRpcPort: /],
    ['[orchestration]\npeer = "a b"\n', /line 2: orchestration\.peer: .*"a b" is not of the form host or host:port$/],
    [
      '[orchestration]\nagent = true\n[scopes.global.client]\nprovider = "etcd"\naddress = "x:2379"\n',
      /line 2: orchestration\.agent: it does without a shared store, and \[scopes\.global\.client\] names one/,
    ],
    [
      "[orchestration]\nagent = true\n[cluster]\nserf = false\n",
      /line 4: cluster\.serf: orchestration\.agent needs serf$/,
    ],
    [
      '[cluster]\ndiscovery = "nodes://a"\n[orchestration]\nagent = true\npeer = "b"\n',
      /line 5: orchestration\.peer: cluster\.discovery says how the nodes find each other/,
    ],
    ['[scopes.nosuch.client]\nprovider = "consul"\naddress = "x"\n', /line 1: scopes/],
  ])("%j is refused with line and field", (source, expected) => {
    if (typeof expected === "string") expect(error(source)).toBe(expected);
    else expect(error(source)).toMatch(expected);
  });
});
