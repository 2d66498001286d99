/** What a person may have meant: for commands and for keys of the configuration. */

/** Levenshtein distance, of short words. */
export const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
};

const synonyms: Readonly<Record<string, string>> = {
  list: "ls",
  remove: "rm",
  delete: "rm",
  del: "rm",
  inspect: "info",
  show: "info",
  add: "create",
  new: "create",
  connect: "attach",
  disconnect: "detach",
  networks: "network",
  services: "service",
  containers: "container",
  nodes: "node",
  sandbox: "container",
  endpoint: "service",
};

/** What a person may have meant by a word that is no command. */
export const suggest = (word: string, known: readonly string[]): string | undefined => {
  const synonym = synonyms[word.toLowerCase()];
  if (synonym !== undefined && known.includes(synonym)) return synonym;
  const [best] = known
    .map((name) => ({ name, cost: distance(word.toLowerCase(), name) }))
    .sort((a, b) => a.cost - b.cost);
  return best && best.cost <= Math.max(1, Math.floor(best.name.length / 3)) ? best.name : undefined;
};
