import { expect, it } from "vitest";
import { checkOptions } from "./etcd-options.ts";

it.each([
  [{ address: "h:2379" }, ["h:2379"], "dnet"],
  [{ address: "h:2379/custom/prefix" }, ["h:2379"], "custom/prefix"],
  [{ address: ["a:1/x", "b:2"], prefix: "y" }, ["a:1", "b:2"], "y"],
])("takes servers and prefix from %j", (options, servers, prefix) => {
  expect(checkOptions(options)).toEqual({ prefix, client: { servers } });
});

it.each([
  [{ address: [] }, "invalid-store-address"],
  [{ address: "nowhere" }, "invalid-store-address"],
  [{ address: "h:1", prefix: "a\nb" }, "invalid-store-address"],
  [{ address: "h:1", prefix: "" }, "invalid-store-options"],
  [{ address: "h:1", username: "" }, "invalid-store-options"],
  [{ address: "h:1", password: "x" }, "invalid-store-options"],
  [{ address: "h:1", tls: { cert: "x" } }, "invalid-store-options"],
  [{ address: "h:1", tls: { ca: "no certificate" } }, "invalid-store-options"],
])("refuses %j", (options, code) => {
  expect(() => checkOptions(options)).toThrow(expect.objectContaining({ code, kind: "bad-request" }));
});
