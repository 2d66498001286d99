// Writes docs/errors.md from the sources: every code with its kind, status and text. With --check it only compares.
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { type ErrorKind, errorStatus } from "../src/errors.ts";

const kinds: Readonly<Record<string, ErrorKind>> = {
  badRequest: "bad-request",
  forbidden: "forbidden",
  internal: "internal",
  notFound: "not-found",
  notImplemented: "not-implemented",
  noService: "no-service",
};
const call = /\b(badRequest|forbidden|internal|notFound|notImplemented|noService)\(\s*"([a-z-]+)",\s*/g;
const construct = /new NetworkError\(\s*"([a-z-]+)",\s*"([a-z-]+)",\s*/g;

/** The text literal at a place, `${...}` shown as `…`; empty where the text is computed. */
const literalAt = (source: string, at: number): string => {
  const quote = source[at];
  if (quote !== '"' && quote !== "`") return "";
  let text = "";
  for (let n = at + 1; n < source.length && source[n] !== quote; n++) {
    if (source[n] === "\\") text += source[++n];
    else if (source.startsWith("${", n)) {
      let depth = 0;
      do {
        if (source[n] === "{") depth++;
        if (source[n] === "}") depth--;
        n++;
      } while (depth > 0 || source[n - 1] !== "}");
      n--;
      text += "…";
    } else text += source[n];
  }
  return text;
};

const found = new Map<string, { kind: ErrorKind; texts: Set<string> }>();
const note = (kind: ErrorKind, code: string, text: string) => {
  const known = found.get(code) ?? { kind, texts: new Set<string>() };
  if (text !== "") known.texts.add(text);
  found.set(code, known);
};
for (const file of globSync("src/**/*.ts").sort()) {
  if (file.endsWith(".test.ts") || file === "src/errors.ts") continue;
  const source = readFileSync(file, "utf8");
  for (const match of source.matchAll(call)) {
    const kind = kinds[match[1] ?? ""];
    if (kind) note(kind, match[2] ?? "", literalAt(source, match.index + match[0].length));
  }
  for (const match of source.matchAll(construct)) {
    note(match[1] as ErrorKind, match[2] ?? "", literalAt(source, match.index + match[0].length));
  }
}

const rows = [...found]
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([code, { kind, texts }]) => {
    const shown = [...texts].map((text) => `\`${text.replaceAll("|", "\\|").replaceAll("`", "'")}\``).join("<br>");
    return `| \`${code}\` | ${errorStatus[kind]} | ${shown} |\n`;
  });
const text = `# Errors

Every refusal and failure has a stable code, an HTTP status and a text; many have a hint on a second line. The command line prints
\`error : TEXT\` on standard error and ends with status 1. A client that accepts \`application/json\` only gets \`{code, message, hint}\`.
This page is written by \`node scripts/errors-doc.ts\` from the sources; \`…\` stands for what depends on the case.

| code | status | text |
|---|---|---|
${rows.join("")}`;

const path = "docs/errors.md";
if (!process.argv.includes("--check")) writeFileSync(path, text);
else if (readFileSync(path, "utf8") !== text) {
  console.error(`${path} is out of date: run node scripts/errors-doc.ts`);
  process.exitCode = 1;
}
