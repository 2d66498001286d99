// Bundles the library (an ES module with its types) and the executable: one CommonJS file each for the command line, the daemon, the kernel worker, the lab. The command line's is
// small, so that it starts fast; `import "node:http"` from an ES module alone would cost more than the rest of its start.
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { type BuildOptions, build, type Plugin } from "esbuild";

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");

const common: BuildOptions = {
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node22",
  // Native code cannot be bundled; it is found in node_modules.
  external: ["koffi"],
  define: { "import.meta.url": "importMetaUrl" },
  banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href;' },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  logLevel: "warning",
};

/** The daemon and the lab stay files of their own. */
const loadedOnDemand: Plugin = {
  name: "loaded-on-demand",
  setup({ onResolve }) {
    onResolve({ filter: /daemon\/run-daemon\.ts$/ }, () => ({ path: "./daemon.cjs", external: true }));
    onResolve({ filter: /lab\/lab\.ts$/ }, () => ({ path: "./lab.cjs", external: true }));
  },
};

await Promise.all([
  build({
    ...common,
    define: {},
    banner: {},
    minify: true,
    entryPoints: ["cmd/dnet/main.ts"],
    outfile: "dist/dnet.cjs",
    plugins: [loadedOnDemand],
  }),
  build({ ...common, entryPoints: ["src/daemon/run-daemon.ts"], outfile: "dist/daemon.cjs" }),
  build({ ...common, entryPoints: ["src/lab/lab.ts"], outfile: "dist/lab.cjs" }),
  build({ ...common, entryPoints: ["src/lab/lab-supervisor.ts"], outfile: "dist/lab-supervisor.cjs" }),
  build({ ...common, entryPoints: ["src/linux/kernel-worker.ts"], outfile: "dist/kernel-worker.cjs" }),
  build({ ...common, entryPoints: ["src/faults/faulty-kernel-worker.ts"], outfile: "dist/faulty-kernel-worker.cjs" }),
  build({ ...common, define: {}, banner: {}, format: "esm", entryPoints: ["src/index.ts"], outfile: "dist/index.js" }),
]);
chmodSync("dist/dnet.cjs", 0o755);
// Loads what it bundled, as bin/dnet does, so that compiled code lies beside it; the daemon then misses its configuration.
for (const args of [["--help"], ["-d", "-c", "/dev/null/none"]]) spawnSync("bin/dnet", args, { stdio: "ignore" });
execFileSync("node_modules/.bin/tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit" });
