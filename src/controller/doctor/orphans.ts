import { hostNamespace, type NamespaceRef, type Operation, plan } from "../../linux/plan.ts";
import { type Context, idOfMark } from "../context.ts";
import { vacantFiles } from "../network-remains.ts";
import { isWanted } from "../orphans.ts";
import { orphanTables, removeTable } from "../table-remains.ts";
import { type Check, type Finding, type Look, repairCommand, Unlooked } from "./check.ts";

/** Something of ours that no record asks for, and what removes it; nothing where the reconcile does. */
interface Orphan {
  readonly finding: Finding;
  readonly remove: readonly Operation[];
}

/** Kernel objects that carry our mark, and files of ours, that no record explains. */
export const orphansCheck: Check = {
  name: "orphans",
  run: async (look) => (await orphans(look)).map(({ finding }) => finding),
  async repair(look) {
    const found = (await orphans(look)).filter(({ remove }) => remove.length > 0);
    if (found.length > 0)
      await look.context.kernel.teardown(plan(...found.flatMap(({ remove }) => remove)), look.signal);
    return found.map(({ finding }) => `${finding.subject}: removed`);
  },
};

const orphans = async (look: Look): Promise<readonly Orphan[]> => {
  // What is not known may still be wanted.
  if (look.stale !== undefined) throw new Unlooked(`the shared store: ${look.stale}`);
  return [
    ...(await linkOrphans(look, hostNamespace)),
    ...(await namespaceOrphans(look)),
    ...(await vacantOrphans(look)),
    ...(await directoryOrphans(look)),
    ...(await tableOrphans(look)),
  ];
};

const orphan = (
  code: string,
  subject: string,
  what: string,
  consequence: string,
  remove: readonly Operation[],
): Orphan => ({
  remove,
  finding: {
    code,
    subject,
    what,
    expected: "none: no record asks for it",
    consequence,
    remedy: repairCommand,
    repairable: true,
  },
});

const linkOrphans = async (look: Look, namespace: NamespaceRef): Promise<readonly Orphan[]> => {
  const observed = await look.context.kernel.observe(namespace, look.signal);
  return (observed?.links ?? []).flatMap((link): readonly Orphan[] => {
    const id = idOfMark(look.context, link.alias);
    if (id === undefined || link.alias === undefined || isWanted(look.context, id)) return [];
    const where = namespace === hostNamespace ? "" : ` in ${namespace}`;
    return [
      orphan(
        "orphan-link",
        `link ${link.name}${where}`,
        `it is there, marked ${link.alias}`,
        "it takes a name, and traffic may go to it",
        [{ op: "link.delete", namespace, name: link.name, alias: link.alias }],
      ),
    ];
  });
};

/** Namespaces of overlays are known by the marks inside; others of that name may be another program's. */
const namespaceOrphans = async (look: Look): Promise<readonly Orphan[]> => {
  const { context, probe, presence } = look;
  const present = new Set(presence.networks().map(({ id }) => id));
  const found: Orphan[] = [];
  for (const name of await probe.names(context.namespaceDir)) {
    const path = `${context.namespaceDir}/${name}`;
    if (name === probeName(context)) {
      found.push(
        orphan(
          "orphan-namespace",
          `namespace ${path}`,
          "an examination that was cut short left it",
          "none, but that it is there",
          [{ op: "namespace.delete", path }],
        ),
      );
    }
    if (!/^1-[0-9a-f]{10}$/.test(name)) continue;
    const observed = await context.kernel.observe(path, look.signal);
    // Those of veth pairs are marked with their endpoints.
    const owner = observed?.links.find((link) => link.kind !== "veth" && idOfMark(context, link.alias));
    const id = idOfMark(context, owner?.alias);
    if (id === undefined || context.state.isUnreadable(id)) continue;
    if (present.has(id)) found.push(...(await linkOrphans(look, path)));
    else {
      const links = (observed?.links ?? []).filter(
        (link) => link.kind === "vxlan" && idOfMark(context, link.alias) === id,
      );
      found.push(
        orphan(
          "orphan-namespace",
          `namespace ${path}`,
          `it is there, with ${links.map((link) => link.name).join(" and ") || "what was made first"} of a network that no container here is in`,
          "its VNI is taken on this host",
          [
            ...links.map(({ name: link }): Operation => ({ op: "link.delete", namespace: path, name: link })),
            { op: "namespace.delete", path },
          ],
        ),
      );
    }
  }
  return found;
};

/** Files that namespaces were, or were to be, mounted on. */
const vacantOrphans = async ({ context, presence }: Look): Promise<readonly Orphan[]> =>
  (await vacantFiles(context, presence)).map(({ path }) =>
    orphan(
      "orphan-namespace",
      `file ${path}`,
      "it is there, without a namespace: what made or removed the namespace was cut short",
      "none, but that it is there",
      [{ op: "namespace.delete", path }],
    ),
  );

/** Name of the namespace in which the host check tries what drivers need. */
export const probeName = ({ instance }: Pick<Context, "instance">): string => `doctor-${instance}`;

const directoryOrphans = async ({ context }: Look): Promise<readonly Orphan[]> =>
  (await context.naming.directories()).flatMap((id) =>
    context.state.sandboxes.has(id) || context.state.isUnreadable(id)
      ? []
      : [
          orphan(
            "orphan-sandbox",
            `sandbox ${id.slice(0, 12)}`,
            "its directory is there, and perhaps its namespace",
            "what runs in it has no record: nobody wires it, names it or lists it",
            [],
          ),
        ],
  );

const tableOrphans = async ({ context, signal }: Look): Promise<readonly Orphan[]> =>
  (await orphanTables(context, signal)).map((table) =>
    orphan(
      "orphan-table",
      `nftables table ${table}`,
      "it is there",
      "packets of a network that uses its VNI anew are dropped",
      [removeTable(table)],
    ),
  );
