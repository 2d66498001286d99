import { expect, it } from "vitest";
import { failed, tablesIn } from "./nft.ts";

it.each([
  [
    "/dev/stdin:5:3-5: Error: Could not process rule: No such file or directory\n    ip daddr @x fib daddr type != local drop\n    ^^^\n",
    "nft: Could not process rule: No such file or directory: ip daddr @x fib daddr type != local drop",
    "modprobe nft_fib_inet",
  ],
  [
    "/dev/stdin:5:3-5: Error: Could not process rule: Operation not supported\n  ip saddr @m masquerade\n  ^^^\n",
    "nft: Could not process rule: Operation not supported: ip saddr @m masquerade",
    "modprobe nft_masq",
  ],
  ["/dev/stdin:1:1-3: Error: syntax error, unexpected x\nx ct\n^\n", "nft: syntax error, unexpected x", "nf_tables"],
  ["", "nft: failed", "nf_tables"],
])("what nft complains of names the module that is missing: %j", (complaints, message, hint) => {
  expect(failed(complaints)).toMatchObject({ code: "nft", message, hint: expect.stringContaining(hint) });
});

it("finds each table in a listing of all, and nothing else", () => {
  const one = 'table inet dnet_1 {\n\tcomment "a } b"\n\tset s {\n\t\ttype ifname\n\t}\n}\n';
  const two =
    "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
  const empty = "table bridge dnet_1_apart {\n}\n";
  const listing = `${one}# Warning: table ip filter is managed by iptables-nft, do not touch!\n${two}${empty}`;
  expect([...tablesIn(listing)]).toEqual([
    ["inet dnet_1", one],
    ["ip filter", two],
    ["bridge dnet_1_apart", empty],
  ]);
  expect(tablesIn("").size).toBe(0);
});
