import { internal } from "../errors.ts";
import { Executor } from "../linux/executor.ts";
import { errno } from "../linux/libc.ts";
import { Namespaces } from "../linux/namespaces.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { NetlinkSocket, type Request } from "../linux/netlink/socket.ts";
import type { Operation } from "../linux/plan.ts";
import { between, type FaultError, type Faults } from "./faults.ts";

/** The kernel's answer that did not fit: whether it did what was asked, nobody knows. */
const lostAnswer: FaultError = (text) => new NetlinkError(errno.ENOBUFS, text);

const failAs =
  (code: string): FaultError =>
  (text) =>
    internal(code, text);

/** A routing socket with points around every request that changes something. */
class FaultySocket extends NetlinkSocket {
  readonly #faults: Faults;
  readonly #name: () => string;

  constructor(faults: Faults, name: () => string) {
    super();
    this.#faults = faults;
    this.#name = name;
  }

  override requestEach(requests: readonly Request[]): readonly (NetlinkError | undefined)[] {
    if (requests.length === 0) return [];
    return between(this.#faults, `netlink: ${this.#name()}`, lostAnswer, () => super.requestEach(requests));
  }
}

/** Namespaces with points around what makes a file one, and what makes it a file again. */
class FaultyNamespaces extends Namespaces {
  readonly #faults: Faults;

  constructor(faults: Faults, name: () => string) {
    super(() => new FaultySocket(faults, name));
    this.#faults = faults;
  }

  protected override mount(path: string): void {
    between(this.#faults, "mount", failAs("fault"), () => super.mount(path));
  }

  protected override unmount(path: string): void {
    between(this.#faults, "umount", failAs("fault"), () => super.unmount(path));
  }
}

/** As these parts fail by themselves: who handles their failures must meet them. */
const code = (operation: Operation): string =>
  operation.op === "nft.apply" ? "nft" : operation.op === "sysctl.set" ? "sysctl" : "fault";

/** Operations that are more than requests of a routing socket, whose points are those of the socket. */
const whole: readonly Operation["op"][] = [
  "namespace.add",
  "namespace.delete",
  "sysctl.set",
  "nft.apply",
  "nft.redirect",
  "conntrack.flush",
];

type Performed = Parameters<Executor["perform"]>[0];

/** Carries out plans with points of failure around every request and every operation that is none. */
export class FaultyExecutor extends Executor {
  readonly #faults: Faults;
  /** The operation that is under way. */
  readonly #now: { text: string };

  constructor(faults: Faults) {
    const now = { text: "entries" };
    super(new FaultyNamespaces(faults, () => now.text));
    this.#faults = faults;
    this.#now = now;
  }

  protected override perform(operation: Performed): Operation | undefined {
    this.#now.text = operation.op;
    try {
      if (!whole.includes(operation.op)) return super.perform(operation);
      return between(this.#faults, `operation: ${operation.op}`, failAs(code(operation)), () =>
        super.perform(operation),
      );
    } finally {
      this.#now.text = "entries";
    }
  }
}
