import type { RequestListener } from "node:http";
import inject from "light-my-request";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FakeLibnetwork, openFakeLibnetwork } from "../../test/fakes/fake-libnetwork.ts";
import { maxBody } from "./body.ts";
import { findRoute } from "./router.ts";
import { createApi } from "./server.ts";

type Method = "GET" | "POST" | "DELETE" | "PUT" | "PATCH" | "HEAD" | "OPTIONS";

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

let fake: FakeLibnetwork;
let app: RequestListener;
let logged: string[];

const openApi = async (): Promise<void> => {
  fake = await openFakeLibnetwork();
  logged = [];
  app = createApi({
    controller: fake.libnetwork,
    version: "1.2.3",
    log: (level, message) => logged.push(`${level} ${message}`),
    allowedHosts: ["dnet.example"],
  });
};

beforeEach(openApi);
afterEach(async () => {
  await fake.libnetwork.close();
});

const call = async (
  method: Method,
  url: string,
  body?: string | Buffer,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> => {
  const response = await inject(app, { method, url, headers, ...(body !== undefined && { payload: body }) });
  return {
    status: response.statusCode,
    type: String(response.headers["content-type"] ?? ""),
    text: response.payload,
  };
};

const post = (url: string, body: unknown) => call("POST", url, JSON.stringify(body));
const made = async (url: string, body: unknown): Promise<string> => {
  const { status, text } = await post(url, body);
  expect({ status, text }).toMatchObject({ status: 201 });
  return JSON.parse(text) as string;
};
const firstLine = (text: string): string => text.split("\n")[0] ?? "";

/** Everything that a client can see: a refused request leaves it as it was. */
const snapshot = async (): Promise<string> => {
  const lists = await Promise.all(["/networks", "/services", "/sandboxes"].map((url) => call("GET", url)));
  return lists.map(({ text }) => text).join("\n");
};

const textType = "text/plain; charset=utf-8";
const id64 = /^"[0-9a-f]{64}"$/;
const fixedId = "0123456789abcdef".repeat(4);
const garbage = "Invalid body: invalid character 'x' looking for beginning of value";

/** One recorded exchange: `{name}` stands for an id kept under that name before; `keep` names the id that it makes. */
interface Exchange {
  readonly method: Method;
  readonly url: string;
  readonly body?: string;
  readonly status: number;
  /** Text: the first line of a refusal. Pattern: the whole answer. Other values: the answer's JSON has at least these. */
  readonly answer?: string | RegExp | object;
  readonly keep?: string;
}

const get = (url: string, status: number, answer: Exchange["answer"]): Exchange =>
  answer === undefined ? { method: "GET", url, status } : { method: "GET", url, status, answer };
const create = (url: string, body: string, keep?: string): Exchange => ({
  method: "POST",
  url,
  body,
  status: 201,
  answer: id64,
  ...(keep !== undefined && { keep }),
});
const send = (method: Method, url: string, body: string | undefined, status: number, answer?: Exchange["answer"]) =>
  ({
    method,
    url,
    status,
    ...(body !== undefined && { body }),
    ...(answer !== undefined && { answer }),
  }) satisfies Exchange;

const noNetwork = "Resource not found: Network";
const noSandbox = "Resource not found: Sandbox";
const noEndpoint = "Resource not found: Endpoint";
const noService = "Service not found";

/** The exchanges recorded with the original, in their order; `null` lists are `[]`, its overlay is our test driver. */
const recorded: readonly Exchange[] = [
  get("/networks", 200, [{ name: "bridge", type: "bridge", endpoints: [] }]),
  get("/networks/", 404, "404 page not found"),
  get("/networks?name=bridge", 200, [{ name: "bridge" }]),
  get("/networks?name=", 200, [{ name: "bridge" }]),
  get("/networks?name=nosuch", 200, []),
  get("/networks?name=dot.ted", 200, []),
  get("/networks?partial-id=", 200, [{ name: "bridge" }]),
  get("/networks?partial-id=zz", 200, []),
  get("/networks?name=bridge&partial-id=a", 200, [{ name: "bridge" }]),
  get("/networks?bogus=1", 200, [{ name: "bridge" }]),
  create("/networks", '{"name":"n1","network_type":"test"}'),
  create(
    "/networks",
    '{"name":"b1","network_type":"bridge","driver_opts":{"com.docker.network.bridge.name":"apibr0"},"network_opts":{}}',
    "b1",
  ),
  create("/networks", '{"name":"b2"}'),
  create(
    "/networks",
    '{"name":"b3","ipv4_configuration":[{"PreferredPool":"10.50.0.0/16","SubPool":"10.50.1.0/24","Gateway":"10.50.0.9","AuxAddresses":{"x":"10.50.1.1"}}]}',
    "b3",
  ),
  get("/networks/{b3}", 200, {
    subnets: [{ subnet: "10.50.0.0/16", ip_range: "10.50.1.0/24", gateway: "10.50.0.9" }],
  }),
  send(
    "POST",
    "/networks",
    '{"name":"b4","network_opts":{"com.docker.network.internal":"notabool"}}',
    400,
    'strconv.ParseBool: parsing "notabool": invalid syntax',
  ),
  send(
    "POST",
    "/networks",
    '{"name":"b5","network_opts":{"com.docker.network.enable_ipv6":"notabool"}}',
    400,
    'strconv.ParseBool: parsing "notabool": invalid syntax',
  ),
  create("/networks", '{"name":"b6","network_opts":{"com.docker.network.internal":"true"}}', "b6"),
  get("/networks/{b6}", 200, { internal: true }),
  send("POST", "/networks", '{"name":""}', 400, "invalid name: "),
  send("POST", "/networks", "{}", 400, "invalid name: "),
  send("POST", "/networks", "garbage", 400, "Invalid body: invalid character 'g' looking for beginning of value"),
  send("POST", "/networks", undefined, 400, "Invalid body: unexpected end of JSON input"),
  send(
    "POST",
    "/networks",
    '{"name":5}',
    400,
    "Invalid body: json: cannot unmarshal number into Go struct field networkCreate.name of type string",
  ),
  create("/networks", '{"name":"h1","network_type":"host"}', "h1"),
  send(
    "POST",
    "/networks",
    '{"name":"h2","network_type":"host"}',
    403,
    'only one instance of "host" network is allowed',
  ),
  { ...create("/networks", `{"name":"x","network_type":"test","id":"${fixedId}"}`), answer: `"${fixedId}"` },
  send(
    "POST",
    "/networks",
    `{"name":"y","network_type":"test","id":"${fixedId}"}`,
    403,
    `network with name ${fixedId} already exists`,
  ),
  send("POST", "/networks", '{"name":"x","network_type":"test"}', 403, "network with name x already exists"),
  send(
    "POST",
    "/networks",
    '{"name":"x1","network_type":"nosuchdriver"}',
    404,
    "could not find plugin nosuchdriver in v1 plugin registry: plugin not found",
  ),
  send(
    "POST",
    "/networks",
    '{"name":"six","network_type":"bridge","network_opts":{"com.docker.network.enable_ipv6":"true"}}',
    403,
  ),
  create("/networks", '{"name":"ov","network_type":"test"}', "ov"),
  get("/networks/{ov}", 200, { name: "ov", type: "test", endpoints: [] }),
  get("/networks/nosuch", 404, noNetwork),
  get("/networks/ov", 404, noNetwork),
  send("PUT", "/networks/{ov}", "{}", 405, ""),
  send("HEAD", "/networks", undefined, 405, ""),
  send("OPTIONS", "/networks", undefined, 405, ""),
  send("PATCH", "/networks", "{}", 405, ""),

  get("/networks/{ov}/endpoints", 200, []),
  create("/networks/{ov}/endpoints", '{"name":"e1","my_aliases":["al"]}', "e1"),
  send("POST", "/networks/{ov}/endpoints", '{"name":"e1"}', 403, "endpoint with name e1 already exists in network ov"),
  send("POST", "/networks/{ov}/endpoints", '{"name":""}', 400, "invalid name: "),
  send("POST", "/networks/{ov}/endpoints", "x", 400, garbage),
  send("POST", "/networks/nosuch/endpoints", '{"name":"e1"}', 404, noNetwork),
  get("/networks/{ov}/endpoints", 200, [{ name: "e1", id: "{e1}", network: "ov" }]),
  get("/networks/{ov}/endpoints?name=e1", 200, [{ name: "e1", id: "{e1}", network: "ov" }]),
  get("/networks/{ov}/endpoints?name=no", 200, []),
  get("/networks/{ov}/endpoints?partial-id={e1:5}", 200, [{ id: "{e1}" }]),
  get("/networks/{ov}/endpoints?partial-id={e1:3}", 200, []),
  get("/networks/{ov}/endpoints?partial-id=zz", 200, []),
  get("/networks/nosuch/endpoints", 404, noNetwork),
  get("/networks/{ov}/endpoints/{e1}", 200, { name: "e1", id: "{e1}", network: "ov", aliases: ["al"] }),
  get("/networks/{b1}/endpoints/{e1}", 404, noEndpoint),
  get("/networks/{ov}/endpoints/nosuch", 404, noEndpoint),
  get("/networks/{ov}", 200, { name: "ov", endpoints: [{ name: "e1", id: "{e1}", network: "ov" }] }),

  get("/sandboxes", 200, []),
  create("/sandboxes", '{"container_id":"k1"}', "k1"),
  send("POST", "/sandboxes", '{"container_id":"k1"}', 403, "container k1 is already present in sandbox {k1}"),
  send("POST", "/sandboxes", '{"container_id":""}', 400, "invalid container ID"),
  send("POST", "/sandboxes", "{}", 400, "invalid container ID"),
  send("POST", "/sandboxes", "x", 400, garbage),
  create(
    "/sandboxes",
    '{"container_id":"k2","host_name":"web","domain_name":"example.com","dns":["9.9.9.9","1.1.1.1"],"extra_hosts":[{"name":"db","address":"10.9.9.9"}],"exposed_ports":[{"Proto":6,"Port":80}]}',
    "k2",
  ),
  get("/sandboxes", 200, [
    { id: "{k1}", key: "/var/run/docker/netns/{k1:12}", container_id: "k1" },
    { id: "{k2}", key: "/var/run/docker/netns/{k2:12}", container_id: "k2" },
  ]),
  get("/sandboxes/{k1}", 200, { id: "{k1}", key: "/var/run/docker/netns/{k1:12}", container_id: "k1" }),
  get("/sandboxes/nosuch", 404, noSandbox),
  get("/sandboxes?container-id=k1", 200, [{ container_id: "k1" }]),
  get("/sandboxes?container-id=k", 200, []),
  get("/sandboxes?partial-container-id=k", 200, [{ container_id: "k1" }, { container_id: "k2" }]),
  get("/sandboxes?partial-container-id=zz", 200, []),
  get("/sandboxes?partial-id={k1:5}", 200, [{ container_id: "k1" }]),
  get("/sandboxes?partial-id={k1:3}", 200, []),
  get("/sandboxes?partial-id=zz", 200, []),
  get("/sandboxes?bogus=1", 200, [{ container_id: "k1" }, { container_id: "k2" }]),

  send("POST", "/networks/{ov}/endpoints/{e1}/sandboxes", '{"sandbox_id":"nosuch"}', 404, noSandbox),
  send("POST", "/networks/{ov}/endpoints/{e1}/sandboxes", "{}", 400, "invalid id: "),
  send("POST", "/networks/{ov}/endpoints/{e1}/sandboxes", "x", 400, garbage),
  send("POST", "/networks/{ov}/endpoints/nosuch/sandboxes", '{"sandbox_id":"{k1}"}', 404, noEndpoint),
  send(
    "POST",
    "/networks/{ov}/endpoints/{e1}/sandboxes",
    '{"sandbox_id":"{k1}","aliases":["bad:a:b"]}',
    500,
    "bad format for alias: bad:a:b",
  ),
  send(
    "POST",
    "/networks/{ov}/endpoints/{e1}/sandboxes",
    '{"sandbox_id":"{k1}"}',
    200,
    '"/var/run/docker/netns/{k1:12}"',
  ),
  send(
    "POST",
    "/networks/{ov}/endpoints/{e1}/sandboxes",
    '{"sandbox_id":"{k1}"}',
    403,
    "another container is attached to the same network endpoint",
  ),
  get("/networks/{ov}/endpoints/{e1}", 200, {
    name: "e1",
    network: "ov",
    container_id: "k1",
    sandbox_id: "{k1}",
    interface: "eth0",
  }),
  get("/sandboxes/{k1}", 200, { endpoints: ["{e1}"] }),
  send(
    "DELETE",
    "/networks/{ov}/endpoints/{e1}",
    undefined,
    403,
    "endpoint with name e1 id {e1} has active containers",
  ),
  send("DELETE", "/networks/{ov}", undefined, 403, "network ov id {ov} has active endpoints"),
  send("DELETE", "/networks/{ov}/endpoints/{e1}/sandboxes/nosuch", undefined, 404, noSandbox),
  send(
    "DELETE",
    "/networks/{ov}/endpoints/{e1}/sandboxes/{k2}",
    undefined,
    403,
    "unexpected sandbox ID in leave request. Expected {k1}. Got {k2}",
  ),
  send("DELETE", "/networks/{b1}/endpoints/{e1}/sandboxes/{k1}", undefined, 404, noEndpoint),
  send("DELETE", "/networks/{ov}/endpoints/{e1}/sandboxes/{k1}", undefined, 200, ""),
  send(
    "DELETE",
    "/networks/{ov}/endpoints/{e1}/sandboxes/{k1}",
    undefined,
    403,
    "cannot leave endpoint with no attached sandbox",
  ),
  send("DELETE", "/networks/{b1}/endpoints/{e1}", undefined, 404, noEndpoint),
  send("DELETE", "/networks/{ov}/endpoints/{e1}", undefined, 200, ""),
  send("DELETE", "/networks/{ov}/endpoints/{e1}", undefined, 404, noEndpoint),

  get("/services", 200, []),
  create("/services", '{"name":"s1","network_name":"ov","my_aliases":["sal"]}', "s1"),
  send(
    "POST",
    "/services",
    '{"name":"s1","network_name":"ov"}',
    403,
    "service with name s1 already exists in network ov",
  ),
  send("POST", "/services", '{"name":"s2","network_name":"nosuch"}', 404, noNetwork),
  create("/services", '{"name":"s3"}', "s3"),
  create("/services", '{"name":"s5","network_name":"b1"}', "s5"),
  send("POST", "/services", '{"name":"","network_name":"ov"}', 400, "invalid name: "),
  send("POST", "/services", "x", 400, garbage),
  get("/services?name=s3", 200, [{ name: "s3", id: "{s3}", network: "bridge" }]),
  get("/services/{s1}", 200, { name: "s1", id: "{s1}", network: "ov", network_id: "{ov}" }),
  get("/services/nosuch", 404, noService),
  get("/services?name=s1", 200, [{ id: "{s1}" }]),
  get("/services?name=none", 200, []),
  get("/services?network=ov", 200, [{ id: "{s1}" }]),
  get("/services?network=none", 200, []),
  get("/services?default-network=true", 200, [{ id: "{s3}" }]),
  get("/services?partial-id={s1:5}", 200, [{ id: "{s1}" }]),
  get("/services?network=ov&name=s1", 200, [{ id: "{s1}" }]),
  get("/services?network=b1&name=s1", 200, []),
  get("/services/{s1}/backend", 200, { id: "", key: "", container_id: "" }),
  get("/services/nosuch/backend", 404, noService),
  send("POST", "/services/{s1}/backend", '{"sandbox_id":"nosuch"}', 404, noSandbox),
  send("POST", "/services/{s1}/backend", "x", 400, garbage),
  send("POST", "/services/nosuch/backend", '{"sandbox_id":"{k1}"}', 404, noService),
  send(
    "POST",
    "/services/{s1}/backend",
    '{"sandbox_id":"{k1}","aliases":["a:b"]}',
    200,
    '"/var/run/docker/netns/{k1:12}"',
  ),
  send(
    "POST",
    "/services/{s1}/backend",
    '{"sandbox_id":"{k2}"}',
    403,
    "another container is attached to the same network endpoint",
  ),
  get("/services/{s1}/backend", 200, { id: "{k1}", key: "/var/run/docker/netns/{k1:12}", container_id: "k1" }),
  send("POST", "/services/{s5}/backend", '{"sandbox_id":"{k2}"}', 200, '"/var/run/docker/netns/{k2:12}"'),
  send("DELETE", "/services/{s1}", '{"name":"s1"}', 403, "service with name s1 id {s1} has active containers"),
  send("DELETE", "/services/{s1}", undefined, 400, "Invalid body: unexpected end of JSON input"),
  send("DELETE", "/services/{s1}/backend/nosuch", undefined, 404, noSandbox),
  send(
    "DELETE",
    "/services/{s1}/backend/{k2}",
    undefined,
    403,
    "unexpected sandbox ID in leave request. Expected {k1}. Got {k2}",
  ),
  send("DELETE", "/services/{s1}/backend/{k1}", undefined, 200, ""),
  send("DELETE", "/services/{s1}/backend/{k1}", undefined, 403, "cannot leave endpoint with no attached sandbox"),
  send("DELETE", "/services/{s5}", '{"name":"s5","force":true}', 200, ""),
  get("/sandboxes/{k2}", 200, { endpoints: [] }),
  send("DELETE", "/services/{s1}", '{"name":"wrongname"}', 200, ""),
  send("DELETE", "/services/nosuch", "{}", 404, noService),

  send("DELETE", "/sandboxes/nosuch", undefined, 404, noSandbox),
  send("DELETE", "/sandboxes/{k1}", undefined, 200, ""),
  send("DELETE", "/sandboxes/{k1}", undefined, 404, noSandbox),
  send("DELETE", "/sandboxes/{k2}", undefined, 200, ""),

  get("/v1.19/networks?name=ov", 200, [{ name: "ov" }]),
  get("/anything/networks?name=ov", 200, [{ name: "ov" }]),
  get("/a/b/networks", 404, "404 page not found"),
  get("/v1/services", 200, [{ name: "s3" }]),
  get("/", 404, "404 page not found"),
  get("/nosuch", 404, "404 page not found"),
  get("/containers/k1/json", 404, "404 page not found"),
  get("/networks//", 404, "404 page not found"),
  send("DELETE", "/networks/nosuch", undefined, 404, noNetwork),
  send("DELETE", "/networks/ov", undefined, 404, noNetwork),
  send("DELETE", "/networks/{ov}", undefined, 200, ""),
  send("DELETE", "/networks/{ov}", undefined, 404, noNetwork),
  send("DELETE", "/networks/{h1}", undefined, 403, 'network of type "host" cannot be deleted'),
  create("/sandboxes", '{"container_id":"dflt","use_default_sandbox":true}', "dflt"),
  get("/sandboxes?container-id=dflt", 200, [{ id: "{dflt}", key: "/var/run/docker/netns/default" }]),
  create("/services", '{"name":"hs","network_name":"h1"}', "hs"),
  send("POST", "/services/{hs}/backend", '{"sandbox_id":"{dflt}"}', 200, '"/var/run/docker/netns/default"'),
  get("/services/{hs}/backend", 200, { id: "{dflt}", container_id: "dflt" }),
  send("DELETE", "/services/{hs}/backend/{dflt}", undefined, 200, ""),
  send("DELETE", "/services/{hs}", "{}", 200, ""),
  send("DELETE", "/sandboxes/{dflt}", undefined, 200, ""),
];

test("the exchanges recorded with the original", async () => {
  const kept = new Map<string, string>();
  const fill = (text: string): string =>
    text.replaceAll(/\{([a-z]+\d?|dflt)(?::(\d+))?\}/g, (whole, name: string, length?: string) => {
      const id = kept.get(name);
      return id === undefined ? whole : id.slice(0, length === undefined ? undefined : Number(length));
    });
  for (const { method, url, body, status, answer, keep } of recorded) {
    const what = `${method} ${url} ${body ?? ""}`;
    const got = await call(method, fill(url), body === undefined ? undefined : fill(body));
    expect(`${what} -> ${got.status} ${got.status === status ? "" : got.text}`).toBe(`${what} -> ${status} `);
    if (keep !== undefined) kept.set(keep, JSON.parse(got.text) as string);
    if (typeof answer === "string") expect(firstLine(got.text), what).toBe(fill(answer));
    else if (answer instanceof RegExp) expect(got.text, what).toMatch(answer);
    else if (answer !== undefined) {
      expect(JSON.parse(got.text), what).toMatchObject(JSON.parse(fill(JSON.stringify(answer))) as object);
      if (Array.isArray(answer)) expect(JSON.parse(got.text), what).toHaveLength(answer.length);
    }
    if (status !== 405 && got.text !== "") {
      expect(got.type, what).toBe(status < 300 ? "application/json" : textType);
    }
  }
});

describe("paths and methods", () => {
  test.each([
    ["/networks", "/networks", {}],
    ["/v1.19/networks", "/networks", {}],
    ["/v1.19/networks?name=a/b", "/networks", {}],
    ["/x/services/1/backend", "/services/:eid/backend", { eid: "1" }],
    ["/x/healthz", "/healthz", {}],
    ["/networks/services", "/networks/:id", { id: "services" }],
    ["/networks/abc/endpoints", "/networks/:id/endpoints", { id: "abc" }],
    ["/networks/a%2Fb", "/networks/:id", { id: "a/b" }],
    ["/networks/?name=x", undefined, {}],
    ["/networks#fragment", undefined, {}],
    ["/a/b/networks", undefined, {}],
    ["/a/networksx", undefined, {}],
    ["//networks", undefined, {}],
    ["/", undefined, {}],
    ["", undefined, {}],
    ["networks", undefined, {}],
    ["*", undefined, {}],
    ["http://evil/networks", undefined, {}],
  ])("route of %j", (url, path, params) => {
    const found = findRoute("GET", url);
    if (path === undefined) expect(found.kind).toBe("none");
    else expect(found).toMatchObject({ kind: "route", route: { path }, params });
  });

  test.each(["v1.19", "v9", "1", "x", "..x", "%2e%2e", "a%2fb", "emoji%F0%9F%8D%8E"])(
    "one segment %s before a resource means nothing",
    async (prefix) => {
      expect(await call("GET", `/${prefix}/networks?name=bridge`)).toEqual(await call("GET", "/networks?name=bridge"));
      const id = await made(`/${prefix}/networks`, { name: "p" });
      expect((await call("GET", `/${prefix}/networks/${id}`)).status).toBe(200);
      expect((await call("DELETE", `/${prefix}/networks/${id}`)).status).toBe(200);
    },
  );

  test("healthz answers without touching anything", async () => {
    expect(await call("GET", "/healthz")).toEqual({
      status: 200,
      type: "application/json",
      text: '{"status":"ok","repairs":0}',
    });
    fake.kernel.trouble = "the kernel does not answer";
    expect(JSON.parse((await call("GET", "/healthz")).text)).toEqual({
      ...{ status: "degraded", reasons: ["the kernel does not answer"], repairs: 0 },
    });
  });

  test("every answer names the server", async () => {
    for (const url of ["/networks", "/nosuch", "/networks/nosuch"]) {
      expect((await inject(app, { url })).headers.server).toBe("dnet/1.2.3");
    }
  });

  const paths = [
    ["/networks", ["GET", "POST"]],
    ["/networks/1", ["GET", "DELETE"]],
    ["/networks/1/endpoints", ["GET", "POST"]],
    ["/networks/1/endpoints/2", ["GET", "DELETE"]],
    ["/networks/1/endpoints/2/sandboxes", ["POST"]],
    ["/networks/1/endpoints/2/sandboxes/3", ["DELETE"]],
    ["/services", ["GET", "POST"]],
    ["/services/1", ["GET", "DELETE"]],
    ["/services/1/backend", ["GET", "POST"]],
    ["/services/1/backend/2", ["DELETE"]],
    ["/sandboxes", ["GET", "POST"]],
    ["/sandboxes/1", ["GET", "DELETE"]],
    ["/healthz", ["GET"]],
  ] as const;
  const methods = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"] as const;

  test.each(paths)("%s: methods other than %j are 405 without a body", async (path, known) => {
    for (const method of methods.filter((name) => !(known as readonly string[]).includes(name))) {
      const { status, text } = await call(method, path);
      expect({ method, status, text }).toEqual({ method, status: 405, text: "" });
    }
  });

  test.each([
    "/networks/",
    "/networks/1/",
    "/networks/1/nosuch",
    "/networks/1/endpoints/",
    "/services/1/backends",
    "/sandboxes/1/2",
    "/Networks",
    "/healthz/x",
    "/v1/v2/networks",
  ])("%s is not there", async (path) => {
    for (const method of methods) {
      const { status, text } = await call(method, path);
      expect({ method, status }).toEqual({ method, status: 404 });
      if (method !== "HEAD") expect(text).toBe("404 page not found\n");
    }
  });

  test.each(["GET", "DELETE"] as const)("%s of an id of any length is 404", async (method) => {
    for (const length of [1, 63, 64, 65, 255, 256, 257, 1000, 10_000]) {
      const { status } = await call(method, `/networks/${"a".repeat(length)}`);
      expect({ length, status }).toEqual({ length, status: 404 });
    }
  });

  test.each([
    "%zz",
    "%",
    "%e0%a4%a",
    "%00",
    "%2e%2e",
    "%2e%2e%2fnetworks",
    "..%2f..%2fetc%2fpasswd",
    "%ff",
    "a;b",
    "%25",
  ])("id %s is refused as the client's fault", async (id) => {
    for (const path of ["/networks/", "/services/", "/sandboxes/"]) {
      const { status } = await call("GET", path + id);
      expect([400, 404]).toContain(status);
    }
  });

  test("of a parameter given twice the first counts", async () => {
    expect(JSON.parse((await call("GET", "/networks?name=bridge&name=x")).text)).toHaveLength(1);
    expect(JSON.parse((await call("GET", "/networks?name=x&name=bridge")).text)).toHaveLength(0);
  });

  test.each(["__proto__", "constructor", "toString"])("the word %s has no meaning of its own", async (word) => {
    for (const query of [`${word}=1`, `name=${word}`, `network=${word}`, `partial-id=${word}`]) {
      for (const path of ["networks", "services", "sandboxes"]) {
        expect((await call("GET", `/${path}?${query}`)).status).toBe(200);
      }
    }
    for (const path of ["networks", "services", "sandboxes"]) {
      expect((await call("GET", `/${path}/${word}`)).status).toBe(404);
    }
    expect((await post("/services", { name: "s", network_name: word })).status).toBe(404);
    expect((await post("/networks", { name: "n", network_type: word })).status).toBe(404);
  });
});

describe("errors as JSON", () => {
  const json = { accept: "application/json" };

  test("for a client that accepts nothing else", async () => {
    const { status, type, text } = await call("GET", "/networks/nosuch", undefined, json);
    expect({ status, type }).toEqual({ status: 404, type: "application/json" });
    expect(JSON.parse(text)).toEqual({ code: "no-network", message: "Resource not found: Network" });
  });

  test("with a hint where there is one, which is the second line of the text", async () => {
    const body = '{"name":"a b"}';
    const answer = JSON.parse((await call("POST", "/networks", body, json)).text) as { message: string; hint: string };
    expect(answer).toMatchObject({ code: "invalid-name", message: "invalid name: a b" });
    expect((await call("POST", "/networks", body)).text).toBe(`${answer.message}\n${answer.hint}\n`);
  });

  test.each(["*/*", "text/plain", "application/json, text/plain", "application/json, */*", ""])(
    "text for a client that accepts %j",
    async (accept) => {
      expect((await call("GET", "/networks/nosuch", undefined, { accept })).type).toBe(textType);
    },
  );
});

describe("bodies", () => {
  test.each([-1, 0, 1])(
    "CVE-2024-41110, CVE-2026-34040: a body at the limit %i byte is taken whole or refused",
    async (more) => {
      const frame = '{"name":"big","pad":""}';
      const body = `{"name":"big","pad":"${"p".repeat(maxBody + more - frame.length)}"}`;
      expect(Buffer.byteLength(body)).toBe(maxBody + more);
      const before = await snapshot();
      const { status, text } = await call("POST", "/networks", body);
      expect(status).toBe(more > 0 ? 413 : 201);
      if (more > 0) {
        expect(text).toBe(`Invalid body: more than ${maxBody} bytes\n`);
        expect(await snapshot()).toBe(before);
      }
    },
  );

  test.each([
    ["no body", "POST", "/networks", undefined, {}, 400],
    ["an empty body", "POST", "/networks", "", {}, 400],
    ["a length of 0 before a body", "POST", "/networks", '{"name":"sneaked"}', { "content-length": "0" }, 400],
    ["chunks past the limit", "POST", "/networks", "big", { "transfer-encoding": "chunked" }, 413],
    ["a path with encoded slashes", "POST", "/%6eetworks%2f..%2fnetworks", '{"name":"sneaked"}', {}, 404],
    ["a method by another header", "GET", "/networks", '{"name":"sneaked"}', { "x-http-method-override": "POST" }, 200],
  ] as const)(
    "CVE-2024-41110, CVE-2026-34040: %s: no side effect",
    async (_what, method, url, given, headers, status) => {
      const before = await snapshot();
      const body = given === "big" ? `{"name":"sneaked","pad":"${"p".repeat(maxBody)}"}` : given;
      const { "content-length": length, ...more } = headers as Record<string, string>;
      const response = await inject(app, {
        method,
        url,
        headers: { host: "localhost", ...more, ...(length !== undefined && { "content-length": length }) },
        ...(body !== undefined && length === undefined && { payload: body }),
      });
      expect(response.statusCode).toBe(status);
      expect(await snapshot()).toBe(before);
    },
  );

  test("the limit counts bytes, not characters", async () => {
    const body = `{"name":"big","pad":"${"é".repeat(maxBody / 2)}"}`;
    expect((await call("POST", "/networks", body)).status).toBe(413);
  });

  test.each([
    ["", "unexpected end of JSON input"],
    [" \n\t", "unexpected end of JSON input"],
    ["garbage", "invalid character 'g' looking for beginning of value"],
    ["'single'", "invalid character ''' looking for beginning of value"],
    ["<xml/>", "invalid character '<' looking for beginning of value"],
    ["}", "invalid character '}' looking for beginning of value"],
    [",", "invalid character ',' looking for beginning of value"],
    ["\u0000", 'invalid character "\\u0000" looking for beginning of value'],
    ["{", "unexpected end of JSON input"],
    ["[", "unexpected end of JSON input"],
    ['{"name"', "unexpected end of JSON input"],
    ['{"name":', "unexpected end of JSON input"],
    ['{"name":"a', "unexpected end of JSON input"],
    ['{"name":"a"', "unexpected end of JSON input"],
    ['{"name":"a",', "unexpected end of JSON input"],
    ['"open', "unexpected end of JSON input"],
  ])("malformed %j", async (body, reason) => {
    const { status, text } = await call("POST", "/networks", body);
    expect({ status, text }).toEqual({ status: 400, text: `Invalid body: ${reason}\n` });
  });

  test.each([
    '{"name":"a"} trailing',
    '{"name":"a"}{"name":"b"}',
    "{name:'a'}",
    '{"name":"a",}',
    '{"name":"a" "id":"b"}',
    '{"name":"a\nb"}',
    '{"name":"\\x41"}',
    '{"name":"\\u12"}',
    '{"name":01}',
    '{"name":NaN}',
    '{"name":undefined}',
    "nul",
    "tru",
    "-",
    "1e",
    "//comment\n{}",
    "\u{1f34e}",
    "[".repeat(100_000),
    '{"a":'.repeat(100_000),
  ])("malformed, case %#", async (body) => {
    const before = await snapshot();
    for (const [method, url] of [
      ["POST", "/networks"],
      ["POST", "/services"],
      ["POST", "/sandboxes"],
      ["DELETE", "/services/nosuch"],
    ] as const) {
      const { status, text } = await call(method, url, body);
      expect({ status, text }).toMatchObject({
        status: 400,
        text: expect.stringMatching(/^Invalid body: .{1,300}\n$/),
      });
    }
    expect(await snapshot()).toBe(before);
  });

  test.each(["null", "true", "5", '"text"', "[]", '[{"name":"a"}]'])("%s is no object", async (body) => {
    const { status, text } = await call("POST", "/networks", body);
    expect(status).toBe(400);
    expect(text).toMatch(
      /^(Invalid body: json: cannot unmarshal \w+ into Go value of type networkCreate|invalid name: )\n/,
    );
  });

  test("bytes that are not UTF-8 are refused or replaced, never stored as they are", async () => {
    const { status } = await call("POST", "/networks", Buffer.from([...Buffer.from('{"name":"a'), 0xff, 0x22, 0x7d]));
    expect(status).toBe(400);
  });

  test.each([
    undefined,
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "image/png",
    "nonsense",
    "a/b/c",
    ";;;",
  ])("content type %s is passed over", async (type) => {
    const headers = type === undefined ? {} : { "content-type": type };
    const { status, text } = await call("POST", "/networks", '{"name":"typed"}', headers);
    expect({ status, text }).toMatchObject({ status: 201 });
  });

  test("names of fields match without regard to case, others are passed over, null is absent", async () => {
    const id = await made("/networks", { NAME: "n", Network_Type: "test", unknown: [1], labels: null });
    expect(JSON.parse((await call("GET", `/networks/${id}`)).text)).toMatchObject({
      name: "n",
      type: "test",
      labels: {},
    });
  });

  const some: Readonly<Record<string, unknown>> = {
    string: "text",
    number: 5,
    bool: true,
    array: [[]],
    object: { a: {} },
  };
  const fields: readonly (readonly [string, Readonly<Record<string, readonly string[]>>])[] = [
    [
      "/networks",
      {
        name: ["string"],
        id: ["string"],
        network_type: ["string"],
        ipv4_configuration: [],
        ipv6_configuration: [],
        driver_opts: [],
        network_opts: [],
        labels: [],
      },
    ],
    [
      "/services",
      { name: ["string"], my_aliases: [], network_name: ["string"], ip_addresses: [], mac_address: ["string"] },
    ],
    [
      "/sandboxes",
      {
        container_id: ["string"],
        host_name: ["string"],
        domain_name: ["string"],
        hosts_path: ["string"],
        resolv_conf_path: ["string"],
        dns: [],
        dns_search: [],
        dns_options: [],
        extra_hosts: [],
        use_default_sandbox: ["bool"],
        use_external_key: ["bool"],
      },
    ],
  ];
  const valid: Readonly<Record<string, object>> = {
    "/networks": { name: "typed" },
    "/services": { name: "typed" },
    "/sandboxes": { container_id: "typed" },
  };
  const wrong = fields.flatMap(([url, table]) =>
    Object.entries(table).flatMap(([field, right]) =>
      Object.keys(some)
        .filter((type) => !right.includes(type))
        .map((type) => [url, field, type] as const),
    ),
  );

  test.each(wrong)("%s: %s as %s", async (url, field, type) => {
    const before = await snapshot();
    const { status, text } = await post(url, { ...valid[url], [field]: some[type] });
    expect({ status, text }).toMatchObject({ status: 400 });
    expect(text).toMatch(/cannot unmarshal|^invalid/);
    expect(await snapshot()).toBe(before);
  });

  test.each([
    ["/networks/{n}/endpoints", "name", "endpointCreate"],
    ["/services/{s}/backend", "sandbox_id", "endpointJoin"],
    ["/services/{s}/backend", "aliases", "endpointJoin"],
    ["/networks/{n}/endpoints/{s}/sandboxes", "sandbox_id", "endpointJoin"],
    ["/networks/{n}/endpoints/{s}/sandboxes", "aliases", "endpointJoin"],
  ])("%s: %s of a wrong type", async (url, field, structure) => {
    const network = await made("/networks", { name: "n" });
    const service = await made("/services", { name: "s", network_name: "n" });
    const path = url.replace("{n}", network).replace("{s}", service);
    for (const value of [5, true, {}, [5]]) {
      const { status, text } = await post(path, { name: "e", [field]: value });
      expect({ status, text }).toMatchObject({ status: 400 });
      expect(text).toContain(`${structure}.${field} of type`);
    }
  });

  test("force is a boolean", async () => {
    const id = await made("/services", { name: "s" });
    for (const force of ["true", 1, [], {}]) {
      expect((await call("DELETE", `/services/${id}`, JSON.stringify({ force }))).status).toBe(400);
    }
    expect((await call("DELETE", `/services/${id}`, '{"force":null}')).status).toBe(200);
  });

  test.each([
    '{"__proto__":{"name":"evil"},"name":"good"}',
    '{"constructor":{"prototype":{"name":"evil"}},"name":"good"}',
    '{"name":"good","driver_opts":{},"toString":5}',
  ])("%s does not reach prototypes", async (body) => {
    expect((await call("POST", "/networks", body)).status).toBe(201);
    expect(({} as Record<string, unknown>).name).toBeUndefined();
    expect(JSON.parse((await call("GET", "/networks?name=good")).text)).toHaveLength(1);
    expect(JSON.parse((await call("GET", "/networks?name=evil")).text)).toHaveLength(0);
  });

  test.each([
    '{"name":"p","driver_opts":{"__proto__":"x"}}',
    '{"name":"p","driver_opts":{"__proto__":{"com.docker.network.bridge.name":"x"}}}',
    '{"name":"p","network_opts":{"com.docker.network.generic":{"__proto__":"x"}}}',
    '{"name":"p","labels":{"__proto__":"x"}}',
    '{"name":"p","ipv4_configuration":[{"AuxAddresses":{"__proto__":"172.17.0.9"}}]}',
  ])("%s is refused", async (body) => {
    const before = await snapshot();
    expect((await call("POST", "/networks", body)).status).toBe(400);
    expect(await snapshot()).toBe(before);
  });

  test("options nested to any depth are refused, not followed until the stack ends", async () => {
    const open = '{"com.docker.network.generic":';
    const depth = 30_000;
    const body = `{"name":"deep","network_opts":${open.repeat(depth)}{}${"}".repeat(depth)}}`;
    expect((await call("POST", "/networks", body)).status).toBe(400);
  });

  test("generic options may lie in a map of their own", async () => {
    const id = await made("/networks", {
      name: "g",
      network_opts: { "com.docker.network.generic": { "com.docker.network.driver.mtu": 1400 } },
    });
    expect(JSON.parse((await call("GET", `/networks/${id}`)).text)).toMatchObject({
      options: { "com.docker.network.driver.mtu": "1400" },
    });
  });

  test("thousands of subnets are refused for their number", async () => {
    const subnets = Array.from({ length: 20_000 }, (_, n) => ({
      PreferredPool: `10.${(n >> 6) & 255}.${(n & 63) * 4}.0/30`,
    }));
    const { status, text } = await post("/networks", { name: "many", ipv4_configuration: subnets });
    // Refused for their number, before any is looked at.
    expect({ status, text }).toMatchObject({ status: 400, text: expect.stringContaining("at most 64") });
  });

  test("thousands of entries of a map are refused for their number", async () => {
    const entries = Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`k${n}`, "10.9.0.9"]));
    for (const more of [
      { labels: entries },
      { driver_opts: entries },
      { ipv4_configuration: [{ PreferredPool: "10.9.0.0/24", AuxAddresses: entries }] },
    ]) {
      const { status, text } = await post("/networks", { name: "many", ...more });
      expect({ status, text }).toMatchObject({ status: 400, text: expect.stringContaining("at most 256 entries") });
    }
  });
});

describe("values", () => {
  const badNames = [
    "a/b",
    "..",
    ".",
    "../etc",
    " ",
    "a b",
    " a",
    "a\u0000",
    "\u0000",
    "a\nb",
    "a\n",
    "\u{1f34e}",
    "é",
    "-a",
    "_a",
    "a;b",
    "$(reboot)",
    "`id`",
    "a'b",
    'a"b',
    "a%00",
    "g".repeat(64),
    "a".repeat(100_000),
  ];

  test.each(badNames.map((name) => [name.slice(0, 70), name] as const))("name %j", async (_, name) => {
    const id = await made("/networks", { name: "here" });
    const service = await made("/services", { name: "s", network_name: "here" });
    const sandbox = await made("/sandboxes", { container_id: "c" });
    const before = await snapshot();
    const refused = [
      ["/networks", { name }],
      ["/networks", { name: "ok", id: name }],
      [`/networks/${id}/endpoints`, { name }],
      [`/networks/${id}/endpoints`, { name: "ok", my_aliases: [name] }],
      ["/services", { name, network_name: "here" }],
      ["/services", { name: "ok", network_name: "here", my_aliases: ["fine", name] }],
      [`/services/${service}/backend`, { sandbox_id: sandbox, aliases: [name] }],
      [`/services/${service}/backend`, { sandbox_id: sandbox, aliases: [`c:${name}`] }],
      ["/networks", { name: "ok", driver_opts: { "com.docker.network.bridge.name": name } }],
      ["/networks", { name: "ok", driver_opts: { [name]: "x" } }],
      ...(name.length === 64 ? [] : ([["/sandboxes", { container_id: name }]] as const)),
    ] as const;
    for (const [url, body] of refused) {
      const { status, text } = await post(url, body);
      expect({ url, body: JSON.stringify(body).slice(0, 200), status }).toMatchObject({ status: 400 });
      expect(text.length).toBeLessThan(1000);
      // Control characters must not reach a terminal.
      expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
    }
    expect(await snapshot()).toBe(before);
  });

  test("a network's name has no dot, a service's may", async () => {
    expect((await post("/networks", { name: "a.b" })).status).toBe(400);
    await made("/services", { name: "a.b" });
    for (const name of ["a..b", "a.", ".a"]) expect((await post("/services", { name })).status).toBe(400);
  });

  test.each([1, 62, 63])("names of %i characters", async (length) => {
    const name = "a".repeat(length);
    await made("/networks", { name });
    await made("/services", { name, network_name: name });
  });

  test.each([
    ["10.88.0.0/33"],
    ["bogus"],
    ["10.88.0.0"],
    ["10.88.0.0/-1"],
    ["010.1.0.0/16"],
    ["10.1.0.0/016"],
    ["::ffff:10.0.0.0/112"],
    ["10.0.0.0/8 "],
    ["10.0.0.0/8\u0000"],
  ])("pool %j", async (pool) => {
    const before = await snapshot();
    const { status, text } = await post("/networks", { name: "p", ipv4_configuration: [{ PreferredPool: pool }] });
    expect(status).toBe(400);
    expect(firstLine(text)).toBe(
      `failed to parse pool request for address space "LocalDefault" pool ${JSON.stringify(pool)} subpool "": Invalid Address Pool`,
    );
    expect(await snapshot()).toBe(before);
  });

  test("a pool that overlaps is refused in the original's words", async () => {
    await made("/networks", { name: "p", ipv4_configuration: [{ PreferredPool: "10.77.0.0/16" }] });
    const { status, text } = await post("/networks", {
      name: "q",
      ipv4_configuration: [{ PreferredPool: "10.77.128.0/24" }],
    });
    expect(status).toBe(403);
    expect(firstLine(text)).toBe("Pool overlaps with other one on this address space");
  });

  test.each([
    [{ PreferredPool: "10.1.0.0/16", Gateway: "10.2.0.1" }],
    [{ PreferredPool: "10.1.0.0/16", Gateway: "nonsense" }],
    [{ PreferredPool: "10.1.0.0/16", Gateway: "2001:db8::1" }],
    [{ PreferredPool: "10.1.0.0/16", SubPool: "10.2.0.0/24" }],
    [{ PreferredPool: "10.1.0.0/16", SubPool: "2001:db8::/64" }],
    [{ PreferredPool: "10.1.0.0/16", AuxAddresses: { a: "10.2.0.1" } }],
    [{ PreferredPool: "10.1.0.0/16", AuxAddresses: { a: "nonsense" } }],
    [{ PreferredPool: "10.1.0.0/16", AuxAddresses: { a: ["10.1.0.1"] } }],
    [{ PreferredPool: "10.1.0.0/16", Gateway: "10.1.0.1", AuxAddresses: { a: "10.1.0.1" } }],
  ])("subnet %j", async (subnet) => {
    const before = await snapshot();
    const { status, text } = await post("/networks", { name: "p", ipv4_configuration: [subnet] });
    expect({ status, text }).toMatchObject({ status: 400 });
    expect(await snapshot()).toBe(before);
  });

  test.each([
    [{ ip_addresses: ["nonsense"] }],
    [{ ip_addresses: ["10.60.0.2", "10.60.0.3"] }],
    [{ ip_addresses: ["10.61.0.2"] }],
    [{ ip_addresses: ["2001:db8::2"] }],
    [{ ip_addresses: ["::ffff:10.60.0.2"] }],
    [{ ip_addresses: ["10.60.0.2/16"] }],
    [{ mac_address: "nonsense" }],
    [{ mac_address: "ff:ff:ff:ff:ff:ff" }],
    [{ mac_address: "01:00:5e:00:00:01" }],
  ])("endpoint with %j", async (more) => {
    await made("/networks", { name: "p", ipv4_configuration: [{ PreferredPool: "10.60.0.0/16" }] });
    const before = await snapshot();
    const { status, text } = await post("/services", { name: "s", network_name: "p", ...more });
    expect({ status, text }).toMatchObject({ status: 400 });
    expect(await snapshot()).toBe(before);
  });

  test("an address that is taken is refused by name", async () => {
    await made("/networks", { name: "p", ipv4_configuration: [{ PreferredPool: "10.60.0.0/16" }] });
    await made("/services", {
      name: "s",
      network_name: "p",
      ip_addresses: ["10.60.0.7"],
      mac_address: "02:42:00:00:00:07",
    });
    const before = await snapshot();
    const { status, text } = await post("/services", { name: "t", network_name: "p", ip_addresses: ["10.60.0.7"] });
    expect({ status, text }).toMatchObject({ status: 403 });
    expect(text).toMatch(/already in use/i);
    expect(text).toContain("10.60.0.7");
    expect(await snapshot()).toBe(before);
  });

  test.each([
    [{ host_name: "a b" }],
    [{ host_name: "a\nb" }],
    [{ domain_name: "a\u0000" }],
    [{ host_name: "a".repeat(254) }],
    [{ hosts_path: "relative/hosts" }],
    [{ hosts_path: "/var/../etc/hosts" }],
    [{ hosts_path: "/etc/hosts\u0000x" }],
    [{ resolv_conf_path: `/${"a".repeat(4096)}` }],
    [{ dns: ["nonsense"] }],
    [{ dns_search: ["a b"] }],
    [{ dns_options: ["ndots:1\nnameserver 6.6.6.6"] }],
    [{ extra_hosts: [{ name: "db", address: "nonsense" }] }],
    [{ extra_hosts: [{ name: "a b", address: "10.0.0.1" }] }],
    [{ extra_hosts: [{ name: 5, address: "10.0.0.1" }] }],
  ])("sandbox with %j", async (more) => {
    const before = await snapshot();
    const { status, text } = await post("/sandboxes", { container_id: "k", ...more });
    expect({ status, text }).toMatchObject({ status: 400 });
    expect(await snapshot()).toBe(before);
  });

  test.each([
    ["/services", { name: "s", port_mapping: [{ Proto: 6, Port: 80 }] }],
    ["/sandboxes", { container_id: "k", use_external_key: true }],
  ])("what this version has not is said to be so: %s %j", async (url, body) => {
    const before = await snapshot();
    expect((await post(url, body)).status).toBe(501);
    expect(await snapshot()).toBe(before);
  });

  test.each(["com.docker.network.bridge.nmae", "encrypted", "../x"])("unknown option %s is refused", async (name) => {
    const { status, text } = await post("/networks", { name: "o", driver_opts: { [name]: "1" } });
    expect(status).toBe(400);
    expect(text).toContain(JSON.stringify(name));
  });
});

test.each(["../../bin/x", "/bin/x", "a/../../bin/x", "..", "a/..", "a//b", "a\u0000", "a;b", "$(id)", "a".repeat(256)])(
  "CVE-2021-20206: the driver name %j is refused, and nothing is looked for",
  async (name) => {
    const before = await snapshot();
    const { status, text } = await post("/networks", { name: "o", network_type: name });
    expect({ status, text }).toMatchObject({ status: 400, text: expect.stringContaining("invalid driver name: ") });
    expect(await snapshot()).toBe(before);
  },
);

describe("host names", () => {
  const status = async (host: string) =>
    (await inject(app, { url: "/networks", headers: { host }, remoteAddress: "10.0.0.9" })).statusCode;

  test.each([
    "127.0.0.1",
    "127.0.0.1:2385",
    "[::1]",
    "[::1]:2385",
    "localhost",
    "localhost:1",
    "10.1.2.3:80",
    "dnet.example",
    "dnet.example:2385",
    "LOCALHOST",
    "DNET.Example:80",
  ])("%s is allowed", async (host) => {
    expect(await status(host)).toBe(200);
  });

  test.each([
    "evil.example",
    "evil.example:2385",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "dnet.example.evil",
    "xdnet.example",
    "127.0.0.1@evil",
    "[evil]",
    "0x7f000001",
  ])("%s is refused and does nothing", async (host) => {
    const before = await snapshot();
    const response = await inject(app, {
      method: "POST",
      url: "/networks",
      headers: { host },
      payload: '{"name":"rebound"}',
      remoteAddress: "127.0.0.1",
    });
    expect(response.statusCode).toBe(403);
    expect(response.payload).toContain("is not allowed");
    expect(await snapshot()).toBe(before);
  });
});

describe("many clients", () => {
  test("in parallel changes what one client at a time would change", async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => post("/networks", { name: "one" })));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 403)).toHaveLength(19);
    const services = await Promise.all(
      Array.from({ length: 50 }, (_, n) => post("/services", { name: `s${n}`, network_name: "one" })),
    );
    expect(services.every(({ status }) => status === 201)).toBe(true);
    const addresses = (
      JSON.parse((await call("GET", "/services?network=one")).text) as { addresses: string[] }[]
    ).flatMap((item) => item.addresses);
    expect(new Set(addresses).size).toBe(50);
  });
});
