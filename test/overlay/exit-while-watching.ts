// Starts to watch for misses in the namespace given and ends the process once the first has come.
import { WorkerKernel } from "../../src/linux/worker-kernel.ts";
import { WorkerMissWatch } from "../../src/linux/worker-miss-watch.ts";

const watch = new WorkerMissWatch(new WorkerKernel());
for await (const miss of watch.watch(process.argv[2] ?? "", new AbortController().signal)) {
  console.log(JSON.stringify(miss));
  process.exit(7);
}
