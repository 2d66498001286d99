// make kills [KILLS=1000] [STORE=etcd|consul] [SEED=n]
import { parseArgs } from "node:util";
import { runKills } from "./run-kills.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "1000" },
    store: { type: "string", default: "etcd" },
    seed: { type: "string", default: "" },
  },
});
const store = values.store === "consul" ? "consul" : "etcd";
const seed = values.seed === "" ? Math.floor(Math.random() * 1_000_000) : Number(values.seed);
const evidence = new URL(`../../.cache/kills/${store}-${seed}`, import.meta.url).pathname;
const { problems, summary } = await runKills({
  ...{ store, seed, kills: Number(values.kills), every: 50, port: 42_700, evidence },
  progress: (text) => console.log(text),
});
console.log(summary);
for (const problem of problems.slice(0, 50)) console.log(`  ${problem}`);
if (problems.length > 0) console.log(`history and logs are in ${evidence}`);
process.exitCode = problems.length > 0 ? 1 : 0;
