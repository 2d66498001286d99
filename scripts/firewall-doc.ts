// Writes test/golden/firewall/*.nft and the generated part of docs/firewall.md from the sources. With --check it only compares.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { bridgeDriver } from "../src/drivers/bridge/bridge-driver.ts";
import { firewallAdd, firewallRuleset } from "../src/linux/firewall.ts";
import { apartRules, apartRuleset } from "../src/linux/firewall-apart.ts";
import { chains, type Rule, sets } from "../src/linux/firewall-rules.ts";
import { type GuardedPort, spoofRules, spoofRuleset } from "../src/linux/firewall-spoof.ts";
import { parseIp } from "../src/net/ip.ts";
import { parseMac } from "../src/net/mac.ts";
import { configurations } from "./firewall-configurations.ts";

const check = process.argv.includes("--check");
const table = "dnet_0badcafe";
const driver = bridgeDriver();
const golden = "test/golden/firewall";

const write = (path: string, text: string): void => {
  if (!check) writeFileSync(path, text);
  else if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
    console.error(`${path} is out of date: run node scripts/firewall-doc.ts`);
    process.exitCode = 1;
  }
};

mkdirSync(golden, { recursive: true });
const spoof = "anti-spoofing";
const apart = "apart-ports";
const wanted = new Set([...configurations.map(({ name }) => name), spoof, apart].map((name) => `${name}.nft`));
for (const file of readdirSync(golden)) {
  if (wanted.has(file)) continue;
  if (!check) rmSync(`${golden}/${file}`);
  else throw new Error(`${golden}/${file} is of no configuration`);
}

const cell = (text: string): string => text.replaceAll("|", "\\|");
const ruleRow = ({ match, verdict, reason }: Rule): string =>
  `| \`${cell(`${match} ${verdict}`.trim())}\` | ${cell(reason)} |\n`;

const sections = configurations.map(({ name, title, networks }) => {
  const parts = networks.flatMap((network) => driver.firewall(network) ?? []);
  write(`${golden}/${name}.nft`, firewallRuleset(table, parts));
  const elements = parts.map((part) => firewallAdd(table, part)).join("\n");
  const shown = elements === "" ? "No elements: the rules alone.\n" : `\`\`\`nft\n${elements}\`\`\`\n`;
  return `### \`${name}\`: ${title}\n\n${shown}`;
});

const generated = [
  "## Sets and maps\n\n| name | holds | what |\n|---|---|---|\n",
  ...sets.map(({ name, kind, type, purpose }) => `| \`${name}\` | ${kind} of \`${type}\` | ${cell(purpose)} |\n`),
  "\n## Chains and rules\n",
  ...chains.map(
    ({ name, hook, purpose, rules }) =>
      `\n### \`${name}\`: ${purpose}\n\n${hook === undefined ? "" : `\`${hook}\`\n\n`}${`| rule | why |\n|---|---|\n${rules.map(ruleRow).join("")}`}`,
  ),
  "\n## Table `bridge dnet_<instance>`: sandboxes that may not forge addresses\n\n",
  `\`${spoofRules[0]?.hook}\`\n\n| rule | why |\n|---|---|\n`,
  ...spoofRules.map(({ rule, reason }) => `| \`${cell(rule)}\` | ${cell(reason)} |\n`),
  "\n## Table `bridge dnet_<instance>_apart`: sandboxes that publish ports, where neighbours are kept apart\n\n",
  `\`${apartRules[0]?.hook}\`\n\n| rule | why |\n|---|---|\n`,
  ...apartRules.map(({ rule, reason }) => `| \`${cell(rule)}\` | ${cell(reason)} |\n`),
  "\n## Twelve configurations\n\nWhat each puts into the sets; the whole batches are in `test/golden/firewall`.\n\n",
  sections.join("\n"),
].join("");

const ports = configurations
  .find(({ name }) => name === "dual-stack")
  ?.networks.map(
    (network): GuardedPort => ({
      port: "veth0123456789a",
      mac: parseMac("02:42:ac:12:00:02"),
      addresses: network.subnets.map(({ pool }) => parseIp(pool.replace(/0\.0\/16$/, "0.2").replace(/::\/64$/, "::2"))),
    }),
  );
write(`${golden}/${spoof}.nft`, spoofRuleset(table, ports ?? []));
write(`${golden}/${apart}.nft`, apartRuleset(`${table}_apart`, ["veth0123456789a", "veth0123456789b"]));

const page = "docs/firewall.md";
const mark = "<!-- From here on written by node scripts/firewall-doc.ts. -->\n\n";
const source = readFileSync(page, "utf8");
const at = source.indexOf(mark);
if (at < 0) throw new Error(`${page} has no line ${mark.trim()}`);
write(page, source.slice(0, at + mark.length) + generated);
