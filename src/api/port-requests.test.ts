import { describe, expect, it } from "vitest";
import { NetworkError } from "../errors.ts";
import { requestText } from "../ports/port-text.ts";
import { exposedPorts, portRequests } from "./port-requests.ts";

const texts = (mapping: unknown, exposed: unknown = [], all = false) =>
  portRequests(mapping, exposedPorts(exposed), all).map(requestText);

describe("port_mapping", () => {
  it.each([
    // The original's own form, as its clients send it.
    [{ Proto: 6, IP: "", Port: 80, HostIP: "", HostPort: 8080, HostPortEnd: 0 }, "8080:80/tcp"],
    [{ proto: 17, port: 53, hostip: "127.0.0.1", hostport: 5353 }, "127.0.0.1:5353:53/udp"],
    [{ Proto: 132, Port: 9, HostPort: 9 }, "9:9/sctp"],
    [{ Port: 80 }, "80/tcp"],
    [{ Proto: "udp", Port: 80, HostPort: 0 }, "80/udp"],
    [{ Proto: 6, Port: 80, HostPort: 8000, HostPortEnd: 8009 }, "8000-8009:80/tcp"],
    [{ Proto: 6, Port: 80, PortEnd: 89, HostPort: 8000, HostPortEnd: 8009 }, "8000-8009:80-89/tcp"],
    [{ Proto: 6, Port: 80, PortEnd: 89, HostPort: 8000 }, "8000-8009:80-89/tcp"],
    [{ Proto: 6, Port: 80, PortEnd: 89, HostIP: "::1" }, "[::1]::80-89/tcp"],
  ])("%j is %s", (binding, text) => expect(texts([binding])).toEqual([text]));

  it.each([
    [[{ Proto: 6 }], "no Port given"],
    [[{ Proto: 1, Port: 80 }], 'invalid protocol: "1"'],
    [[{ Proto: "__proto__", Port: 80 }], "invalid protocol"],
    [[{ Proto: {}, Port: 80 }], "invalid protocol"],
    [[{ Proto: 6, Port: 65_536 }], "Port is not a number from 1 to 65535"],
    [[{ Proto: 6, Port: "80" }], "Port is not a number from 1 to 65535"],
    [[{ Proto: 6, Port: 1.5 }], "Port is not a number from 1 to 65535"],
    [[{ Proto: 6, Port: 80, HostPort: -1 }], "HostPort is not a number"],
    [[{ Proto: 6, Port: 80, HostIP: "localhost" }], "invalid host address of a port"],
    [[{ Proto: 6, Port: 80, HostIP: 5 }], "cannot unmarshal"],
    [[{ Proto: 6, Port: 80, PortEnd: 70 }], "the range 80-70 of Port ends before it begins"],
    [[{ Proto: 6, Port: 80, HostPort: 8009, HostPortEnd: 8000 }], "ends before it begins"],
    [[{ Proto: 6, Port: 80, PortEnd: 82, HostPort: 8000, HostPortEnd: 8001 }], "invalid ranges specified"],
    [[{ Proto: 6, Port: 80, PortEnd: 89, HostPort: 65_530 }], "no 10 host ports from 65530 on"],
    ["x", "cannot unmarshal string into Go struct field sandboxCreate.port_mapping"],
    [[5], "cannot unmarshal number"],
    [{ Proto: 6, Port: 80 }, "cannot unmarshal object"],
    [Array.from({ length: 10_001 }, (_, n) => ({ Port: n + 1 })), "10001 mappings"],
    [[{ Port: 1, PortEnd: 10_001 }], "10001 mappings"],
    [
      Array.from({ length: 5000 }, (_, n) => ({ Port: 80, HostIP: "2001:db8::1234", HostPort: n + 10_000 })),
      "at most 10000",
    ],
    [
      [
        { Port: 80, HostPort: 8080 },
        { Port: 81, HostIP: "127.0.0.1", HostPort: 8080 },
      ],
      "host port 8080/tcp is asked for twice",
    ],
    [
      [
        { Port: 80, HostIP: "0.0.0.0", HostPort: 8080 },
        { Port: 81, HostIP: "127.0.0.1", HostPort: 8080 },
      ],
      "host port 8080/tcp is asked for twice",
    ],
    [
      Array.from({ length: 9000 }, (_, n) => ({
        Port: 1,
        PortEnd: 65_535,
        HostIP: `127.0.${n >> 8}.${n & 255}`,
        HostPort: 1,
        HostPortEnd: 65_535,
      })),
      "a container has at most 65535, ranges counted whole",
    ],
  ])("%j is refused", (mapping, reason) => {
    expect(() => texts(mapping)).toThrow(reason);
    expect(() => texts(mapping)).toThrow(NetworkError);
  });

  it("may have a port once for each protocol and address, and large ranges", () => {
    expect(
      texts([
        { Port: 80, HostIP: "127.0.0.1", HostPort: 8080 },
        { Port: 80, HostIP: "127.0.0.2", HostPort: 8080 },
        { Proto: 17, Port: 80, HostPort: 8080 },
        { Port: 80, HostIP: "::1", HostPort: 8080 },
        { Port: 20_000, PortEnd: 60_000, HostPort: 20_000, HostPortEnd: 60_000 },
      ]),
    ).toHaveLength(5);
  });

  it("is absent as null, as nothing and as an empty list", () => {
    for (const none of [undefined, null, []]) expect(texts(none, none, true)).toEqual([]);
  });
});

describe("exposed_ports", () => {
  const exposed = [
    { Proto: 6, Port: 80 },
    { Proto: 17, Port: 53, PortEnd: 54 },
  ];

  it("get ports of the host's choice where all are to be published", () => {
    expect(texts([], exposed)).toEqual([]);
    expect(texts([], exposed, true)).toEqual(["80/tcp", "53-54/udp"]);
    expect(texts([{ Port: 80, HostPort: 8080 }], exposed, true)).toEqual(["8080:80/tcp", "53-54/udp"]);
  });

  it("are checked", () => {
    expect(() => exposedPorts([{ Proto: 6, Port: 0 }])).toThrow("no Port given");
    expect(() => exposedPorts("80")).toThrow("cannot unmarshal");
    expect(() => exposedPorts(Array.from({ length: 1001 }, () => ({ Port: 80 })))).toThrow(
      "more than 1000 exposed ports",
    );
  });
});
