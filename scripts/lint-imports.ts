// Holds the import directions of docs/architecture.md: a room may import only the rooms listed for it.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const base = ["errors.ts", "suggest.ts", "net"];
const kernel = [...base, "linux"];
const parts = ["store", "ipam", "dns", "ports", "cluster"];

const allowed: Record<string, readonly string[]> = {
  "errors.ts": [],
  "suggest.ts": [],
  net: base,
  linux: kernel,
  store: [...kernel, "store"],
  ipam: [...kernel, "store", "ipam"],
  dns: [...kernel, "store", "dns"],
  ports: [...kernel, "store", "ports"],
  cluster: [...kernel, "store", "cluster"],
  drivers: [...kernel, "ipam", "ports", "drivers"],
  controller: [...kernel, ...parts, "drivers", "controller"],
  api: [...kernel, ...parts, "drivers", "controller", "api"],
  // What puts the rooms together for a program that embeds the library.
  "create-libnetwork.ts": [...kernel, ...parts, "drivers", "controller"],
  // What fails on purpose stands in for real parts, which know nothing of it.
  faults: [...kernel, ...parts, "drivers", "controller", "create-libnetwork.ts", "faults"],
  daemon: [...kernel, ...parts, "drivers", "controller", "create-libnetwork.ts", "faults", "api", "daemon"],
  lab: [...kernel, "lab"],
  // Of the lab only types, and the whole of it on demand.
  cli: ["errors.ts", "suggest.ts", "api", "lab", "cli"],
};

const problems: string[] = [];
for (const file of globSync("src/**/*.ts")) {
  if (file.endsWith(".test.ts")) continue;
  const room = file.split("/")[1] ?? "";
  const may = allowed[room];
  if (may === undefined) {
    if (room !== "index.ts") problems.push(`${file}: src/${room} is not a room that scripts/lint-imports.ts knows`);
    continue;
  }
  const text = readFileSync(file, "utf8");
  if (room === "cli" && /^import (?!type )[^;]*from "[^"]*\/lab\//m.test(text)) {
    problems.push(`${file}: imports the lab at start; load it with import(), so that the command line starts fast`);
  }
  for (const [, from = ""] of text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)) {
    if (from === "koffi" && file !== "src/linux/libc.ts")
      problems.push(`${file}: only src/linux/libc.ts may import koffi`);
    if (!from.startsWith(".")) continue;
    const target = normalize(join(dirname(file), from)).split("/")[1] ?? "";
    if (!may.includes(target)) problems.push(`${file}: imports ${from}, but ${room} may import only ${may.join(", ")}`);
    const driver = file.match(/^src\/drivers\/([^/]+)\//)?.[1];
    const other = normalize(join(dirname(file), from)).match(/^src\/drivers\/([^/]+)\//)?.[1];
    if (driver !== undefined && other !== undefined && driver !== other) {
      problems.push(`${file}: a driver may not import another driver (${from})`);
    }
  }
}
for (const problem of problems) console.error(problem);
process.exit(problems.length > 0 ? 1 : 0);
