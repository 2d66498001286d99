import type { Kernel, Observed, OpenedSocket } from "../../src/linux/kernel.ts";
import type { Operation, Plan } from "../../src/linux/plan.ts";

/** A kernel that keeps what plans say, for tests of planning without root; faults can be injected by operation. */
export class FakeKernel implements Kernel {
  readonly applied: Operation[] = [];
  readonly namespaces = new Set<string>(["host"]);
  /** Links of the host by name, with their marks. */
  readonly links = new Map<string, string | undefined>();
  /** Called before every operation; what it throws, the operation fails with. */
  fault: (operation: Operation) => void = () => undefined;

  async apply(plan: Plan): Promise<void> {
    for (const operation of plan) {
      this.fault(operation);
      this.#apply(operation);
    }
  }

  async teardown(plan: Plan): Promise<void> {
    for (const operation of plan) this.#apply(operation);
  }

  #apply(operation: Operation): void {
    this.applied.push(operation);
    if (operation.op === "namespace.add") this.namespaces.add(operation.path);
    if (operation.op === "namespace.delete") this.namespaces.delete(operation.path);
    if (operation.op === "link.add" && operation.namespace === "host")
      this.links.set(operation.link.name, operation.link.alias);
    if (operation.op === "link.delete" && operation.namespace === "host") this.links.delete(operation.name);
  }

  async observe(namespace: string): Promise<Observed | undefined> {
    if (!this.namespaces.has(namespace)) return undefined;
    const names = namespace === "host" ? [...this.links] : [];
    const links = names.map(([name, alias], n) => ({
      index: n + 2,
      name,
      ...(alias !== undefined && { alias }),
      mtu: 1500,
      up: true,
      addresses: [],
    }));
    return { links, routes: [] };
  }

  async openSockets(): Promise<readonly OpenedSocket[]> {
    return [];
  }

  async close(): Promise<void> {}
}
