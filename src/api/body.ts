import type { IncomingMessage } from "node:http";
import { badRequest, NetworkError } from "../errors.ts";

/** Request bodies: JSON whatever the content type says, with the original's words for what is wrong. */

/** Bytes. */
export const maxBody = 1024 * 1024;

/** Reads a body whole. @throws NetworkError `too-large` past the limit, without reading on */
export const readBody = async (request: IncomingMessage): Promise<string> => {
  const { "content-length": given, "transfer-encoding": encoding } = request.headers;
  if (given === undefined && encoding === undefined) return "";
  const tooLarge = () => new NetworkError("too-large", "too-large", `Invalid body: more than ${maxBody} bytes`);
  if (Number(given ?? 0) > maxBody) throw tooLarge();
  // By its events: an iterator takes several times as long for the one chunk that a body is.
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const read = (chunk: Buffer): void => {
      length += chunk.length;
      chunks.push(chunk);
      if (length <= maxBody) return;
      request.off("data", read);
      request.pause();
      reject(tooLarge());
    };
    request.on("data", read);
    request.once("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
    request.once("error", reject);
    request.once("close", () => reject(badRequest("incomplete-body", "Invalid body: the connection ended within it")));
  });
};

const invalid = (reason: string): NetworkError => badRequest("invalid-body", `Invalid body: ${reason}`);

/** @throws NetworkError `invalid-body` (bad request) in the words of Go's encoding/json */
export const parseBody = (text: string): unknown => {
  if (text.trim() === "") throw invalid("unexpected end of JSON input");
  try {
    return JSON.parse(text);
  } catch (error) {
    const first = text.trimStart()[0] ?? "";
    // What may begin a JSON value; anything else Go names at once.
    if (!/[[{"\-0-9tfn]/.test(first))
      throw invalid(`invalid character ${quoteCharacter(first)} looking for beginning of value`);
    const message = error instanceof Error ? error.message : "";
    throw invalid(
      /end of JSON|Unterminated|Expected .* at position \d+ .*$/.test(message) && isCut(text)
        ? "unexpected end of JSON input"
        : `invalid JSON: ${message.replace(/[^\x20-\x7e]/g, "?").slice(0, 200)}`,
    );
  }
};

const quoteCharacter = (character: string): string =>
  /^[\x20-\x7e]$/.test(character) ? `'${character}'` : JSON.stringify(character);

/** True where the text is the beginning of a JSON value that was cut off. */
const isCut = (text: string): boolean => {
  let depth = 0;
  let quoted = false;
  for (let n = 0; n < text.length; n++) {
    const character = text[n];
    if (quoted) {
      if (character === "\\") n++;
      else if (character === '"') quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
  }
  return quoted || depth > 0;
};

/** What a field may hold; the fields of a body are a table of these. */
export type Kind = "string" | "boolean" | "strings" | "map" | "object" | "objects" | "any";

type Value<K extends Kind> = K extends "string"
  ? string
  : K extends "boolean"
    ? boolean
    : K extends "strings"
      ? readonly string[]
      : K extends "map"
        ? Readonly<Record<string, unknown>>
        : K extends "object"
          ? Readonly<Record<string, unknown>>
          : K extends "objects"
            ? readonly Readonly<Record<string, unknown>>[]
            : unknown;

type Shape = Readonly<Record<string, Kind>>;
type Fields<S extends Shape> = { readonly [K in keyof S]?: Value<S[K]> };

const goType: Readonly<Record<Kind, string>> = {
  string: "string",
  boolean: "bool",
  strings: "[]string",
  map: "map[string]string",
  object: "map[string]interface {}",
  objects: "[]map[string]interface {}",
  any: "interface {}",
};

const jsonType = (value: unknown): string => {
  if (Array.isArray(value)) return "array";
  if (typeof value === "boolean") return "bool";
  return typeof value === "object" ? "object" : typeof value;
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const fits = (kind: Kind, value: unknown): boolean => {
  switch (kind) {
    case "string":
    case "boolean":
      return typeof value === kind;
    case "strings":
      return Array.isArray(value) && value.every((item) => typeof item === "string");
    case "map":
    case "object":
      return isObject(value);
    case "objects":
      return Array.isArray(value) && value.every(isObject);
    case "any":
      return true;
  }
};

/**
 * Reads a body's known fields; names match without regard to case, null means absent, others are passed over.
 * @param name of the original's structure, which its error texts have
 * @throws NetworkError `invalid-body`
 */
export const readFields = <S extends Shape>(value: unknown, name: string, shape: S): Fields<S> => {
  if (!isObject(value)) {
    throw invalid(`json: cannot unmarshal ${jsonType(value)} into Go value of type ${name}`);
  }
  const lower = new Map(Object.keys(shape).map((key) => [key.toLowerCase(), key]));
  const fields: Record<string, unknown> = {};
  for (const [given, inner] of Object.entries(value)) {
    const key = Object.hasOwn(shape, given) ? given : lower.get(given.toLowerCase());
    if (key === undefined || inner === null) continue;
    const kind = shape[key] ?? "any";
    if (!fits(kind, inner)) {
      const culprit =
        Array.isArray(inner) && (kind === "strings" || kind === "objects")
          ? inner.find((item) => !fits(kind === "strings" ? "string" : "object", item))
          : inner;
      throw invalid(
        `json: cannot unmarshal ${jsonType(culprit)} into Go struct field ${name}.${key} of type ${culprit === inner ? goType[kind] : goType[kind].slice(2)}`,
      );
    }
    fields[key] = inner;
  }
  return fields as Fields<S>;
};
