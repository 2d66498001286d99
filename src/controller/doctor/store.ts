import { lossText } from "../record-loss.ts";
import { type Check, type Finding, repairCommand } from "./check.ts";

/** The local store itself: whether it was damaged, and whether it can be written. */
export const storeCheck: Check = {
  name: "local store",
  run: async ({ loss, trouble }) => [
    ...(loss
      ? [
          {
            code: "records-lost",
            subject: "local store",
            what: lossText(loss),
            expected: "a store that has every record of this host",
            consequence:
              "records written last may be missing or old: what no record explains is kept and not looked after, until it is accepted",
            remedy: `look at what else this report names, then ${repairCommand} accepts the loss and removes what no record explains; the damaged file may go`,
            repairable: true,
          } satisfies Finding,
        ]
      : []),
    ...(trouble === undefined
      ? []
      : [
          {
            code: "store-not-writable",
            subject: "local store",
            what: trouble,
            expected: "a store that can be written",
            consequence: "what runs goes on; networks, services and containers of this host cannot be changed",
            remedy: "free the disk, or mount it for writing; then start the daemon anew",
            repairable: false,
          } satisfies Finding,
        ]),
  ],
  async repair({ loss, acceptLoss }) {
    if (!loss) return [];
    await acceptLoss();
    return ["local store: the loss is accepted"];
  },
};
