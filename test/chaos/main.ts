// make chaos [SECONDS=600] [STORE=etcd|consul] [SEED=n]: without a store, half the time on each.
import { parseArgs } from "node:util";
import { runChaos } from "./run-chaos.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    store: { type: "string", default: "" },
    seed: { type: "string", default: "" },
  },
});
const stores = (["etcd", "consul"] as const).filter((store) => values.store === "" || values.store === store);
const seconds = Math.ceil(Number(values.seconds) / stores.length);
const seed = values.seed === "" ? Math.floor(Math.random() * 1_000_000) : Number(values.seed);
let wrong = false;
for (const store of stores) {
  const evidence = new URL(`../../.cache/chaos/${store}-${seed}`, import.meta.url).pathname;
  const { problems, summary } = await runChaos({ store, seconds, seed, port: 42_300, evidence });
  console.log(summary);
  for (const problem of problems.slice(0, 50)) console.log(`  ${problem}`);
  if (problems.length > 0) console.log(`history and logs are in ${evidence}`);
  wrong ||= problems.length > 0;
}
process.exitCode = wrong ? 1 : 0;
