import { readFileSync } from "node:fs";
import fc from "fast-check";
import { parseDiscovery } from "../../src/cluster/discovery.ts";
import { parseConfig } from "../../src/daemon/config.ts";
import { parseListenAddress } from "../../src/daemon/listen.ts";
import { parseRequest } from "../../src/ports/port-text.ts";
import { parseStoreAddress } from "../../src/store/address.ts";
import { fuzzTarget, nearly } from "./target.ts";

const sample = (name: string) => readFileSync(new URL(`../../cmd/dnet/${name}`, import.meta.url));
const configurations = [
  sample("libnetwork.toml"),
  sample("libnetwork-consul.toml"),
  Buffer.from('[daemon]\nhosts = ["tcp://127.0.0.1:1"]\nfirewall = "none"\n[overlay]\npeersAhead = 5\n'),
  Buffer.from(
    '[scopes.global.client]\nprovider = "etcd"\naddress = "a:1"\n[scopes.global.client.config]\nusername = "u"\n',
  ),
  Buffer.from('[orchestration]\nagent = true\npeer = "10.0.0.1"\n[cluster]\nserfPort = 1\nencrypt = ""\n'),
];
const line = fc.oneof(
  fc.constantFrom(
    "[daemon]",
    "[scopes.global.client]",
    "debug = ",
    "x.y = 1",
    '"a" = "b"',
    "[[daemon]]",
    "hosts = [",
    "'''",
    '"""',
  ),
  fc.string(),
  fc.string({ unit: "binary" }),
);

/** The configuration file: what people write, and what is nearly that. */
export const toml = fuzzTarget(
  "toml",
  fc.oneof(
    fc.array(line, { maxLength: 12 }).map((lines) => lines.join("\n")),
    nearly(configurations, 400).map((bytes) => bytes.toString("utf8")),
  ),
  () => ({ check: (text) => parseConfig(text, "x.toml") }),
);

const addresses = [
  "tcp://127.0.0.1:80",
  "unix:///x",
  "consul://a:1/b",
  "8080-8090:80-90/udp",
  "[::1]:80:80/tcp",
  "a:1,b:2/c",
];

/** Addresses and ports as they are typed. */
export const addressTexts = fuzzTarget(
  "addresses",
  fc.oneof(
    nearly(
      addresses.map((text) => Buffer.from(text)),
      60,
    ).map(String),
    fc.string(),
    fc.string({ unit: "binary" }),
  ),
  () => ({
    check(text) {
      for (const read of [parseListenAddress, parseDiscovery, parseRequest, parseStoreAddress] as const) {
        try {
          (read as (text: string) => unknown)(text);
        } catch (error) {
          if (!(error instanceof Error && error.name === "NetworkError")) throw error;
        }
      }
    },
  }),
);
