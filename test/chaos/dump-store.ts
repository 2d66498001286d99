// Prints everything below `global/` of a store as JSON: `node dump-store.ts etcd|consul host:port/prefix`. Runs on a host of a lab.
import { openGlobalStore, providers } from "../../src/daemon/global-store.ts";

const [kind = "", address = ""] = process.argv.slice(2);
const provider = providers.find((known) => known === kind);
if (!provider) throw new Error(`no store ${kind}`);
const store = await openGlobalStore({ provider, address });
process.stdout.write(JSON.stringify(await store.list("global/")));
await store.close();
