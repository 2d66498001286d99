import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { difference, hostView } from "./host-view.ts";
import { clear, type Scenario, scenarios } from "./scenarios.ts";
import { gone, Subject } from "./subject.ts";

/** The program that a point is walked in: it makes an operation fail or dies, and says what it finds of an earlier one. */

export interface Task {
  readonly scenario: string;
  /**
   * `measure`: counts the points and notes how it looks before and after; `fail`: fails at these points, one after the other; `die`: dies at the
   * first of them, after it has looked at what the one before has left; `clear`: removes everything.
   */
  readonly work: "measure" | "fail" | "die" | "clear";
  readonly points: readonly number[];
  /** What an earlier process left, where it died (or failed) at a point. */
  readonly left?: { readonly point: number; readonly mode: "fail" | "die" };
  readonly etcd?: string;
  /** Where what was measured is kept. */
  readonly notes: string;
}

export interface Answer {
  /** By `measure`. */
  readonly points?: number;
  readonly problems: readonly string[];
  /** Points at which something had to be repaired, or the operation was found to have happened. */
  readonly repaired: number;
  /** Failures of a start after which something was missing until the next one. */
  readonly restarted: number;
  readonly happened: number;
  /** Points that this process failed at and went on. */
  readonly failed: number;
  readonly notHappened: number;
  /** Of a task that should die: the operation has fewer points. */
  readonly survived?: boolean;
}

interface Notes {
  readonly before: string;
  readonly after: string;
}

const textOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

/** Milliseconds within which a shared store's changes are followed. */
const followDeadline = 10_000;

class Walker {
  readonly #scenario: Scenario;
  readonly #subject: Subject;
  readonly #notes: string;
  readonly problems: string[] = [];
  repaired = 0;
  restarted = 0;
  happened = 0;
  failed = 0;
  notHappened = 0;

  constructor(scenario: Scenario, subject: Subject, notes: string) {
    this.#scenario = scenario;
    this.#subject = subject;
    this.#notes = notes;
  }

  #view = (): Promise<string> => hostView(this.#subject.stores);

  /** What others wrote to a shared store arrives a moment later. @returns the view when it is like one of these, or after the deadline */
  async #viewOnceLike(expected: readonly string[]): Promise<string> {
    const end = performance.now() + followDeadline;
    for (;;) {
      const view = await this.#view();
      if (expected.includes(view) || performance.now() > end) return view;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** A view that stays as it is. */
  async #restingView(): Promise<string> {
    for (let last = await this.#view(); ; ) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const view = await this.#view();
      if (view === last) return view;
      last = view;
    }
  }

  async measure(): Promise<number> {
    const { prepare, operation, undo, converges } = this.#scenario;
    const subject = this.#subject;
    const begin = async () => {
      await subject.open();
      await prepare(subject);
      return converges ? "" : this.#restingView();
    };
    const carryOut = async () => {
      subject.faults.arm("count");
      await operation(subject);
      subject.faults.disarm();
      const { passed } = subject.faults;
      await subject.open();
      return passed;
    };
    // Once for what is made for good with the first of its kind.
    await begin();
    await carryOut();
    await undo(subject);
    const before = await begin();
    const points = await carryOut();
    const after = await this.#restingView();
    await this.#expectNoFindings("without a fault");
    await undo(subject);
    const again = await begin();
    for (const line of difference(before, again)) this.problems.push(`not the same after it was undone: ${line}`);
    if (before === after && !converges) this.problems.push("it changes nothing that can be seen");
    writeFileSync(this.#notes, JSON.stringify({ before, after } satisfies Notes));
    return points;
  }

  async #expectNoFindings(when: string): Promise<void> {
    for (const { code, subject, what } of await this.#subject.findings())
      this.problems.push(`${when}: doctor finds ${code}: ${subject}: ${what}`);
  }

  /** Begins the operation with a fault ahead. @returns whether the fault was met, and what came of it */
  async begin(mode: "fail" | "die", point: number): Promise<{ fired: boolean; error: unknown }> {
    await this.#subject.open();
    await this.#scenario.prepare(this.#subject);
    const { faults } = this.#subject;
    faults.arm(mode, point);
    let error: unknown;
    try {
      await this.#scenario.operation(this.#subject);
    } catch (thrown) {
      error = thrown;
    }
    const { fired } = faults;
    faults.disarm();
    return { fired, error };
  }

  /** After an operation that met no fault. */
  async takeBack(): Promise<void> {
    if (!this.#scenario.converges) await this.#scenario.undo(this.#subject);
  }

  /** Looks at what a fault has left: all or nothing, and everything goes on from there. */
  async settle(
    point: string,
    outcome: { readonly error?: unknown; readonly running: boolean; readonly last: boolean },
  ): Promise<void> {
    const subject = this.#subject;
    const logged = subject.log.length;
    const found: string[] = [];
    const problem = (text: string) => found.push(text);
    try {
      await subject.open();
      let findings = await subject.findings();
      // What a daemon does that goes on: it looks from time to time.
      if (outcome.running && findings.length > 0) {
        this.repaired++;
        findings = (await subject.net.repair([gone])).after.findings;
      }
      for (const { code, subject: about, what } of findings) problem(`doctor finds ${code}: ${about}: ${what}`);
      const { before, after } = JSON.parse(readFileSync(this.#notes, "utf8")) as Notes;
      let now = await this.#viewOnceLike(this.#scenario.converges ? [after] : [after, before]);
      if (outcome.running && this.#scenario.converges && now !== after) {
        // Some of what a start makes is logged and left out where it fails; the next one makes it.
        this.restarted++;
        await subject.close();
        await subject.open();
        now = await this.#viewOnceLike([after]);
      }
      const happened = now === after;
      if (!happened && (this.#scenario.converges || now !== before)) {
        const ways = [difference(after, now), ...(this.#scenario.converges ? [] : [difference(before, now)])];
        const [least = []] = ways.sort((a, b) => a.length - b.length);
        problem(`it happened in part:\n    ${least.slice(0, 20).join("\n    ")}`);
      }
      if (happened) this.happened++;
      else this.notHappened++;
      if (!this.#scenario.converges) {
        if (!happened && outcome.running && outcome.error === undefined) problem("it was said to have happened");
        if (!happened) await this.#attempt(problem, "repeat it", () => this.#scenario.operation(subject));
        await this.#attempt(problem, "undo it", () => this.#scenario.undo(subject));
        await this.#attempt(problem, "prepare again", () => this.#scenario.prepare(subject));
        if (outcome.last) {
          const view = await this.#viewOnceLike([before]);
          for (const line of difference(before, view)) problem(`after it was undone: ${line}`);
        }
      }
    } catch (error) {
      problem(textOf(error));
    }
    if (found.length === 0) return;
    const log = subject.log.slice(logged).map((line) => `    log: ${line}`);
    this.problems.push(
      [
        `${point}: ${outcome.error === undefined ? "" : `failed with: ${String(outcome.error)}`}`,
        ...found,
        ...log,
      ].join("\n  "),
    );
  }

  async #attempt(problem: (text: string) => void, what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      problem(`could not ${what}: ${textOf(error)}`);
    }
  }
}

const main = async (task: Task): Promise<Answer> => {
  const scenario = scenarios.find(({ name }) => name === task.scenario);
  if (!scenario) throw new Error(`no scenario ${task.scenario}`);
  const subject = new Subject(task.etcd);
  subject.defaultNetwork = scenario.defaultNetwork ?? "";
  const walker = new Walker(scenario, subject, task.notes);
  const extra: { points?: number; survived?: boolean } = {};
  if (task.work === "clear") {
    await subject.open();
    await clear(subject);
  }
  if (task.work === "measure") extra.points = await walker.measure();
  const [first] = task.points;
  // This host's copy of the store is written a moment after a change: a start may find one that knows of it, or none that does.
  if (task.left && task.left.point % 2 === 0) rmSync("/var/lib/docker/network/global.json", { force: true });
  if (task.left)
    await walker.settle(`${task.left.mode} at ${task.left.point}`, { running: false, last: first === undefined });
  if (task.work === "die" && first !== undefined) {
    // Told now: a process that dies says nothing more.
    tell({ ...walkerAnswer(walker), ...extra });
    const { fired } = await walker.begin("die", first);
    extra.survived = !fired;
  }
  if (task.work === "fail" && scenario.ends && first !== undefined) {
    const { fired } = await walker.begin("fail", first);
    extra.survived = !fired;
    return { ...walkerAnswer(walker), ...extra };
  }
  if (task.work === "fail") {
    for (const point of task.points) {
      const { fired, error } = await walker.begin("fail", point);
      // It had fewer points this time: what it waited for had come already.
      if (!fired) {
        await walker.takeBack();
        continue;
      }
      walker.failed++;
      await walker.settle(`fail at ${point}`, { error, running: true, last: point === task.points.at(-1) });
    }
  }
  await subject.end();
  return { ...walkerAnswer(walker), ...extra };
};

/** A line each; the last one counts. */
const tell = (answer: Answer): void => writeFileSync(3, `${JSON.stringify(answer)}\n`);

const walkerAnswer = ({ problems, repaired, restarted, happened, failed, notHappened }: Walker): Answer => ({
  problems,
  repaired,
  restarted,
  happened,
  failed,
  notHappened,
});

const [text = "{}"] = process.argv.slice(2);
const report = (answer: Answer): void => {
  tell(answer);
  // Sockets of a controller that failed to close would keep it.
  process.exit(0);
};
main(JSON.parse(text) as Task).then(report, (error: unknown) =>
  report({ problems: [textOf(error)], repaired: 0, restarted: 0, happened: 0, failed: 0, notHappened: 0 }),
);
