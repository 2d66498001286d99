import fc from "fast-check";
import { NetworkError } from "../../src/errors.ts";

/** What takes input from outside: whatever it is given, it answers or refuses with a typed error, in bounded time and memory. */
export interface FuzzTarget {
  readonly name: string;
  /** Inputs of a round: as many as take some tenths of a second. */
  readonly perRound: number;
  /** Inputs against a fresh instance of what is tried. */
  open(): Promise<Opened>;
}

export interface Opened {
  readonly property: fc.IAsyncPropertyWithHooks<[unknown]>;
  close(): Promise<void>;
}

interface Instance<T> {
  /** Throws where the answer is wrong. A NetworkError is an answer, unless the target says otherwise. */
  check(input: T): unknown;
  close?(): Promise<void>;
}

export const fuzzTarget = <T>(
  name: string,
  input: fc.Arbitrary<T>,
  open: () => Instance<T> | Promise<Instance<T>>,
  perRound = 300,
): FuzzTarget => ({
  name,
  perRound,
  async open() {
    const instance = await open();
    const property = fc.asyncProperty(input, async (value) => {
      try {
        await instance.check(value);
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error;
      }
    });
    return {
      property: property as unknown as fc.IAsyncPropertyWithHooks<[unknown]>,
      close: async () => instance.close?.(),
    };
  },
});

/** Bytes that are nearly right: of a valid message some are changed, its end is cut off or something follows. Or they are anything. */
export const nearly = (valid: readonly Uint8Array[], maxLength = 600): fc.Arbitrary<Buffer> => {
  const edits = fc.array(
    fc.tuple(fc.nat(maxLength), fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 4, 127, 128, 192, 255))),
    {
      maxLength: 6,
    },
  );
  const near = fc
    .tuple(fc.constantFrom(...valid), edits, fc.nat(maxLength), fc.uint8Array({ maxLength: 40 }))
    .map(([base, changes, length, tail]) => {
      const bytes = Buffer.concat([
        base.subarray(0, length % 3 === 0 ? length % (base.length + 1) : base.length),
        tail,
      ]);
      if (bytes.length > 0) for (const [at, value] of changes) bytes[at % bytes.length] = value;
      return bytes;
    });
  const any = fc.uint8Array({ maxLength }).map((bytes) => Buffer.from(bytes));
  return fc.oneof({ weight: 3, arbitrary: near }, { weight: 1, arbitrary: any });
};

/** JSON that is nearly right: of a valid value some parts are replaced, removed or doubled. */
export const nearlyJson = (valid: readonly unknown[]): fc.Arbitrary<unknown> => {
  const change = fc.record({
    at: fc.nat(1_000),
    how: fc.constantFrom("replace", "remove", "rename", "wrap"),
    value: fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom("", "../../x", "__proto__", "0.0.0.0/0", "::", "10.0.0.2/24", "-1", "local", "f".repeat(64)),
      fc.constantFrom(-1, 0, 2, 2 ** 53, 1e308, null, [], {}),
    ),
  });
  return fc
    .tuple(fc.constantFrom(...valid), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([base, changes]) => changes.reduce<unknown>((value, each) => changed(value, each), base));
};

interface JsonChange {
  readonly at: number;
  readonly how: string;
  readonly value: unknown;
}

/** Changes the n-th part of a value, counted through all its levels. */
const changed = (root: unknown, { at, how, value }: JsonChange): unknown => {
  const copy = structuredClone(root);
  const places: (readonly [Record<string, unknown>, string])[] = [];
  const walk = (inside: unknown): void => {
    if (typeof inside !== "object" || inside === null) return;
    for (const key of Object.keys(inside)) {
      places.push([inside as Record<string, unknown>, key]);
      walk((inside as Record<string, unknown>)[key]);
    }
  };
  walk(copy);
  const [parent, key] = places[at % Math.max(1, places.length)] ?? [];
  if (!parent || key === undefined) return value;
  const put = (name: string, what: unknown) =>
    // By assignment `__proto__` would be no key.
    Object.defineProperty(parent, name, { value: what, enumerable: true, configurable: true, writable: true });
  const other = typeof value === "string" ? value : JSON.stringify(value);
  if (how === "replace") put(key, value);
  if (how === "wrap") put(key, [parent[key]]);
  if (how === "rename") put(other, parent[key]);
  if (how === "remove" || (how === "rename" && key !== other)) Reflect.deleteProperty(parent, key);
  return copy;
};
