import { type DaemonFlags, main } from "../../src/cli/main.ts";
import { version } from "./version.ts";

/** The executable: the command line, and the daemon, loaded only when it is asked for. */
void main(process.argv.slice(2), {
  env: process.env,
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
  version,
  runDaemon: async (flags: DaemonFlags) => {
    const { runDaemon } = await import("../../src/daemon/run-daemon.ts");
    return runDaemon({ ...flags, env: process.env, version, write: (line) => process.stderr.write(line) });
  },
}).then((status) => {
  process.exitCode = status;
});
