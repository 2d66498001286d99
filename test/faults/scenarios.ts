import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import type { EndpointInfo, NetworkInfo, SandboxInfo } from "../../src/controller/model.ts";
import { parseRequest } from "../../src/ports/port-text.ts";
import type { Json } from "../../src/store/store.ts";
import { gone, type Subject } from "./subject.ts";

/** An operation of the API, what it needs, and how it is taken back. */
export interface Scenario {
  readonly name: string;
  /** Which store serves global scope. */
  readonly store: "embedded" | "etcd";
  /** Makes the state in which the operation is begun, whatever is there. */
  prepare(subject: Subject): Promise<void>;
  operation(subject: Subject): Promise<unknown>;
  /** Takes back an operation that happened. */
  undo(subject: Subject): Promise<void>;
  /** What was damaged or begun is there after a restart, whether or not the operation got to it. */
  readonly converges?: true;
  readonly defaultNetwork?: string;
  /** Fails once in a process: what it fails in is not open any more. */
  readonly ends?: true;
}

type Kind = "bridge" | "overlay";

const find = <T>(list: readonly T[], test: (one: T) => boolean, what: string): T => {
  const found = list.find(test);
  if (!found) throw new Error(`there is no ${what}`);
  return found;
};
const network = ({ net }: Subject, name: string): NetworkInfo =>
  find(net.networks(), (one) => one.name === name, `network ${name}`);
const endpoint = ({ net }: Subject, name: string, of = "n"): EndpointInfo =>
  find(net.endpoints(), (one) => one.name === name && one.network === of, `service ${name}.${of}`);
const sandbox = ({ net }: Subject, container: string): SandboxInfo =>
  find(net.sandboxes(), (one) => one.containerId === container, `container ${container}`);
const has = (look: () => unknown): boolean => {
  try {
    look();
    return true;
  } catch {
    return false;
  }
};

const createNetwork = ({ net }: Subject, kind: Kind, name = "n") =>
  net.createNetwork({ name, driver: kind, ...(kind === "bridge" && { ipv6: true }) });
const publish = (subject: Subject, name = "e", of = "n") =>
  subject.net.createEndpoint(network(subject, of).id, { name, aliases: [`${name}-alias`] });
const createContainer = ({ net }: Subject, containerId = "c") =>
  net.createSandbox({
    containerId,
    hostName: "host",
    ports: [parseRequest("8080:80/tcp"), parseRequest("8081:53/udp")],
  });
const attach = (subject: Subject, name = "e", of = "n", gatewayPriority = 0) =>
  subject.net.attach(endpoint(subject, name, of).id, sandbox(subject, "c").id, { aliases: ["own"], gatewayPriority });
const detach = (subject: Subject, name = "e", of = "n") =>
  subject.net.detach(endpoint(subject, name, of).id, sandbox(subject, "c").id);
const unpublish = (subject: Subject, name = "e", force = false, of = "n") =>
  subject.net.deleteEndpoint(endpoint(subject, name, of).id, { force });

const ensureNetwork = async (subject: Subject, kind: Kind, name = "n") => {
  if (!has(() => network(subject, name))) await createNetwork(subject, kind, name);
};
const ensureEndpoint = async (subject: Subject, kind: Kind, name = "e", of = "n") => {
  await ensureNetwork(subject, kind, of);
  if (!has(() => endpoint(subject, name, of))) await publish(subject, name, of);
};
const ensureContainer = async (subject: Subject) => {
  if (!has(() => sandbox(subject, "c"))) await createContainer(subject);
};
const ensureAttached = async (subject: Subject, kind: Kind, name = "e", of = "n") => {
  await ensureContainer(subject);
  await ensureEndpoint(subject, kind, name, of);
  if (endpoint(subject, name, of).sandboxId === undefined) await attach(subject, name, of);
};

/** An endpoint that a sandbox of another node has claimed. */
const ensurePeer = async (subject: Subject) => {
  if (has(() => endpoint(subject, "peer"))) return;
  const { id, networkId } = await publish(subject, "peer");
  const [global] = subject.stores.slice(-1);
  const key = `global/endpoints/${networkId}/${id}`;
  const entry = await global?.get(key);
  const claim = {
    id: "f".repeat(64),
    node: gone.id,
    vtep: "10.9.0.2",
    container: "far",
    interface: "eth0",
    order: 0,
    aliases: [],
  };
  await global?.transact({ puts: [{ key, value: { ...(entry?.value as Record<string, Json>), sandbox: claim } }] });
  await subject.net.sync();
  if (endpoint(subject, "peer").node !== gone.id) throw new Error("the peer is not known");
};

/** Takes away everything that there is, as a user would. */
export const clear = async ({ net }: Subject): Promise<void> => {
  for (const { id } of net.sandboxes()) await net.deleteSandbox(id);
  for (const { id } of net.endpoints()) await net.deleteEndpoint(id, { force: true });
  for (const { id, driver } of net.networks()) if (driver !== "host") await net.deleteNetwork(id);
};

const shell = (script: string) => execFileSync("sh", ["-c", script], { stdio: "ignore" });

/** What a reboot leaves: nothing in the kernel, everything on the disk. */
const reboot = () =>
  shell(`
    umount -l /run/docker/netns/*; rm -rf /run/docker
    for link in $(ip -o link | grep 'alias dnet:' | cut -d' ' -f2 | cut -d@ -f1 | tr -d :); do ip link delete "$link"; done
    nft flush ruleset; true`);

const forget = async (subject: Subject) => {
  for (const store of new Set(subject.stores)) {
    const entries = await store.list("");
    const records = entries.map(({ key }) => key).filter((key) => /^(local|global)\//.test(key));
    if (records.length > 0) await store.transact({ deletes: records });
  }
};

const ofKind = (kind: Kind, store: Scenario["store"]): readonly Scenario[] => {
  const at = (name: string, parts: Omit<Scenario, "name" | "store">): Scenario => ({
    name: `${kind}: ${name}`,
    store,
    ...parts,
  });
  const furnish = async (subject: Subject) => {
    await subject.open();
    await ensureNetwork(subject, kind);
    if (kind === "overlay") await ensurePeer(subject);
    await ensureAttached(subject, kind);
    await ensureEndpoint(subject, kind, "spare");
  };
  const nothing = async () => undefined;
  return [
    at("network create", {
      prepare: nothing,
      operation: (subject) => createNetwork(subject, kind),
      undo: (subject) => subject.net.deleteNetwork(network(subject, "n").id),
    }),
    at("network rm", {
      prepare: (subject) => ensureNetwork(subject, kind),
      operation: (subject) => subject.net.deleteNetwork(network(subject, "n").id),
      undo: async (subject) => void (await createNetwork(subject, kind)),
    }),
    at("service publish", {
      prepare: (subject) => ensureNetwork(subject, kind),
      operation: (subject) => publish(subject),
      undo: (subject) => unpublish(subject),
    }),
    at("service unpublish", {
      prepare: (subject) => ensureEndpoint(subject, kind),
      operation: (subject) => unpublish(subject),
      undo: async (subject) => void (await publish(subject)),
    }),
    at("service unpublish -f", {
      prepare: (subject) => ensureAttached(subject, kind),
      operation: (subject) => unpublish(subject, "e", true),
      undo: async (subject) => {
        await publish(subject);
        await attach(subject);
      },
    }),
    at("container create", {
      prepare: (subject) => ensureNetwork(subject, kind),
      operation: (subject) => createContainer(subject),
      undo: (subject) => subject.net.deleteSandbox(sandbox(subject, "c").id),
    }),
    at("container rm", {
      prepare: (subject) => ensureAttached(subject, kind),
      operation: (subject) => subject.net.deleteSandbox(sandbox(subject, "c").id),
      undo: (subject) => ensureAttached(subject, kind),
    }),
    at("service attach", {
      prepare: async (subject) => {
        await ensureContainer(subject);
        await ensureEndpoint(subject, kind);
        if (kind === "overlay") await ensurePeer(subject);
      },
      operation: (subject) => attach(subject),
      undo: (subject) => detach(subject),
    }),
    at("service attach, second network", {
      prepare: async (subject) => {
        await ensureAttached(subject, kind);
        await ensureEndpoint(subject, "bridge", "e", "second");
      },
      operation: (subject) => attach(subject, "e", "second", 10),
      undo: (subject) => detach(subject, "e", "second"),
    }),
    at("service detach", {
      prepare: (subject) => ensureAttached(subject, kind),
      operation: (subject) => detach(subject),
      undo: async (subject) => void (await attach(subject)),
    }),
    at("start", {
      converges: true,
      prepare: async (subject) => {
        await furnish(subject);
        await subject.close();
      },
      operation: (subject) => subject.open(),
      undo: nothing,
    }),
    at("start after a reboot", {
      converges: true,
      prepare: async (subject) => {
        await furnish(subject);
        await subject.close();
        reboot();
      },
      operation: (subject) => subject.open(),
      undo: nothing,
    }),
    at("start over what no record knows", {
      converges: true,
      prepare: async (subject) => {
        await furnish(subject);
        await forget(subject);
        await subject.close();
      },
      operation: (subject) => subject.open(),
      undo: nothing,
    }),
    at("doctor --repair", {
      converges: true,
      prepare: async (subject) => {
        await furnish(subject);
        const { key, id } = sandbox(subject, "c");
        shell(`nsenter --net=${key} ip link delete eth0; rm /var/lib/docker/network/files/${id}/hosts`);
      },
      operation: async (subject) => {
        const { after } = await subject.net.repair([gone]);
        if (after.findings.length > 0) throw new Error("not everything is put right");
      },
      undo: nothing,
    }),
  ];
};

/** Every operation that changes something. */
export const scenarios: readonly Scenario[] = [
  ...ofKind("bridge", "embedded"),
  {
    name: "first start, default network",
    store: "embedded",
    defaultNetwork: "bridge",
    converges: true,
    prepare: async (subject) => {
      await subject.open();
      await clear(subject);
      await subject.close();
      rmSync("/var/lib/docker/network", { recursive: true, force: true });
    },
    operation: (subject) => subject.open(),
    undo: async () => undefined,
  },
  {
    name: "stop with nothing left",
    store: "embedded",
    converges: true,
    ends: true,
    prepare: async (subject) => {
      await subject.open();
      await createNetwork(subject, "bridge");
      await clear(subject);
    },
    operation: (subject) => subject.close(),
    undo: async () => undefined,
  },
  {
    name: "container create on the host's stack",
    store: "embedded",
    prepare: async () => undefined,
    operation: ({ net }) => net.createSandbox({ containerId: "c", useDefaultSandbox: true }),
    undo: (subject) => subject.net.deleteSandbox(sandbox(subject, "c").id),
  },
  ...ofKind("overlay", "etcd"),
  {
    name: "overlay: gc of a node that is gone",
    store: "etcd",
    prepare: async (subject) => {
      await ensureNetwork(subject, "overlay");
      await ensurePeer(subject);
      await ensureAttached(subject, "overlay");
    },
    operation: ({ net }) => net.collectGarbage([gone], { nodes: [gone.id], endpoints: true, dryRun: false }),
    undo: (subject) => ensurePeer(subject),
  },
];
