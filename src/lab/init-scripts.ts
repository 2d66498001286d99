import { writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * The first processes of a lab's and of a place's pid namespaces: they make what is inside, say their pid, and wait for the end of
 * standard input, which is the supervisor's end, however it came. When they exit, the kernel ends everything in their pid
 * namespace; mounts, links and rules go with their namespaces.
 *
 * A shell reaps the processes that are left to it while it waits. Its `read` cannot wait instead: the end of such a process interrupts
 * it (dash keeps a handler for SIGCHLD whatever `trap` says), which looks like the end of the input.
 */

/** `/proc` is still the caller's: the pid is the one that the caller sees. */
const sayPid = `read -r pid rest </proc/self/stat
echo "$pid"`;
const waitForEnd = `exec 4<&0
cat <&4 >/dev/null & cat=$!
while kill -0 "$cat" 2>/dev/null; do wait "$cat" || true; done`;

/** In the LAN's network namespace. Arguments: the lab's directory, the gateway's address with its length. */
const labInit = `set -e
# Its last words end every process it sees: those of its own pid namespace, or it must not run.
[ $$ = 1 ] || exit 1
cd "$1"
mount -n -t tmpfs -o mode=700 dnet-lab "$1/private"
ip link set lo up
ip link add lan0 type bridge forward_delay 0
ip address add "$2" dev lan0
ip link set lan0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<END
table ip lab {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan0" masquerade
  }
}
END
${sayPid}
${waitForEnd}
kill -KILL -1 || true
umount -n -l private || true
# What is in this very directory: another lab may have taken its name by now.
rm -rf -- * || true
exec rmdir "$1" "\${1%/*}" 2>/dev/null`;

/**
 * A place: private /run, /var/lib/docker and /etc/docker, names of its own. /run begins empty; the other two are the machine's disk and
 * outlive a reboot. Arguments: the lab's directory, the place's name.
 */
const placeInit = `set -e
private=$1/private/$2 name=$2
${sayPid}
exec 3>&1 >&2
hostname "$2"
# Directories are made from here: in a lab that is being removed that fails, where whole paths would be made anew on the machine.
cd "$1/private"
mkdir -p "$2/run" "$2/disk/lib" "$2/disk/etc"
mount -n -t tmpfs -o mode=755 dnet-lab "$private/run"
mkdir "$2/run/lab"
mount -n --bind "$1/$2" "$private/run/lab"
cover() {
  if [ ! -d "$1" ]; then
    # Not made on the machine's own disk: in a layer over the directory above.
    parent=\${1%/*} layer=$name/layer\${1%/*}
    mkdir -p "$layer/upper" "$layer/work"
    mount -n -t overlay -o "lowerdir=$parent,upperdir=$layer/upper,workdir=$layer/work" dnet-lab "$parent"
    mkdir -p "$1"
  fi
  mount -n --bind "$2" "$1"
}
cover /var/lib/docker "$private/disk/lib"
cover /etc/docker "$private/disk/etc"
mount -n --move "$private/run" /run
[ /var/run -ef /run ] || mount -n --bind /run /var/run
for file in hosts resolv.conf; do
  target=$(readlink -m "/etc/$file")
  # A link into /run leads to nothing now.
  case $target in /run/*) mkdir -p "\${target%/*}"; : >"$target" ;; esac
  [ ! -e "$target" ] || mount -n --bind "/run/lab/$file" "$target"
done
mount -n -t proc proc /proc
mount -n -t sysfs sysfs /sys 2>/dev/null || true
ip link set lo up
echo ready >&3
exec 3>&-
${waitForEnd}`;

const files = { lab: "lab-init.sh", place: "place-init.sh" } as const;

/** Files, so that `ps` shows names and not whole scripts. */
export const writeInitScripts = (directory: string): void => {
  writeFileSync(join(directory, files.lab), labInit);
  writeFileSync(join(directory, files.place), placeInit);
};

/** The command of a first process. */
export const initCommand = (
  directory: string,
  kind: keyof typeof files,
  ...args: readonly string[]
): readonly string[] => ["sh", join(directory, files[kind]), directory, ...args];
