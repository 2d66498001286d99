import { writeSync } from "node:fs";
import { type DaemonFlags, main } from "../../src/cli/main.ts";
import { version } from "./version.ts";

/** At once and in order; `process.stdout` would load half of Node's streams to print a line. */
const printer = (fd: 1 | 2) => (text: string) => {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const { code } = error as { code?: string };
      // A pipe whose other end reads slowly and that somebody made non-blocking.
      if (code === "EAGAIN") continue;
      // Nobody reads any more: `dnet network ls | head -1`.
      if (code === "EPIPE") return;
      throw error;
    }
  }
};

/** The executable: the command line, and the daemon, loaded only when it is asked for. */
void main(process.argv.slice(2), {
  env: process.env,
  stdout: printer(1),
  stderr: printer(2),
  version,
  runDaemon: async (flags: DaemonFlags) => {
    const { runDaemon } = await import("../../src/daemon/run-daemon.ts");
    // Who read the log may go; the daemon stays, and an error of writing must not be written.
    process.stderr.on("error", () => undefined);
    return runDaemon({ ...flags, env: process.env, version, write: (line) => process.stderr.write(line) });
  },
}).then((status) => {
  process.exitCode = status;
});
