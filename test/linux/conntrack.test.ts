import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describe as commandOf } from "../../src/linux/describe.ts";
import { type FlowMatch, hostNamespace, type Operation, plan } from "../../src/linux/plan.ts";
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { parseIp } from "../../src/net/ip.ts";
import { enterOwnHost, run, shell } from "../own-host.ts";

const own = "203.0.113.1";
const client = "203.0.113.9";
let kernel: WorkerKernel;
let changes: string[] = [];

beforeAll(() => {
  enterOwnHost();
  kernel = new WorkerKernel({ onOperation: ({ op }) => changes.push(op) });
  run("ip", "address", "add", `${own}/24`, "dev", "lo");
  run("ip", "address", "add", "2001:db8::1/64", "dev", "lo", "nodad");
});
afterAll(async () => {
  await kernel.close();
  run("conntrack", "-F");
});

/** Puts a flow into the table: to an address and port of the host, led on to a sandbox where `to` says so. */
const add = (
  protocol: "tcp" | "udp",
  address: string,
  port: number,
  source: number,
  to?: readonly [string, number],
) => {
  const from = address.includes(":") ? "2001:db8::9" : client;
  const state = protocol === "tcp" ? "--state ESTABLISHED" : "";
  const [replyFrom, replyPort] = to ?? [address, port];
  shell(
    `conntrack -I -p ${protocol} -s ${from} -d ${address} --sport ${source} --dport ${port} \
       -r ${replyFrom} -q ${from} --reply-port-src ${replyPort} --reply-port-dst ${source} --timeout 600 ${state} -u SEEN_REPLY 2>&1`,
  );
};

/** What is left, as `protocol address port source`. */
const left = (): readonly string[] =>
  ["ipv4", "ipv6"]
    .flatMap((family) => run("conntrack", "-L", "-f", family).split("\n"))
    .flatMap((line) => {
      const found = /^(tcp|udp) .*?dst=(\S+) sport=(\d+) dport=(\d+)/.exec(line);
      return found ? [`${found[1]} ${found[2]} ${found[4]} ${found[3]}`] : [];
    })
    .sort();

const flush = (...flows: readonly FlowMatch[]) => {
  const operation: Operation = { op: "conntrack.flush", namespace: hostNamespace, flows };
  return { operation, apply: () => kernel.apply(plan(operation)) };
};

describe("conntrack.flush", () => {
  beforeEach(() => {
    run("conntrack", "-F");
    changes = [];
    add("udp", own, 5353, 1001);
    add("udp", own, 5354, 1002);
    add("tcp", own, 5353, 1003);
    add("tcp", own, 8000, 1004, ["172.18.0.2", 80]);
    add("tcp", own, 8001, 1005, ["172.18.0.2", 81]);
    add("tcp", own, 8001, 1006, ["172.18.0.9", 81]);
    add("udp", "2001:db8::1", 5353, 1007);
    // In transit: to the same port of another host.
    add("udp", "198.51.100.7", 5353, 1008);
  });
  const all = 8;

  it("takes flows to a port of the host, of one protocol and family, and none in transit", async () => {
    const before = left();
    expect(before).toHaveLength(all);
    await flush({ protocol: "udp", family: 4, port: 5353, count: 1 }).apply();
    expect(before.filter((flow) => !left().includes(flow))).toEqual([`udp ${own} 5353 1001`]);
    await flush({ protocol: "udp", family: 6, port: 5353, count: 1 }).apply();
    expect(left()).toHaveLength(all - 2);
    expect(changes).toEqual(["conntrack.flush", "conntrack.flush"]);
  });

  it("takes ranges and several ports at once, but not what leads where it should", async () => {
    const unless = { address: parseIp("172.18.0.2"), port: 80 };
    await flush(
      { protocol: "tcp", family: 4, port: 8000, count: 2, unless },
      { protocol: "udp", family: 4, address: parseIp(own), port: 5354, count: 1 },
    ).apply();
    expect(left()).toEqual(
      [
        `udp ${own} 5353 1001`,
        `tcp ${own} 5353 1003`,
        `tcp ${own} 8000 1004`,
        `tcp ${own} 8001 1005`,
        "udp 2001:db8::1 5353 1007",
        "udp 198.51.100.7 5353 1008",
      ].sort(),
    );
  });

  it("takes nothing of another address", async () => {
    await flush({ protocol: "udp", family: 4, address: parseIp("203.0.113.2"), port: 5353, count: 1 }).apply();
    expect(left()).toHaveLength(all);
    expect(changes).toEqual([]);
  });

  it("is what its command does, where an address is given", async () => {
    const given = flush(
      { protocol: "tcp", family: 4, address: parseIp(own), port: 8000, count: 2 },
      { protocol: "udp", family: 6, address: parseIp("2001:db8::1"), port: 5353, count: 1 },
    );
    await given.apply();
    const applied = left();
    expect(applied).toHaveLength(all - 4);
    run("conntrack", "-F");
    for (const flow of applied) expect(flow).toMatch(/^(udp|tcp) /);
    add("tcp", own, 8000, 1004);
    add("tcp", own, 8001, 1005);
    add("udp", "2001:db8::1", 5353, 1007);
    add("udp", own, 5353, 1001);
    shell(`(${commandOf(given.operation)}) 2>/dev/null`);
    expect(left()).toEqual([`udp ${own} 5353 1001`]);
  });

  it("is no error where there is nothing, and where the namespace is gone", async () => {
    run("conntrack", "-F");
    await flush({ protocol: "udp", family: 4, port: 5353, count: 1 }).apply();
    const flows = [{ protocol: "udp", family: 4, port: 5353, count: 1 }] as const;
    await kernel.apply(plan({ op: "conntrack.flush", namespace: "/run/docker/netns/none", flows }));
    expect(changes).toEqual([]);
  });
});
