import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { Executor } from "./executor.ts";
import { serveKernel } from "./kernel-service.ts";
import { Namespaces } from "./namespaces.ts";

/** The kernel worker: the one thread that enters namespaces. */

/**
 * This thread's, and that of the programs that it starts: on a busy host rules that were flushed must not wait for their turn as
 * everybody does. Most of the time it sleeps.
 */
const niceness = -10;
try {
  // Of 0 the kernel takes the calling thread (setpriority(2), "C library/kernel differences").
  setPriority(0, niceness);
} catch {
  // A process that may not raise it works all the same.
}

// Errors are sent as data, without their stacks; that something is there already is an error of the kernel's, and nothing rare.
Error.stackTraceLimit = 0;

serveKernel(parentPort, new Executor(new Namespaces()));
