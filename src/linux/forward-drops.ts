/**
 * Chains of other programs that drop what this host forwards, read from nft's listing of all rules. A packet must be accepted by every
 * base chain of the forward hook, so ours cannot let through what one of these drops.
 */

export interface ForwardDrop {
  /** Family, table and chain: `ip filter FORWARD`. */
  readonly chain: string;
  /** Families of addresses that it decides about. */
  readonly families: readonly (4 | 6)[];
  /** Whose way of letting something through is known. */
  readonly program: "docker" | "firewalld" | "iptables" | undefined;
  /** Interfaces from which something is let through, as nft writes them: `*` at the end stands for whatever follows. */
  readonly from: readonly string[];
  /** Interfaces to which something is let through. */
  readonly to: readonly string[];
}

interface Table {
  readonly family: string;
  readonly name: string;
  readonly chains: Map<string, { base: string; readonly rules: string[] }>;
}

const tablesOf = (listing: string): readonly Table[] => {
  const tables: Table[] = [];
  let chain: { base: string; readonly rules: string[] } | undefined;
  for (const line of listing.split("\n")) {
    const [, family, name] = /^table (\S+) (\S+) \{/.exec(line) ?? [];
    if (family !== undefined && name !== undefined) tables.push({ family, name, chains: new Map() });
    const block = /^\t(\S+) (\S+) \{$/.exec(line);
    if (block) {
      chain = block[1] === "chain" ? { base: "", rules: [] } : undefined;
      if (chain) tables.at(-1)?.chains.set(block[2] ?? "", chain);
    } else if (line.startsWith("\t\t") && chain) {
      if (/^\t\ttype \S+ hook /.test(line)) chain.base = line;
      else chain.rules.push(line.trim().replace(/ comment "[^"]*"$/, ""));
    }
  }
  return tables;
};

const familiesOf: Readonly<Record<string, readonly (4 | 6)[]>> = { ip: [4], ip6: [6], inet: [4, 6] };

/** Interfaces that a rule names after a word; none where it excludes them. */
const named = (rule: string, word: "iifname" | "oifname"): readonly string[] => {
  const [, one, several] = new RegExp(`\\b${word} (?:"([^"]+)"|\\{ ([^}]*) \\})`).exec(rule) ?? [];
  if (one !== undefined) return [one];
  return [...(several ?? "").matchAll(/"([^"]+)"/g)].map(([, name = ""]) => name);
};

/** What a rule lets through; where it says nothing of interfaces and of nothing else, everything. */
const lets = (rule: string, word: "iifname" | "oifname"): readonly string[] =>
  /^(counter )?accept$/.test(rule) ? ["*"] : named(rule, word);

const dropsAtTheEnd = ({ base, rules }: { readonly base: string; readonly rules: readonly string[] }): boolean =>
  base.includes(" hook forward ") &&
  (/policy drop;/.test(base) || /^(counter )?(drop|reject( with .*)?)$/.test(rules.at(-1) ?? ""));

const programOf = ({ family, name, chains }: Table): ForwardDrop["program"] => {
  if (name === "firewalld") return "firewalld";
  if (name !== "filter" || family === "inet" || !chains.has("FORWARD")) return undefined;
  return chains.has("DOCKER-USER") ? "docker" : "iptables";
};

/** @param listing what `nft -s -t list ruleset` prints */
export const forwardDropsIn = (listing: string): readonly ForwardDrop[] =>
  tablesOf(listing).flatMap((table) => {
    const families = familiesOf[table.family] ?? [];
    const program = programOf(table);
    // Firewalld sorts packets into the chains of zones, and those of a zone that refuses have no interface of ours.
    const decides = program === "firewalld" ? /\b(accept|jump \S+|goto \S+)$/ : /\baccept$/;
    const accepting = [...table.chains.values()].flatMap(({ rules }) => rules).filter((rule) => decides.test(rule));
    const interfaces = (word: "iifname" | "oifname") => [...new Set(accepting.flatMap((rule) => lets(rule, word)))];
    return [...table.chains]
      .filter(([, chain]) => families.length > 0 && dropsAtTheEnd(chain))
      .map(([name]) => ({
        chain: `${table.family} ${table.name} ${name}`,
        families,
        program,
        from: interfaces("iifname"),
        to: interfaces("oifname"),
      }));
  });

const matches = (names: readonly string[], device: string): boolean =>
  names.some((name) => (name.endsWith("*") ? device.startsWith(name.slice(0, -1)) : name === device));

/** True where the chain says something that lets packets from and to an interface through; what else it asks of them is not looked at. */
export const letsThrough = ({ from, to, program }: ForwardDrop, device: string): boolean =>
  matches(from, device) && (program === "firewalld" || matches(to, device));

/**
 * Commands with which a person lets a bridge of ours through.
 * @param uplink the interface of the default route: no more than the way out is opened; without it every way
 */
export const letThroughCommands = (
  { chain, program, families }: ForwardDrop,
  bridge: string,
  uplink?: string,
): string => {
  switch (program) {
    case "docker":
    case "iptables": {
      const iptables = families.includes(6) ? "ip6tables" : "iptables";
      const insert = `${iptables} -I ${program === "docker" ? "DOCKER-USER" : "FORWARD"}`;
      return `${insert} -i ${bridge}${uplink === undefined ? "" : ` -o ${uplink}`} -j ACCEPT; ${insert} -o ${bridge} -j ACCEPT`;
    }
    case "firewalld":
      return `firewall-cmd --permanent --zone=trusted --add-interface=${bridge}; firewall-cmd --reload`;
    default: {
      const insert = `nft insert rule ${chain}`;
      return `${insert} iifname ${bridge}${uplink === undefined ? "" : ` oifname ${uplink}`} accept; ${insert} oifname ${bridge} accept`;
    }
  }
};
