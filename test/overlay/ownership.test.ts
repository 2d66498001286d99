import { mkdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { endpointOf, hostOf, overlayNetwork, useLan, wire } from "./lan.ts";

const hosts = useLan(2);
const network = overlayNetwork("multihost", 256, ["10.0.3.0/24"]);
const a = endpointOf("a", "10.0.3.2/24");
const b = endpointOf("b", "10.0.3.3/24");

describe("15, ln 562, ln 751, ln 945, ln 1765, moby 28559: a VNI that is taken", () => {
  it("by a device of the host is named", async () => {
    const one = hostOf(hosts, 1);
    one.run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "256", "dstport", "4789");
    await expect(one.arrive(network, [])).rejects.toMatchObject({
      code: "foreign-link",
      kind: "forbidden",
      message: expect.stringContaining(
        "VNI 256 on port 4789 is taken already, by link flannel.1 of the host that has no mark of ours",
      ),
      hint: "look at it with: ip -d link show dev flannel.1",
    });
    // What was made before the refusal is gone, but for the table, which only keeps out.
    await one.leave(network);
    expect(one.run("ip", "-br", "link")).toContain("flannel.1");
    expect(one.run("nft", "list", "ruleset")).toBe("");
  });

  it("by a device in a namespace with a name is named, its mark with it", async () => {
    const one = hostOf(hosts, 1);
    const there = `${one.host.namespaceDir}/1-other`;
    mkdirSync(one.host.namespaceDir, { recursive: true });
    one.run("sh", "-ec", `touch ${there}; unshare --net=${there} true`);
    one.run("ip", "link", "add", "vxlan7", "netns", there, "type", "vxlan", "id", "256", "dstport", "4789");
    one.run("nsenter", `--net=${there}`, "ip", "link", "set", "vxlan7", "alias", "dnet:11111111:x");
    await expect(one.arrive(network, [])).rejects.toThrow(`by link vxlan7 in ${there} marked "dnet:11111111:x"`);
    await one.leave(network);
  });

  it("by a device in a namespace that only a process holds is found too", async () => {
    const one = hostOf(hosts, 1);
    const holder = one.start(
      undefined,
      "unshare",
      "-n",
      "sh",
      "-c",
      "ip link add v0 type vxlan id 9 dstport 4789; echo; exec sleep 60",
    );
    await new Promise((resolve) => holder.stdout?.once("data", resolve));
    const theirs = `/proc/${holder.pid}/ns/net`;
    one.run("ip", "link", "add", "vx0", "netns", theirs, "type", "vxlan", "id", "256", "dstport", "4789");
    await expect(one.arrive(network, [])).rejects.toThrow(/by link vx0 in \/proc\/\d+\/ns\/net/);
    const ended = new Promise((resolve) => holder.once("exit", resolve));
    holder.kill("SIGKILL");
    await ended;
    await one.leave(network);
  });

  it("on another underlay of this machine is free", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    const other = overlayNetwork("other", 256, ["10.0.9.0/24"]);
    await two.arrive(other, []);
    one.host = { ...one.host, namespaceDir: two.host.namespaceDir };
    one.run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "256", "dstport", "4789");
    await expect(one.arrive(network, [])).rejects.toThrow("by link flannel.1 of the host");
    one.run("ip", "link", "delete", "flannel.1");
    await one.arrive(network, []);
    expect(one.inside(network, "ip", "-d", "link", "show", "vxlan1")).toContain("vxlan id 256");
  });

  it("by a stale device of the same network is freed", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    const home = one.host;
    one.host = { ...home, namespaceDir: `${home.namespaceDir}/old` };
    await one.arrive(network, []);
    const old = one.namespace(network);
    one.host = home;
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
    expect(one.run("nsenter", `--net=${old}`, "ip", "-br", "link")).not.toContain("vxlan");
    one.run("sh", "-ec", `umount -l ${old}; rm ${old}; rmdir ${home.namespaceDir}/old`);
  });
});

describe("a device that was cut short", () => {
  it("of its mark is adopted and finished", async () => {
    const [one, two] = [hostOf(hosts, 1), hostOf(hosts, 2)];
    await one.arrive(network, [two]);
    one.inside(network, "ip", "link", "delete", "vxlan1");
    one.run(
      ...(["ip", "link", "add", "vxlan1", "netns", one.namespace(network)] as const),
      ...["type", "vxlan", "id", "256", "local", "192.168.50.1", "dstport", "4789"],
      ...["nolearning", "proxy", "l2miss", "l3miss"],
    );
    await wire(network, [
      [one, a],
      [two, b],
    ]);
    expect(one.inside(network, "ip", "link", "show", "vxlan1")).toContain(`alias ${network.mark}`);
    expect(one.ping(a, "10.0.3.3")).toBe(true);
  });

  it("but one with another VNI is not ours", async () => {
    const one = hostOf(hosts, 1);
    await one.arrive(network, []);
    one.inside(network, "ip", "link", "delete", "vxlan1");
    one.inside(network, "ip", "link", "add", "vxlan1", "type", "vxlan", "id", "77", "dstport", "4789");
    await expect(one.arrive(network, [])).rejects.toThrow("link vxlan1 exists already and has no mark of ours");
  });
});
