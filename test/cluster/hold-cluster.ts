// A daemon's part in a test: holds a cluster open until it is killed. Run with the run directory, the address and the instance.
import { Cluster } from "../../src/cluster/cluster.ts";
import { parseIp } from "../../src/net/ip.ts";

const [runDir = "", address = "", instance = ""] = process.argv.slice(2);
await Cluster.start({
  instance,
  hostName: "held",
  advertise: { address: parseIp(address), local: true },
  version: "1.2.3",
  serf: { runDir },
  log: (level, message) => process.stderr.write(`${level} ${message}\n`),
});
setInterval(() => undefined, 60_000);
