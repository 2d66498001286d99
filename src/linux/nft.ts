import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { internal } from "../errors.ts";

/** The kernel's commit of a large batch takes seconds at worst. */
const deadline = 30_000;

/** Bytes of nft's complaints that are looked at. */
const complaintLength = 16 * 1024;

/**
 * A nameless file for nft's complaints. A pipe would do, but Node reads one into buffers of 64 KiB, and what is allocated
 * between two of them tears holes into malloc's heap: 64 KiB a sandbox, measured.
 */
let scratch: number | undefined;
const scratchFile = (): number => {
  if (scratch === undefined) {
    const path = join(tmpdir(), `dnet-${randomUUID()}`);
    scratch = openSync(path, "ax+", 0o600);
    rmSync(path);
  }
  ftruncateSync(scratch);
  return scratch;
};

/** Lets the file go; the next batch opens another. */
export const closeNft = (): void => {
  if (scratch !== undefined) closeSync(scratch);
  scratch = undefined;
};

/**
 * Applies one atomic batch with `nft -f -` in the namespace in which the calling thread is: a child is born where its parent
 * thread is. libnftables is not loaded into this process: it aborts it once file descriptors pass 1024.
 * @throws NetworkError `nft` with the first of nft's complaints
 */
export const applyNft = (script: string): void => {
  const complaints = scratchFile();
  const result = spawnSync("nft", ["-f", "-"], {
    input: script,
    timeout: deadline,
    stdio: ["pipe", "ignore", complaints],
    // Root's PATH may lack the place where Debian puts it.
    env: { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin`, LC_ALL: "C" },
  });
  if (result.error) {
    const missing = (result.error as { code?: string }).code === "ENOENT";
    throw internal("nft", missing ? "nft is not installed" : `nft: ${result.error.message}`, {
      cause: result.error,
      hint: missing ? 'apt-get install nftables, or set firewall = "none"' : "see the daemon's log",
    });
  }
  if (result.status === 0) return;
  const bytes = Buffer.alloc(complaintLength);
  const text = bytes.toString("utf8", 0, readSync(complaints, bytes, 0, complaintLength, 0));
  const complaint = text.split("\n").find((line) => line.includes("Error")) ?? "failed";
  throw internal("nft", `nft: ${complaint.replace(/^.*?Error: /, "").slice(0, 300)}`, {
    hint: "does this kernel have nf_tables, and is this root?",
  });
};
