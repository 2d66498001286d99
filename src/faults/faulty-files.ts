import type { SandboxFiles } from "../dns/files.ts";
import { betweenAsync, type FaultError, type Faults } from "./faults.ts";

const error: FaultError = (text) => Object.assign(new Error(`EIO: ${text}`), { code: "EIO" });

/** What is done to sandboxes' files, with points of failure. */
export const faultyFiles = (faults: Faults, files: SandboxFiles): SandboxFiles => {
  const step = (name: string, work: () => Promise<void>) => betweenAsync(faults, `files: ${name}`, error, work);
  return {
    makeDirectory: (path) => step(`make ${path}`, () => files.makeDirectory(path)),
    write: (path, text) => step(`write ${path}`, () => files.write(path, text)),
    remove: (path) => step(`remove ${path}`, () => files.remove(path)),
  };
};
