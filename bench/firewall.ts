// Does a network cost more where there are many? Network create and remove through the REST API, beside 1 and beside 200 others.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Figures, ms } from "./figures.ts";
import { enterHost, startDaemon } from "./host.ts";
import { Rest } from "./rest.ts";

/** Milliseconds of processor time that a process and its children have used (proc(5): stat, fields 14 to 17, 100 a second). */
const cpuTime = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * 10, 0);
};

const others = 200;
const rounds = 40;

const bench = async (): Promise<void> => {
  const daemon = await startDaemon();
  const rest = new Rest(daemon.socket);
  const figures = new Figures();
  // Default pools end at 31 networks.
  const create = (n: number): Promise<string> => {
    const four = [{ PreferredPool: `10.${200 + (n >> 8)}.${n & 255}.0/24` }];
    const six = [{ PreferredPool: `fd00:77:${n.toString(16)}::/64` }];
    return rest.call<string>("POST", "/networks", { name: `n${n}`, ipv4_configuration: four, ipv6_configuration: six });
  };
  const cpu: string[] = [];
  const measure = async (beside: string): Promise<void> => {
    const before = cpuTime(daemon.process.pid ?? 0);
    for (let n = 0; n < rounds; n++) {
      const id = await figures.time(`create, ${beside}`, () => create(9999));
      await figures.time(`remove, ${beside}`, () => rest.call("DELETE", `/networks/${id}`));
    }
    const each = (cpuTime(daemon.process.pid ?? 0) - before) / rounds;
    cpu.push(`cpu of create and remove, ${beside}`.padEnd(48) + ms(each));
  };
  try {
    const ids = [await create(0)];
    await measure("beside 1");
    while (ids.length < others) ids.push(await create(ids.length));
    await measure(`beside ${others}`);
    for (const id of ids) await rest.call("DELETE", `/networks/${id}`);
    await measure("beside none, after them");
  } finally {
    rest.close();
    await daemon.stop();
  }
  console.log(`\nnetworks of both families, ${rounds} rounds, ms\n${"".padEnd(36)}     p50      p99`);
  for (const name of figures.names()) {
    console.log(`${name.padEnd(36)}${ms(figures.at(name, 0.5))} ${ms(figures.at(name, 0.99))}`);
  }
  console.log(`\nof the daemon and its children, whatever else the machine does, ms\n${cpu.join("\n")}`);
};

if (enterHost(fileURLToPath(import.meta.url))) await bench();
