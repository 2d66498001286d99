import { afterAll, beforeAll, expect, it } from "vitest";
import { enterOwnHost, expectNothingLeft, inside, run, shell, sweep } from "../own-host.ts";
import { DaemonProcess, dnet, ok } from "./dnet.ts";

/** What the kernel has not any more is asked to go again, and goes while it is asked. */

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

const hostLinks = (): readonly string[] => run("ip", "-br", "link").match(/^veth[0-9a-f]+/gm) ?? [];

it("crash bugs: interfaces that are gone already, or go at the same time, end nothing", async () => {
  const damages: readonly ((key: string) => void)[] = [
    () => shell(`ip link delete ${hostLinks()[0]}`),
    (key) => void inside(key, "ip", "link", "delete", "eth0"),
    (key) => void shell(`umount -l ${key}`),
    (key) => void shell(`umount -l ${key}; rm -f ${key}`),
    () => shell("ip link delete $(ip -br link show type bridge | grep -o '^br-[0-9a-f]*' | head -1)"),
    () => shell("nft flush ruleset"),
  ];
  for (const damage of damages) {
    ok("network", "create", "web");
    ok("container", "create", "-p", "8080:80", "c1");
    ok("service", "publish", "s1.web");
    ok("service", "attach", "c1", "s1.web");
    const { key } = JSON.parse(ok("container", "info", "c1", "--format", "json")) as { key: string };
    damage(key);
    // Each in its turn, also twice: what it says is one thing, that it goes on is the other.
    dnet("service", "detach", "c1", "s1.web");
    dnet("service", "detach", "c1", "s1.web");
    dnet("container", "rm", "c1");
    dnet("container", "rm", "c1");
    dnet("service", "unpublish", "s1.web");
    dnet("service", "unpublish", "s1.web");
    dnet("network", "rm", "web");
    dnet("network", "rm", "web");
    expect(ok("container", "ls", "-q")).toBe("");
    expect(ok("network", "ls")).not.toContain("web");
    expect(hostLinks()).toEqual([]);
  }
}, 240_000);
