import { expect, it } from "vitest";
import { createLogger, formatLine, parseLevel } from "./logger.ts";

const time = new Date("2026-11-24T04:02:29.123Z");

it("writes the original's lines", () => {
  expect(formatLine(time, "error", "Error parsing config", { discovery: "consul" })).toBe(
    'time="2026-11-24T04:02:29Z" level=error msg="Error parsing config" discovery=consul\n',
  );
  expect(formatLine(time, "info", "ready")).toBe('time="2026-11-24T04:02:29Z" level=info msg=ready\n');
});

it("keeps one message on one line", () => {
  const line = formatLine(time, "info", 'a\nlevel=error msg="forged"\u001b[31m');
  expect(line.split("\n")).toHaveLength(2);
  expect(line).not.toContain("\u001b");
});

it("writes what its level lets through", () => {
  const lines: string[] = [];
  const logger = createLogger("warning", (line) => lines.push(line));
  for (const level of ["debug", "info", "warning", "error"] as const) logger.log(level, level);
  expect(lines).toHaveLength(2);
  expect([parseLevel("WARN"), parseLevel("debug"), parseLevel("invalid")]).toEqual(["warning", "debug", undefined]);
});
