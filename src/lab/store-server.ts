import { lan } from "./addresses.ts";
import type { ServerKind } from "./lab-state.ts";
import type { Place } from "./place.ts";
import { findConsul } from "./programs.ts";
import { Service } from "./service.ts";

/** The real Consul or etcd of a lab. Its data is on the store's disk and outlives the process. */

const data = "/var/lib/docker";

const consul = (): readonly string[] => [
  ...[findConsul(), "agent", "-server", "-bootstrap-expect=1", `-data-dir=${data}`, "-node=store"],
  ...[`-bind=${lan.store}`, "-client=0.0.0.0", "-log-level=info"],
  // Elects itself in a second; the default is for clusters on slow machines.
  ...["-hcl", "performance { raft_multiplier = 1 } disable_update_check = true"],
];

const etcd: readonly string[] = [
  ...["etcd", "--name=store", `--data-dir=${data}/etcd`],
  ...["--listen-client-urls=http://0.0.0.0:2379", `--advertise-client-urls=http://${lan.store}:2379`],
  ...["--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380"],
  ...["--initial-cluster=store=http://127.0.0.1:2380", "--logger=zap"],
];

/** A consistent read, which needs a leader: that is what ready means. */
const question = {
  consul: () => [findConsul(), "kv", "get", "-keys", "lab/"],
  etcd: () => ["etcdctl", "--endpoints=http://127.0.0.1:2379", "get", "lab"],
} as const;

/** @param directory the place's, as the caller sees it */
export const storeServer = (kind: ServerKind, place: Place, directory: string): Service =>
  new Service({
    name: "store",
    place,
    directory,
    command: kind === "consul" ? consul() : etcd,
    ready: async () => {
      try {
        await place.script('exec "$@"', question[kind]());
        return true;
      } catch {
        return false;
      }
    },
  });
