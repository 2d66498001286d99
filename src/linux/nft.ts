import { spawnSync } from "node:child_process";
import { internal } from "../errors.ts";

/** The kernel's commit of a large batch takes seconds at worst. */
const deadline = 30_000;

/**
 * Applies one atomic batch with `nft -f -` in the namespace in which the calling thread is: a child is born where its parent
 * thread is. libnftables is not loaded into this process: it aborts it once file descriptors pass 1024.
 * @throws NetworkError `nft` with the first of nft's complaints
 */
export const applyNft = (script: string): void => {
  const result = spawnSync("nft", ["-f", "-"], {
    input: script,
    timeout: deadline,
    stdio: ["pipe", "ignore", "pipe"],
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
  const complaint =
    result.stderr
      .toString("utf8")
      .split("\n")
      .find((line) => line.includes("Error")) ?? "failed";
  throw internal("nft", `nft: ${complaint.replace(/^.*?Error: /, "").slice(0, 300)}`, {
    hint: "does this kernel have nf_tables, and is this root?",
  });
};
