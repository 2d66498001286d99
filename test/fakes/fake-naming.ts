import type { Naming, NamingProblem } from "../../src/controller/context.ts";
import type { EndpointRecord, SandboxRecord } from "../../src/controller/records.ts";
import { type Plan, plan } from "../../src/linux/plan.ts";

/** Names and files of sandboxes, in memory. */
export class FakeNaming implements Naming {
  readonly made = new Set<string>();
  readonly running = new Set<string>();
  readonly changes: (readonly [EndpointRecord | undefined, EndpointRecord | undefined])[] = [];

  async prepare(sandbox: SandboxRecord): Promise<void> {
    this.made.add(sandbox.id);
  }
  async open(sandbox: SandboxRecord): Promise<void> {
    this.running.add(sandbox.id);
  }
  async resume(): Promise<void> {}
  plan(): Plan {
    return plan();
  }
  async changed(endpoint: EndpointRecord | undefined, before: EndpointRecord | undefined): Promise<void> {
    this.changes.push([endpoint, before]);
  }
  async close(sandbox: SandboxRecord): Promise<void> {
    this.running.delete(sandbox.id);
  }
  /** What `examine` finds, by sandbox. */
  readonly problems = new Map<string, readonly NamingProblem[]>();
  async examine(sandbox: SandboxRecord): Promise<readonly NamingProblem[]> {
    const found = this.problems.get(sandbox.id) ?? [];
    return this.running.has(sandbox.id) ? found : [...found, { part: "resolver", what: "there is none" }];
  }
  async discard(sandboxId: string): Promise<void> {
    this.made.delete(sandboxId);
  }
  async directories(): Promise<readonly string[]> {
    return [...this.made];
  }
  async closeAll(): Promise<void> {
    this.running.clear();
  }
}
