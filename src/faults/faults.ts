import { writeSync } from "node:fs";
import { badRequest, shown } from "../errors.ts";

/** What happens at an armed point: the call there fails, or the process dies as by SIGKILL. */
export type FaultMode = "fail" | "die";

/** Numbers shared by the threads of a process. */
const slot = { passed: 0, target: 1, mode: 2, fired: 3, slots: 4 } as const;
const modes = ["none", "count", "fail", "die"] as const;

/**
 * The points of a process at which faults can happen, on all of its threads. While it is armed, points are numbered from 1 as they are
 * passed; at the one that is the target the fault happens, once.
 */
export class Faults {
  /** To be handed to the other threads. */
  readonly shared: SharedArrayBuffer;
  readonly #numbers: Int32Array;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(slot.slots * 4)) {
    this.shared = shared;
    this.#numbers = new Int32Array(shared);
  }

  /** Numbers points anew. @param point which one the fault happens at */
  arm(mode: FaultMode | "count", point = 0): void {
    Atomics.store(this.#numbers, slot.passed, 0);
    Atomics.store(this.#numbers, slot.fired, 0);
    Atomics.store(this.#numbers, slot.target, point);
    Atomics.store(this.#numbers, slot.mode, modes.indexOf(mode));
  }

  disarm(): void {
    Atomics.store(this.#numbers, slot.mode, modes.indexOf("none"));
  }

  /** Points that were passed since it was armed. */
  get passed(): number {
    return Atomics.load(this.#numbers, slot.passed);
  }

  /** True where the fault has happened. */
  get fired(): boolean {
    return Atomics.load(this.#numbers, slot.fired) === 1;
  }

  /**
   * Passes a point. Where the process dies, its name is the last line on standard error.
   * @returns the text of the error that the caller must fail with; undefined to go on
   */
  pass(name: string): string | undefined {
    const mode = modes[Atomics.load(this.#numbers, slot.mode)];
    if (mode === "none") return undefined;
    const number = Atomics.add(this.#numbers, slot.passed, 1) + 1;
    if (mode === "count" || number !== Atomics.load(this.#numbers, slot.target)) return undefined;
    Atomics.store(this.#numbers, slot.fired, 1);
    const text = `fault ${number}: ${name}`;
    if (mode === "die") {
      writeSync(2, `${text}\n`);
      process.kill(process.pid, "SIGKILL");
    }
    return text;
  }
}

/** A point of failure: before the effect, nothing has happened; after it, it has and the answer is not seen. */
export type Moment = "before" | "after";

/** Makes the error that a seam fails with. */
export type FaultError = (text: string, moment: Moment) => Error;

const check = (faults: Faults, name: string, moment: Moment, error: FaultError): void => {
  const text = faults.pass(`${moment} ${name}`);
  if (text !== undefined) throw error(text, moment);
};

/** Does synchronous work between its two points. */
export const between = <T>(faults: Faults, name: string, error: FaultError, work: () => T): T => {
  check(faults, name, "before", error);
  const result = work();
  check(faults, name, "after", error);
  return result;
};

/** The same for work that takes time. @param discard lets go of what the lost answer held */
export const betweenAsync = async <T>(
  faults: Faults,
  name: string,
  error: FaultError,
  work: () => Promise<T>,
  discard: (lost: T) => void = () => undefined,
): Promise<T> => {
  check(faults, name, "before", error);
  const result = await work();
  try {
    check(faults, name, "after", error);
  } catch (fault) {
    discard(result);
    throw fault;
  }
  return result;
};

/** Work without an effect has one point. */
export const atRead = async <T>(
  faults: Faults,
  name: string,
  error: FaultError,
  work: () => Promise<T>,
): Promise<T> => {
  check(faults, name, "before", error);
  return work();
};

/**
 * Arms what an environment variable asks for: `fail@12` or `die@12`, the point counted from the start of the process.
 * @throws NetworkError `invalid-faults`
 */
export const parseFaults = (text: string): Faults => {
  const [, mode, point] = /^(fail|die)@([1-9]\d{0,8})$/.exec(text) ?? [];
  if (mode === undefined) {
    throw badRequest("invalid-faults", `invalid DNET_FAULTS: ${shown(text)} is not fail@N or die@N`, {
      hint: "it makes the daemon fail or die on purpose: unset it unless that is what you want",
    });
  }
  const faults = new Faults();
  faults.arm(mode as FaultMode, Number(point));
  return faults;
};
