import { describe, expect, it } from "vitest";
import { parseIp } from "../net/ip.ts";
import { parsePrefix } from "../net/prefix.ts";
import { NameTable, type ViewScope } from "./name-table.ts";

const ips = (...texts: string[]) => texts.map((text) => parseIp(text));
const front = { id: "n1", name: "front", subnets: [parsePrefix("172.19.0.0/16"), parsePrefix("fd00:1::/64")] };
const back = { id: "n2", name: "back.end", subnets: [parsePrefix("172.20.0.0/16")] };
const scope = (over: Partial<ViewScope> = {}): ViewScope => ({
  networks: [front, back],
  aliases: [],
  addresses: ips("172.19.0.9"),
  ...over,
});

describe("the names of a sandbox", () => {
  it("knows names, aliases and names with their network, whatever their case", () => {
    const table = new NameTable();
    table.set("n1", "e1", { names: ["Web", "www"], addresses: ips("172.19.0.2", "fd00:1::2") });
    const view = table.view(scope());
    for (const name of ["web", "WEB", "web.", "www", "web.front", "Www.FRONT."])
      expect(view.lookup(name), name).toEqual(["172.19.0.2", "fd00:1::2"]);
    for (const name of ["", ".", "front", "web.back.end", "x.web", "web.front.x", "__proto__"])
      expect(view.lookup(name), name).toBeUndefined();
  });

  it("asks the networks in order of joining and gives all addresses of the first that knows", () => {
    const table = new NameTable();
    table.set("n2", "e1", { names: ["db"], addresses: ips("172.20.0.2") });
    table.set("n1", "e2", { names: ["a", "db"], addresses: ips("172.19.0.3") });
    table.set("n1", "e3", { names: ["b", "db"], addresses: ips("172.19.0.4") });
    const view = table.view(scope());
    expect(view.lookup("db")).toEqual(["172.19.0.3", "172.19.0.4"]);
    expect(view.lookup("db.back.end")).toEqual(["172.20.0.2"]);
    view.update(scope({ networks: [back, front] }));
    expect(view.lookup("db")).toEqual(["172.20.0.2"]);
    view.update(scope({ networks: [] }));
    expect(view.lookup("db")).toBeUndefined();
  });

  it("follows changes: an entry is replaced whole and leaves nothing", () => {
    const table = new NameTable();
    const view = table.view(scope());
    table.set("n1", "e1", { names: ["old"], addresses: ips("172.19.0.2") });
    expect(view.lookup("old")).toEqual(["172.19.0.2"]);
    table.set("n1", "e1", { names: ["new"], addresses: ips("172.19.0.3") });
    expect(view.lookup("old")).toBeUndefined();
    expect(view.reverse(parseIp("172.19.0.2"))).toBeUndefined();
    expect(view.lookup("new")).toEqual(["172.19.0.3"]);
    table.set("n1", "e1", { names: ["new"], addresses: [] });
    expect(view.lookup("new")).toBeUndefined();
    table.remove("n1", "e1");
    table.remove("nowhere", "e1");
    expect(view.reverse(parseIp("172.19.0.3"))).toBeUndefined();
  });

  it("has private aliases that come first, follow their target and are nobody else's", () => {
    const table = new NameTable();
    table.set("n1", "e1", { names: ["pg-1"], addresses: ips("172.19.0.2") });
    table.set("n1", "e2", { names: ["db"], addresses: ips("172.19.0.3") });
    const aliased = table.view(scope({ aliases: [{ name: "DB", network: "n1", target: "PG-1" }] }));
    expect(aliased.lookup("db")).toEqual(["172.19.0.2"]);
    expect(aliased.lookup("db.front")).toEqual(["172.19.0.2"]);
    expect(table.view(scope()).lookup("db")).toEqual(["172.19.0.3"]);
    table.set("n1", "e1", { names: ["pg-1"], addresses: ips("172.19.0.7") });
    expect(aliased.lookup("db")).toEqual(["172.19.0.7"]);
    table.remove("n1", "e1");
    expect(aliased.lookup("db")).toEqual(["172.19.0.3"]);
  });

  it("names addresses by endpoint and network", () => {
    const table = new NameTable();
    table.set("n1", "e1", { names: ["Web", "www"], addresses: ips("172.19.0.2") });
    const view = table.view(scope());
    expect(view.reverse(parseIp("172.19.0.2"))).toEqual(["Web.front"]);
    expect(view.ownsAddress(parseIp("172.19.3.3"))).toBe(true);
    expect(view.ownsAddress(parseIp("fd00:1::9"))).toBe(true);
    expect(view.ownsAddress(parseIp("8.8.8.8"))).toBe(false);
    expect(view.ownsName("x.Front.")).toBe(true);
    expect(view.ownsName("front")).toBe(false);
    expect(view.isSource("127.0.0.1") && view.isSource("172.19.0.9")).toBe(true);
    expect(view.isSource("172.19.0.2")).toBe(false);
  });
});
