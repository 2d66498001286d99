import { parentPort, workerData } from "node:worker_threads";
import { serveKernel } from "../linux/kernel-service.ts";
import { Faults } from "./faults.ts";
import { FaultyExecutor } from "./faulty-executor.ts";

/** The kernel worker of `FaultyKernel`. */

serveKernel(parentPort, new FaultyExecutor(new Faults(workerData as SharedArrayBuffer)));
