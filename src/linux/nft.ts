import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { internal, type NetworkError } from "../errors.ts";
import { type ForwardDrop, forwardDropsIn } from "./forward-drops.ts";

/** The kernel's commit of a large batch takes seconds at worst. */
const deadline = 30_000;

/** Bytes of nft's complaints that are looked at. */
const complaintLength = 16 * 1024;

/**
 * Nameless files for nft's complaints and its listings. A pipe would do, but Node reads one into buffers of 64 KiB, and what is
 * allocated between two of them tears holes into malloc's heap: 64 KiB a sandbox, measured.
 */
const files = new Map<"complaints" | "listing", number>();
const scratchFile = (use: "complaints" | "listing"): number => {
  let fd = files.get(use);
  if (fd === undefined) {
    const path = join(tmpdir(), `dnet-${randomUUID()}`);
    fd = openSync(path, "ax+", 0o600);
    rmSync(path);
    files.set(use, fd);
  }
  ftruncateSync(fd);
  return fd;
};

/** Lets the files go; the next run opens others. */
export const closeNft = (): void => {
  for (const fd of files.values()) closeSync(fd);
  files.clear();
};

/** Root's PATH may lack the place where Debian puts it. */
const environment = () => ({ PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin`, LC_ALL: "C" });

const notRun = (error: Error): NetworkError => {
  const missing = (error as { code?: string }).code === "ENOENT";
  return internal("nft", missing ? "nft is not installed" : `nft: ${error.message}`, {
    cause: error,
    hint: missing ? 'apt-get install nftables, or set firewall = "none"' : "see the daemon's log",
  });
};

const readComplaints = (fd: number): string => {
  const bytes = Buffer.alloc(complaintLength);
  return bytes.toString("utf8", 0, readSync(fd, bytes, 0, complaintLength, 0));
};

/** Modules of the kernel by words of the rule that it refused. */
const modules: readonly (readonly [RegExp, string])[] = [
  [/\bfib\b/, "nft_fib_inet"],
  [/\bmasquerade\b/, "nft_masq"],
  [/\b[sd]nat\b/, "nft_nat"],
  [/\btype nat\b/, "nft_chain_nat"],
  [/\bct\b/, "nft_ct"],
];

/** nft's complaint, and the line of the script that it is about. Exported for tests. */
export const failed = (complaints: string): NetworkError => {
  const lines = complaints.split("\n");
  const at = lines.findIndex((line) => line.includes("Error"));
  const complaint = (lines[at] ?? "failed").replace(/^.*?Error: /, "").slice(0, 300);
  const line = at < 0 ? "" : (lines[at + 1] ?? "").trim().slice(0, 200);
  const refused = /not supported|No such file/.test(complaint) && !/did you mean/.test(complaint);
  const module = refused ? modules.find(([words]) => words.test(line))?.[1] : undefined;
  return internal("nft", `nft: ${complaint}${module === undefined ? "" : `: ${line}`}`, {
    hint:
      module === undefined
        ? "does this kernel have nf_tables, and is this root?"
        : `this kernel lacks what the rule needs: modprobe ${module}, or install the kernel's package of modules`,
  });
};

/**
 * Applies one atomic batch with `nft -f -` in the namespace in which the calling thread is: a child is born where its parent
 * thread is. libnftables is not loaded into this process: it aborts it once file descriptors pass 1024.
 * @returns the process id that the batch was committed by
 * @throws NetworkError `nft` with the first of nft's complaints
 */
export const applyNft = (script: string): number => {
  const complaints = scratchFile("complaints");
  const result = spawnSync("nft", ["-f", "-"], {
    input: script,
    timeout: deadline,
    stdio: ["pipe", "ignore", complaints],
    env: environment(),
  });
  if (result.error) throw notRun(result.error);
  if (result.status !== 0) throw failed(readComplaints(complaints));
  return result.pid;
};

/** What `nft list ...` prints; undefined where there is no such thing. @throws NetworkError `nft` */
const list = (...words: readonly string[]): string | undefined => {
  const complaints = scratchFile("complaints");
  const listing = scratchFile("listing");
  const result = spawnSync("nft", ["-s", ...words], {
    timeout: deadline,
    stdio: ["ignore", listing, complaints],
    env: environment(),
  });
  if (result.error) throw notRun(result.error);
  if (result.status !== 0) {
    const text = readComplaints(complaints);
    if (text.includes("No such file or directory")) return undefined;
    throw failed(text);
  }
  const bytes = Buffer.alloc(fstatSync(listing).size);
  return bytes.toString("utf8", 0, readSync(listing, bytes, 0, bytes.length, 0));
};

/**
 * All tables as nft lists them, without counters, by family and name: `inet t`. One run for all: starting nft costs more than what
 * it lists.
 * @throws NetworkError `nft`
 */
export const listTables = (): ReadonlyMap<string, string> => tablesIn(list("list", "ruleset") ?? "");

/** Each table of a listing of the whole ruleset. Exported for tests. */
export const tablesIn = (listing: string): ReadonlyMap<string, string> => {
  const tables = new Map<string, string>();
  for (const [text, family, name] of listing.matchAll(/^table (\S+) (\S+) \{[^\n]*\n[\s\S]*?^\}\n/gm))
    tables.set(`${family} ${name}`, text);
  return tables;
};

/** Chains of the host that drop what it forwards unless a rule of theirs accepts it. @throws NetworkError `nft` */
export const forwardDrops = (): readonly ForwardDrop[] => forwardDropsIn(list("-t", "list", "ruleset") ?? "");
