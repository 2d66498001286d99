import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import dns from "dns-packet";
import { expect, it } from "vitest";
import { openSockets } from "../linux/sockets.ts";
import { cleanUpAfterEach, cleanups, loopback, query, udpSocket } from "./resolver-fixture.ts";

cleanUpAfterEach();

it("takes over sockets by their descriptors and closes them", { timeout: 15_000 }, async () => {
  // Opened as the kernel worker opens them; a child inherits a descriptor by its number.
  const opened = openSockets([
    { protocol: "udp", address: loopback, port: 0 },
    { protocol: "tcp", address: loopback, port: 0 },
  ]);
  const [udpPort = 0, tcpPort = 0] = opened.map(({ port }) => port);
  const program = `
    const { readlinkSync } = await import("node:fs");
    const { Resolver } = await import(${JSON.stringify(join(import.meta.dirname, "resolver.ts"))});
    const { NameTable } = await import(${JSON.stringify(join(import.meta.dirname, "name-table.ts"))});
    const table = new NameTable();
    table.set("n", "e", { names: ["web"], addresses: ["172.19.0.2"] });
    const view = table.view({ networks: [{ id: "n", name: "front", subnets: [] }], aliases: [], addresses: [] });
    const link = (fd) => { try { return readlinkSync("/proc/self/fd/" + fd); } catch { return ""; } };
    const has = () => [3, 4].filter((fd) => link(fd).startsWith("socket:"));
    const resolver = await Resolver.open({ udp: { fd: 3 }, tcp: { fd: 4 }, view, upstreams: () => undefined });
    console.log(JSON.stringify([resolver.udpPort, resolver.tcpPort, has()]));
    process.once("SIGUSR2", async () => {
      await resolver.close();
      setTimeout(() => console.log(JSON.stringify(has())), 20);
    });
  `;
  const child = spawn(process.execPath, ["--no-warnings", "--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit", ...opened.map(({ fd }) => fd)],
  });
  cleanups.push(() => child.kill());
  // Ours are closed, so that every packet is the child's.
  for (const { fd } of opened) closeSync(fd);
  const line = async (): Promise<unknown> => JSON.parse(`${(await once(child.stdout!, "data"))[0]}`);
  expect(await line()).toEqual([udpPort, tcpPort, [3, 4]]);

  const client = await udpSocket();
  client.send(query("web"), udpPort, "127.0.0.1");
  const [reply] = (await once(client, "message")) as [Buffer];
  expect(dns.decode(reply).answers).toMatchObject([{ data: "172.19.0.2" }]);
  const stream = connect(tcpPort, "127.0.0.1");
  stream.write(dns.streamEncode({ type: "query", id: 1, questions: [{ type: "A", name: "web.front" }] }));
  const [framed] = (await once(stream, "data")) as [Buffer];
  expect(dns.streamDecode(framed)?.answers).toMatchObject([{ data: "172.19.0.2" }]);

  child.kill("SIGUSR2");
  const [left] = await Promise.all([line(), once(stream, "close")]);
  expect(left).toEqual([]);
});
