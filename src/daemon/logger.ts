/** Log lines in the form of the original (logrus text): `time="..." level=info msg="..."`, one a line, on standard error. */

export const levels = ["panic", "fatal", "error", "warning", "info", "debug"] as const;
export type Level = (typeof levels)[number];

/** @returns undefined where the text is no level; `warn` is `warning` */
export const parseLevel = (text: string): Level | undefined => {
  const name = text.toLowerCase() === "warn" ? "warning" : text.toLowerCase();
  return levels.find((level) => level === name);
};

export interface Logger {
  level: Level;
  log(level: Level, message: string, fields?: Readonly<Record<string, string>>): void;
}

/** Bare where it can be, else quoted with every control character escaped: a message cannot forge a second line. */
const quote = (text: string): string => (/^[A-Za-z0-9_./:@^+-]+$/.test(text) ? text : JSON.stringify(text));

export const formatLine = (
  time: Date,
  level: Level,
  message: string,
  fields: Readonly<Record<string, string>> = {},
): string => {
  const stamp = `${time.toISOString().slice(0, 19)}Z`;
  const more = Object.entries(fields).map(([name, value]) => ` ${name}=${quote(value)}`);
  return `time="${stamp}" level=${level} msg=${quote(message)}${more.join("")}\n`;
};

export const createLogger = (level: Level, write: (line: string) => void): Logger => ({
  level,
  log(of, message, fields) {
    if (levels.indexOf(of) <= levels.indexOf(this.level)) write(formatLine(new Date(), of, message, fields));
  },
});
