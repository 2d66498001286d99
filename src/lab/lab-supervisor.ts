// The process that a lab belongs to. Started by Lab.up with a channel to its caller: plan in, progress and the outcome back.
import { appendFileSync, mkdirSync, renameSync, statSync } from "node:fs";
import type { Server } from "node:net";
import { join } from "node:path";
import { badRequest } from "../errors.ts";
import { errorData, type LabRequest } from "./control.ts";
import { serveControl } from "./control-server.ts";
import type { LabPlan } from "./lab-options.ts";
import {
  controlSocket,
  hiddenDirectory,
  labDirectory,
  makeRuntimeBase,
  reapDead,
  removeDirectory,
} from "./runtime-directory.ts";
import { Supervisor } from "./supervisor.ts";

export interface LabOrder {
  readonly plan: LabPlan;
  /** The lab outlives its caller. */
  readonly detached: boolean;
}

/** Milliseconds for answers that are under way when the lab has ended. */
const answerTime = 2_000;

let supervisor: Supervisor | undefined;
let starting: Promise<Supervisor> | undefined;
const givenUp = new AbortController();
let directory = "";
let inode = 0;
let control: Server | undefined;
let ready = false;
let ending: Promise<void> | undefined;

const tell = (message: object): void => {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
};

/** Everything goes; the directory last. */
const end = (): Promise<void> => {
  ending ??= (async () => {
    givenUp.abort(badRequest("lab-busy", "the lab was taken down while it was being set up"));
    // What is being set up is waited for: it could make things anew that are removed here.
    await starting?.catch(() => undefined);
    await supervisor?.end();
    // Its first process has removed it already, unless that was killed; another lab may have taken the name since.
    if (inode !== 0 && statSync(directory, { throwIfNoEntry: false })?.ino === inode) removeDirectory(directory);
  })();
  // What held it up may be gone when somebody asks again.
  ending.catch(() => {
    ending = undefined;
  });
  return ending;
};

/** Who waits for an answer gets it before the process exits. */
const endAndExit = (status: number): void =>
  void end().finally(() => {
    setTimeout(() => process.exit(status), answerTime).unref();
    control?.close(() => process.exit(status));
    if (!control) process.exit(status);
  });

/**
 * Changes of one thing (a host, the store, the partitions) go one after the other, those of different things side by side: a daemon that
 * waits for the store to come back must not keep it from coming back.
 */
const last = new Map<string, Promise<unknown>>();
const inTurn = <T>(thing: string, work: () => Promise<T>): Promise<T> => {
  const turn = (last.get(thing) ?? Promise.resolve()).then(work);
  last.set(
    thing,
    turn.catch(() => undefined),
  );
  return turn;
};

const handle = async (request: LabRequest): Promise<unknown> => {
  if (request.do === "down") {
    await end();
    endAndExit(0);
    return undefined;
  }
  const lab = supervisor;
  if (!lab || !ready || ending) throw badRequest("lab-busy", "the lab is being set up or taken down");
  switch (request.do) {
    case "state":
      return lab.state;
    case "stop":
      return inTurn(request.host, () => lab.stopDaemon(request.host, request.signal));
    case "start":
      return inTurn(request.host, () => lab.startDaemon(request.host));
    case "reboot":
      return inTurn(request.host, () => lab.reboot(request.host, request.fresh));
    case "partition":
      return inTurn("lan", () => lab.partition(request.from, request.to));
    case "heal":
      return inTurn("lan", () => lab.heal());
    case "stop-store":
      return inTurn("store", () => lab.stopStore());
    case "start-store":
      return inTurn("store", () => lab.startStore());
  }
};

/**
 * The directory appears under its name with a control socket that answers, so that a directory whose socket does not answer is a
 * dead lab's.
 */
const claim = async (name: string): Promise<void> => {
  makeRuntimeBase();
  await reapDead();
  const hidden = hiddenDirectory(name);
  mkdirSync(hidden, { recursive: true, mode: 0o700 });
  control = await serveControl(controlSocket(hidden), handle);
  try {
    renameSync(hidden, labDirectory(name));
    directory = labDirectory(name);
    inode = statSync(directory).ino;
  } catch (error) {
    removeDirectory(hidden);
    if (!["ENOTEMPTY", "EEXIST"].includes((error as { code?: string }).code ?? "")) throw error;
    throw badRequest("lab-exists", `the lab ${name} is running already`, {
      hint: `look at it with: dnet lab ls; end it with: dnet lab down --name ${name}`,
    });
  }
};

const run = async ({ plan, detached }: LabOrder): Promise<void> => {
  process.on("disconnect", () => {
    if (!ready || !detached) endAndExit(1);
  });
  try {
    await claim(plan.name);
    givenUp.signal.throwIfAborted();
    starting = Supervisor.start(plan, directory, (text) => tell({ progress: text }), givenUp.signal);
    supervisor = await starting;
    void supervisor.ended.then(() => endAndExit(ending ? 0 : 1));
    ready = true;
    tell({ state: supervisor.state });
  } catch (error) {
    const data = errorData(error);
    await end();
    if (process.connected) process.send?.({ error: data }, undefined, undefined, () => process.exit(1));
    else process.exit(1);
  }
};

for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: unknown) => {
    try {
      appendFileSync(join(directory, "supervisor.log"), `${event}: ${error instanceof Error ? error.stack : error}\n`);
    } catch {
      // No directory yet, or no more.
    }
    endAndExit(70);
  });
}
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => endAndExit(0));
process.once("message", (order) => void run(order as LabOrder));
