/** Where the room's log lines go; `fields` are shown as `name=value` after the text, as the original's `discovery=consul`. */
export type Log = (
  level: "debug" | "info" | "warning" | "error",
  message: string,
  fields?: Readonly<Record<string, string>>,
) => void;
