import { isDeepStrictEqual } from "node:util";
import type { Scope } from "../../drivers/driver.ts";
import { addressOf } from "../../net/prefix.ts";
import type { Json, StoreEntry } from "../../store/store.ts";
import { type EndpointRecord, keys, type NetworkRecord, type SandboxRecord } from "../records.ts";
import type { Change } from "../state.ts";
import { type Check, type Finding, type Look, repairCommand, Unlooked } from "./check.ts";

/** A key that makes a name, an address or a segment one record's own. */
interface Guard {
  readonly key: string;
  readonly value: Json;
  readonly owner: string;
}

const guardsOfNetwork = ({ id, name, driver, subnets }: NetworkRecord): readonly Guard[] =>
  [keys.networkName(name), ...subnets.flatMap(({ vni }) => (vni === undefined ? [] : [keys.segment(driver, vni)]))].map(
    (key) => ({ key, value: { network: id }, owner: `network ${name}` }),
  );

const guardsOfEndpoint = ({ id, network, name, addresses }: EndpointRecord): readonly Guard[] =>
  [keys.endpointName(network, name), ...addresses.map((address) => keys.address(network, addressOf(address)))].map(
    (key) => ({ key, value: { endpoint: id }, owner: `service ${name}` }),
  );

const guardsOfSandbox = ({ id, container }: SandboxRecord): readonly Guard[] => [
  { key: keys.container(container), value: { sandbox: id }, owner: `container ${container}` },
];

/** Every key that guards a record of a scope. */
export const guardsOf = ({ context: { state } }: Pick<Look, "context">, scope: Scope): readonly Guard[] => [
  ...[...state.networks.values()].filter((network) => network.scope === scope).flatMap(guardsOfNetwork),
  ...[...state.endpoints.values()]
    // What another node announced is in no store.
    .filter(({ announcedBy }) => announcedBy === undefined)
    .filter(({ network }) => (state.networks.get(network)?.scope ?? scope) === scope && state.networks.has(network))
    .flatMap(guardsOfEndpoint),
  ...(scope === "local" ? [...state.sandboxes.values()].flatMap(guardsOfSandbox) : []),
];

/** What is wrong with one key, and the change that puts it right; none where nobody can know which is right. */
interface Difference {
  readonly finding: Finding;
  readonly scope: Scope;
  readonly key: string;
  /** There is an owner, and the key is what is wrong. */
  readonly missing: boolean;
  readonly change?: Change;
}

const rooms = /^(network-names|segments|network-use|endpoint-names|addresses|containers)\//;

/** Keys of names, addresses and segments against the records that own them: both ways. */
export const guardsCheck: Check = {
  name: "names and addresses",
  run: async (look) => (await differences(look)).map(({ finding }) => finding),
  async repair(look) {
    const { state } = look.context;
    const done: string[] = [];
    for (const { finding, scope, key, missing, change } of await differences(look)) {
      // What is decided on must be so at the commit: an operation may have made or removed the owner meanwhile.
      const wanted = guardsOf(look, scope).some((guard) => guard.key === key);
      if (!change || wanted !== missing || (missing && state.version(scope, key) !== 0)) continue;
      if (await state.commit(scope, change, look.signal)) done.push(`${finding.subject}: put right`);
    }
    return done;
  },
};

const differences = async (look: Look): Promise<readonly Difference[]> => {
  const scopes: readonly Scope[] = ["local", "global"];
  const found: Difference[] = [];
  for (const scope of scopes) found.push(...(await inScope(look, scope)));
  return found;
};

const inScope = async (look: Look, scope: Scope): Promise<readonly Difference[]> => {
  if (scope === "global" && look.stale !== undefined) throw new Unlooked(`the shared store: ${look.stale}`);
  const entries = await look.stores[scope].list(`${scope}/`, look.signal);
  const present = new Map(entries.map((entry): [string, StoreEntry] => [entry.key.slice(scope.length + 1), entry]));
  const wanted = new Map(guardsOf(look, scope).map((guard) => [guard.key, guard]));
  const missing = [...wanted.values()].flatMap((guard) => missingGuard(scope, guard, present.get(guard.key)));
  const left = [...present].flatMap(([key, { value }]) =>
    rooms.test(key) && !wanted.has(key) && !isExplained(look, key, value) ? [leftGuard(scope, key)] : [],
  );
  return [...missing, ...left];
};

const missingGuard = (
  scope: Scope,
  { key, value, owner }: Guard,
  present: StoreEntry | undefined,
): readonly Difference[] => {
  if (present && isDeepStrictEqual(present.value, value)) return [];
  const finding: Finding = {
    code: present ? "guard-of-another" : "no-guard",
    subject: `key ${scope}/${key}`,
    what: present ? `it says ${JSON.stringify(present.value).slice(0, 100)}` : "it is not there",
    expected: `it says that it is ${owner}'s`,
    consequence: "another one can get the same name, address or segment",
    remedy: present ? "remove the one of the two that is not meant" : repairCommand,
    repairable: present === undefined,
  };
  return [
    { finding, scope, key, missing: true, ...(!present && { change: { unchanged: [key], puts: [{ key, value }] } }) },
  ];
};

const leftGuard = (scope: Scope, key: string): Difference => ({
  scope,
  key,
  missing: false,
  change: { unchanged: [key], deletes: [key] },
  finding: {
    code: "guard-without-owner",
    subject: `key ${scope}/${key}`,
    what: "it is there, and nothing that it would belong to",
    expected: "none",
    consequence: "a name, an address or a segment may count as taken that nobody has",
    remedy: repairCommand,
    repairable: true,
  },
});

/** True where the key is of a network that is there, or of a record that cannot be read or is of a network that cannot. */
const isExplained = ({ context: { state } }: Look, key: string, value: Json): boolean => {
  const [room, network = ""] = key.split("/");
  if (room === "network-use") return state.networks.has(network) || state.isUnreadable(network);
  if (
    (room === "endpoint-names" || room === "addresses") &&
    !state.networks.has(network) &&
    state.isUnreadable(network)
  ) {
    return true;
  }
  const [owner] = typeof value === "object" && value !== null ? Object.values(value) : [];
  return typeof owner === "string" && owner !== "" && state.isUnreadable(owner);
};
