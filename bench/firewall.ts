// Does a network cost more where there are many? Network create and remove through the REST API, beside 1 and beside 200 others.
import { fileURLToPath } from "node:url";
import { Figures, ms } from "./figures.ts";
import { enterHost, startDaemon } from "./host.ts";
import { Rest } from "./rest.ts";

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
  const measure = async (beside: string): Promise<void> => {
    for (let n = 0; n < rounds; n++) {
      const id = await figures.time(`create, ${beside}`, () => create(9999));
      await figures.time(`remove, ${beside}`, () => rest.call("DELETE", `/networks/${id}`));
    }
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
};

if (enterHost(fileURLToPath(import.meta.url))) await bench();
