// A network and two sandboxes that reach each other by name, without any daemon. Run as root: node examples/two-sandboxes/main.ts
import { execFileSync } from "node:child_process";
import { createLibnetwork } from "../../src/index.ts";

const directory = process.argv[2] ?? "/run/two-sandboxes";
const libnetwork = await createLibnetwork({ dataDir: directory, execRoot: directory, defaultNetwork: "" });
const network = await libnetwork.createNetwork({ name: "web", driver: "bridge" });
const [first, second] = await Promise.all(
  ["one", "two"].map(async (name) => {
    const sandbox = await libnetwork.createSandbox({ containerId: name });
    const endpoint = await libnetwork.createEndpoint(network.id, { name });
    await libnetwork.attach(endpoint.id, sandbox.id);
    return { sandbox, address: endpoint.addresses[0]?.split("/")[0] ?? "" };
  }),
);
if (!first || !second) throw new Error("no sandboxes");
console.log(
  execFileSync("nsenter", [`--net=${first.sandbox.key}`, "ping", "-c1", second.address], { encoding: "utf8" }),
);
for (const { sandbox } of [first, second]) await libnetwork.deleteSandbox(sandbox.id);
await libnetwork.deleteNetwork(network.id);
await libnetwork.close();
