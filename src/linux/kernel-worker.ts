import { parentPort } from "node:worker_threads";
import { Executor } from "./executor.ts";
import { serveKernel } from "./kernel-service.ts";
import { Namespaces } from "./namespaces.ts";

/** The kernel worker: the one thread that enters namespaces. */

serveKernel(parentPort, new Executor(new Namespaces()));
