import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runs } from "../../test/runs.ts";
import { NetworkError } from "../errors.ts";
import { ipFromBigInt, parseIp } from "../net/ip.ts";
import type { PortRequest } from "./port-mapping.ts";
import { parseExpose, parsePublish } from "./port-syntax.ts";
import { parseRequest, publishedText, requestText } from "./port-text.ts";

const address = fc.oneof(
  fc.bigInt(0n, 2n ** 32n - 1n).map((value) => ipFromBigInt(value, 4)),
  // An IPv4-mapped address is none of ours.
  fc.bigInt(2n ** 64n, 2n ** 128n - 1n).map((value) => ipFromBigInt(value, 6)),
);
const protocol = fc.constantFrom("tcp" as const, "udp" as const, "sctp" as const);

/** Whatever can be asked for. */
const request: fc.Arbitrary<PortRequest> = fc
  .record({
    protocol,
    port: fc.integer({ min: 1, max: 60_000 }),
    count: fc.integer({ min: 1, max: 5000 }),
    hostAddress: fc.option(address, { nil: undefined }),
    host: fc.option(
      fc.record({ first: fc.integer({ min: 1, max: 60_000 }), more: fc.integer({ min: 0, max: 5000 }) }),
      {
        nil: undefined,
      },
    ),
  })
  .map(({ hostAddress, host, ...exposed }) => ({
    ...exposed,
    ...(hostAddress !== undefined && { hostAddress }),
    ...(host && {
      hostPort: host.first,
      hostPortEnd: host.first + (exposed.count === 1 ? host.more : exposed.count - 1),
    }),
  }));

describe("the syntax of ports", () => {
  it.each([
    ["80", { protocol: "tcp", port: 80, portEnd: 80 }],
    ["80/udp", { protocol: "udp", port: 80, portEnd: 80 }],
    ["80/UDP", { protocol: "udp", port: 80, portEnd: 80 }],
    ["8080:80", { protocol: "tcp", port: 80, portEnd: 80, hostPort: 8080, hostPortEnd: 8080 }],
    [":80", { protocol: "tcp", port: 80, portEnd: 80 }],
    ["::80", { protocol: "tcp", port: 80, portEnd: 80 }],
    ["127.0.0.1::80", { protocol: "tcp", port: 80, portEnd: 80, hostAddress: "127.0.0.1" }],
    [
      "[::1]:8080:80/tcp",
      { protocol: "tcp", port: 80, portEnd: 80, hostAddress: "::1", hostPort: 8080, hostPortEnd: 8080 },
    ],
    ["8000-8009:80", { protocol: "tcp", port: 80, portEnd: 80, hostPort: 8000, hostPortEnd: 8009 }],
    ["8000-8009:80-89/sctp", { protocol: "sctp", port: 80, portEnd: 89, hostPort: 8000, hostPortEnd: 8009 }],
    ["80-89", { protocol: "tcp", port: 80, portEnd: 89 }],
  ])("%s", (text, expected) => expect(parsePublish(text)).toEqual(expected));

  it.each([
    ["", "no port specified"],
    ["8080:", "no port specified"],
    ["0", "from 1 to 65535"],
    ["65536", "from 1 to 65535"],
    ["80-65536", "from 1 to 65535"],
    ["x:80", 'invalid host port: "x"'],
    ["80:-1", 'invalid container port: "-1"'],
    ["89-80", "ends before it begins"],
    ["80/", 'invalid protocol: ""'],
    ["80/icmp", 'invalid protocol: "icmp"'],
    ["8000-8001:80-89", "invalid ranges specified for container and host Ports: 80-89 and 8000-8001"],
    ["::1:8080:80", "too many colons"],
    ["[::1]8080:80", "too many colons"],
    ["[]:8080:80", "the host address is empty"],
    ["1".repeat(300), "too long"],
    ["80\n", "invalid container port"],
  ])("%j is refused: %s", (text, reason) => {
    expect(() => parsePublish(text)).toThrow(reason);
    expect(() => parsePublish(text)).toThrow(NetworkError);
  });

  it("reads what it writes", () => {
    fc.assert(
      fc.property(request, (asked) => {
        expect(parseRequest(requestText(asked))).toEqual(asked);
      }),
    );
  });

  it("gives numbers in order or a bad request, whatever is typed", () => {
    const piece = fc.oneof(
      fc.constantFrom(":", "-", "/", "[", "]", ".", "tcp", "udp", "80", "65535", "0", "::1"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        for (const parse of [parsePublish, parseExpose]) {
          try {
            const { port, portEnd, hostPort = 1, hostPortEnd = hostPort } = parse(pieces.join(""));
            expect(port >= 1 && port <= portEnd && portEnd <= 65_535).toBe(true);
            expect(hostPort >= 1 && hostPort <= hostPortEnd && hostPortEnd <= 65_535).toBe(true);
          } catch (error) {
            if (!(error instanceof NetworkError)) throw error;
            expect(error.kind).toBe("bad-request");
          }
        }
      }),
      { numRuns: runs(2000) },
    );
  });

  it("exposes ports and ranges without a host", () => {
    expect(parseExpose("53-54/udp")).toEqual({ protocol: "udp", port: 53, portEnd: 54 });
    expect(() => parseExpose("8080:80")).toThrow("invalid container port");
  });
});

describe("ports as they are shown", () => {
  it.each([
    [{ protocol: "tcp", hostPort: 8080, port: 80, count: 1 }, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"],
    [
      { protocol: "udp", hostAddress: parseIp("::1"), hostPort: 8000, port: 80, count: 3 },
      "[::1]:8000-8002->80-82/udp",
    ],
  ] as const)("%j: %s", (port, text) => expect(publishedText(port)).toBe(text));

  it("has an address that is one, or is refused", () => {
    expect(() => parseRequest("localhost:80:80")).toThrow("host address");
  });
});
