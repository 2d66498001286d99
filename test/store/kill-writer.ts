// Child of sqlite-kill.test.ts: writes transactions of three keys as fast as it can and prints the number of each that was acknowledged.
import { writeSync } from "node:fs";
import { SqliteStore } from "../../src/store/sqlite/sqlite-store.ts";

const store = await SqliteStore.open(process.argv[2] ?? "");
const last = await store.get("last");
for (let n = Number(last?.value ?? 0) + 1; ; n++) {
  await store.transact({
    puts: [
      { key: "last", value: n },
      { key: `a/${n % 50}`, value: n },
      { key: `b/${n % 50}`, value: n },
    ],
    deletes: [`a/${(n + 25) % 50}`, `b/${(n + 25) % 50}`],
  });
  writeSync(1, `${n}\n`);
}
