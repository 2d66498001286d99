import type { NamingProblem } from "../context.ts";
import { type Check, type Finding, repairCommand } from "./check.ts";

/** Sandboxes that are looked at side by side; each takes a descriptor. */
const atOnce = 16;

/** Files and resolvers of sandboxes. */
export const filesCheck: Check = {
  name: "files and resolvers",
  async run({ context, signal }) {
    const sandboxes = [...context.state.sandboxes.values()];
    const found: (readonly NamingProblem[])[] = [];
    for (let n = 0; n < sandboxes.length; n += atOnce) {
      const part = sandboxes.slice(n, n + atOnce);
      found.push(...(await Promise.all(part.map((sandbox) => context.naming.examine(sandbox, signal)))));
    }
    return sandboxes.flatMap((sandbox, n) =>
      (found[n] ?? []).map(({ part, what }): Finding => {
        const file = part !== "resolver";
        return {
          code: file ? "no-file" : "no-resolver",
          subject: `container ${sandbox.container}`,
          what,
          expected: file ? `its file ${part}` : "a resolver that answers at 127.0.0.11",
          consequence: file ? "programs that use the file find no names" : "the container can resolve no names",
          remedy: repairCommand,
          repairable: true,
        };
      }),
    );
  },
  async repair({ context, signal }) {
    const done: string[] = [];
    for (const sandbox of [...context.state.sandboxes.values()]) {
      await context.locks.hold([`sandbox:${sandbox.id}`, `container:${sandbox.container}`], async () => {
        if (!context.state.sandboxes.has(sandbox.id)) return;
        if ((await context.naming.examine(sandbox, signal)).length === 0) return;
        await context.naming.close(sandbox);
        await context.naming.prepare(sandbox);
        await context.naming.open(sandbox, signal);
        done.push(`container ${sandbox.container}: files written and resolver started anew`);
      });
    }
    return done;
  },
};
