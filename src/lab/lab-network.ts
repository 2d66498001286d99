import { noService } from "../errors.ts";
import { lan, macOf, outside } from "./addresses.ts";
import { initCommand } from "./init-scripts.ts";
import { Place, runCommand } from "./place.ts";

/** The lab's network: a namespace with the LAN's bridge and the gateway, and places wired to it. All of it goes with its first process. */
export class LabNetwork {
  readonly lan: Place;
  readonly #directory: string;
  readonly #userNamespace: boolean;
  #partitions: readonly (readonly [string, string])[] = [];

  private constructor(directory: string, userNamespace: boolean, place: Place) {
    this.#directory = directory;
    this.#userNamespace = userNamespace;
    this.lan = place;
  }

  /** @throws NetworkError `no-user-namespace`, `lab-command` */
  static async start(directory: string, userNamespace: boolean): Promise<LabNetwork> {
    if (userNamespace) await checkUserNamespaces();
    const unshare = [
      "unshare",
      ...(userNamespace ? ["--user", "--map-root-user"] : []),
      ...["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--"],
    ];
    const gateway = `${lan.gateway}/${lan.length}`;
    const command = [...unshare, ...initCommand(directory, "lab", gateway)];
    return new LabNetwork(directory, userNamespace, await Place.start(command, { userNamespace, lines: 1 }));
  }

  /** A machine on the LAN. */
  async addMachine(name: string, address: string): Promise<Place> {
    const place = await this.#addPlace(name);
    await this.#wire(name, place, `${address}/${lan.length}`, macOf(address));
    await this.lan.script('ip link set "$1" master lan0', [name], ["net"]);
    await place.script('ip route add default via "$1"', [lan.gateway]);
    return place;
  }

  /** The world behind the gateway's NAT. It has no route back: what returns from it was translated. */
  async addOutside(): Promise<Place> {
    const place = await this.#addPlace("outside");
    await this.#wire("wan0", place, `${outside.address}/${outside.length}`, macOf(outside.address));
    await this.lan.script('ip address add "$1" dev wan0', [`${outside.gateway}/${outside.length}`], ["net"]);
    return place;
  }

  get partitions(): readonly (readonly [string, string])[] {
    return this.#partitions;
  }

  /** Drops everything, ARP included, between machines, both ways. The names are those of machines of this lab: the caller has checked them. */
  async partition(pairs: readonly (readonly [string, string])[]): Promise<void> {
    const all = [...this.#partitions, ...pairs];
    const rules = all.flatMap(([a, b]) => [`iifname "${a}" oifname "${b}" drop`, `iifname "${b}" oifname "${a}" drop`]);
    const chain = `chain partition {\n type filter hook forward priority filter; policy accept;\n ${rules.join("\n ")}\n }`;
    const table = `table bridge lab {\n ${rules.length > 0 ? chain : ""}\n}\n`;
    await runCommand(
      [...this.lan.enter(["net"]), "nft", "-f", "-"],
      `table bridge lab\ndelete table bridge lab\n${table}`,
    );
    this.#partitions = all;
  }

  async heal(): Promise<void> {
    this.#partitions = [];
    await this.partition([]);
  }

  /** Ends the first process; what was there goes with it, the lab's directory too. */
  async end(): Promise<void> {
    await this.lan.end();
  }

  #addPlace(name: string): Promise<Place> {
    const command = [
      ...this.lan.enter(["mount", "pid"]),
      ...["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--"],
      ...initCommand(this.#directory, "place", name),
    ];
    return Place.start(command, { userNamespace: this.#userNamespace, lines: 2 });
  }

  /** @param port the gateway's end of the cable */
  async #wire(port: string, place: Place, address: string, mac: string): Promise<void> {
    // The pid namespace stays the caller's, so that the kernel understands the caller's pid.
    // After a reboot the kernel may still be taking the old cable away.
    const cable =
      'while ip link show "$1" >/dev/null 2>&1; do ip link delete "$1" 2>/dev/null || true; done; ip link add "$1" type veth peer name eth0 netns "$2"; ip link set "$1" up';
    await this.lan.script(cable, [port, String(place.pid)], ["net"]);
    const ends = 'ip link set eth0 address "$2" up; ip address add "$1" dev eth0';
    await place.script(ends, [address, mac]);
  }
}

const checkUserNamespaces = async (): Promise<void> => {
  try {
    await runCommand(["unshare", "--user", "--map-root-user", "true"]);
  } catch (cause) {
    const text = "an ordinary user's lab needs a user namespace, and this machine does not allow it";
    const hint =
      "run it as root, or allow them: sysctl kernel.unprivileged_userns_clone=1 (Debian), " +
      "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces above 0";
    throw noService("no-user-namespace", text, { cause, hint });
  }
};
