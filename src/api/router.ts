import { type Route, routes } from "./routes.ts";

/** From a method and a URL to a route. */

export type Found =
  | {
      readonly kind: "route";
      readonly route: Route;
      readonly params: Readonly<Record<string, string>>;
      readonly query: Readonly<Record<string, string>>;
    }
  /** The path exists, with another method. */
  | { readonly kind: "other-method" }
  | { readonly kind: "none" };

const table = routes.map((route) => ({ route, segments: route.path.split("/").slice(1) }));
const resources: readonly string[] = [...new Set(table.map(({ segments }) => segments[0] ?? ""))];
/** Longer than any id or name that can exist. */
const maxSegment = 256;

export const findRoute = (method: string, url: string): Found => {
  const cut = url.indexOf("?");
  const path = cut < 0 ? url : url.slice(0, cut);
  const segments = decode(withoutPrefix(path.split("/").slice(1)));
  if (!path.startsWith("/") || segments === undefined) return { kind: "none" };
  const fitting = table.filter(({ segments: pattern }) => fits(pattern, segments));
  const match = fitting.find(({ route }) => route.method === method);
  if (!match) return { kind: fitting.length > 0 ? "other-method" : "none" };
  const params = Object.fromEntries(
    match.segments.flatMap((name, n) => (name.startsWith(":") ? [[name.slice(1), segments[n] ?? ""]] : [])),
  );
  return { kind: "route", route: match.route, params, query: cut < 0 ? {} : parseQuery(url.slice(cut + 1)) };
};

/** `/v1.19/networks` is `/networks`: one segment before a resource's name is a version and means nothing. */
const withoutPrefix = (segments: readonly string[]): readonly string[] => {
  const [first = "", second = ""] = segments;
  return first !== "" && !resources.includes(first) && resources.includes(second) ? segments.slice(1) : segments;
};

const decode = (segments: readonly string[]): readonly string[] | undefined => {
  try {
    return segments.map((segment) => decodeURIComponent(segment));
  } catch {
    // A percent sign that begins no character: no path of ours.
    return undefined;
  }
};

const fits = (pattern: readonly string[], segments: readonly string[]): boolean =>
  pattern.length === segments.length &&
  pattern.every((part, n) => {
    const segment = segments[n] ?? "";
    return part.startsWith(":") ? segment !== "" && segment.length <= maxSegment : part === segment;
  });

/** Of a parameter given several times the first counts. */
const parseQuery = (text: string): Readonly<Record<string, string>> => {
  const query: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [name, value] of new URLSearchParams(text)) query[name] ??= value;
  return query;
};
