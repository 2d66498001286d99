import { writeFileSync } from "node:fs";
import { run, shell } from "../own-host.ts";
import { EtcdServer } from "../store/etcd-server.ts";
import { DaemonProcess } from "./dnet.ts";

const config = "/run/etcd-node.toml";

/** A daemon on the test's own host that shares a real etcd with nobody, with an underlay that leads nowhere. */
export class EtcdNode {
  readonly etcd = new EtcdServer();
  #daemon: DaemonProcess | undefined;

  get daemon(): DaemonProcess {
    if (!this.#daemon) throw new Error("the daemon was not started");
    return this.#daemon;
  }

  async start(): Promise<void> {
    shell("ip link add under0 type veth peer name under1; ip address add 10.9.0.1/24 dev under0");
    shell("ip link set under0 up; ip link set under1 up");
    await this.etcd.start();
    const lines = ["[cluster]", 'address = "10.9.0.1"', "serf = false", "[scopes.global.client]", 'provider = "etcd"'];
    writeFileSync(config, [...lines, `address = "${this.etcd.address}"`, ""].join("\n"));
    this.#daemon = await DaemonProcess.start("-c", config);
  }

  etcdctl(...words: readonly string[]): string {
    return run("etcdctl", "--endpoints", this.etcd.address, ...words);
  }

  /** Whatever has come of it: nothing runs any more. */
  async end(): Promise<void> {
    await this.#daemon?.stop("SIGKILL");
    await this.etcd.remove();
  }
}
