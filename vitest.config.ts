import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // By default one core is left free, so that with two cores files would run one after the other.
    maxWorkers: availableParallelism(),
    experimental: { viteModuleRunner: false },
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/fuzz/*.test.ts"],
          exclude: ["**/*.root.test.ts"],
          testTimeout: 30_000,
          // The files of a worker share its modules, and the files they write need no disk: that is half of the time.
          isolate: false,
          env: existsSync("/dev/shm") ? { TMPDIR: "/dev/shm" } : {},
        },
      },
      {
        test: {
          name: "root",
          include: ["src/**/*.root.test.ts", "test/**/*.test.ts"],
          exclude: ["test/fuzz/**", "**/node_modules/**"],
          pool: "forks",
          // Each file has a host of its own: they can run side by side, and spend much of their time waiting.
          fileParallelism: true,
          // For what hangs: what is slow on a busy machine is none of it.
          testTimeout: 240_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
