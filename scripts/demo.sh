#!/usr/bin/env bash
# The main job, shown: a daemon in network and mount namespaces of its own (this machine's network stays as it is), the commands
# of the walk-through's single-host part, two sandboxes on a bridge network that reach each other by name and the outside by NAT.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != inside ]; then
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "the demo makes network namespaces: run it as root, or with sudo" >&2; exit 1; }
    exec sudo -n "$0"
  fi
  exec unshare --net --mount --pid --fork --mount-proc --propagation private "$0" inside
fi

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() {
  printf '\033[36m$ %s\033[0m\n' "$*"
  "$@" || { status=$?; [ -n "${may_fail:-}" ] || exit $status; }
}
dnet() { ./bin/dnet "$@"; }
sandbox() { dnet container info "$1" --format json | sed -n "s/^  \"$2\": \"\(.*\)\",$/\1/p"; }
# A command in a sandbox, with the sandbox's own files, as a container runtime would run it.
in_sandbox() {
  local id key container=$1
  shift
  id=$(sandbox "$container" id)
  key=$(sandbox "$container" key)
  printf '\033[36m[%s] $ %s\033[0m\n' "$container" "$*"
  unshare --mount --propagation private sh -ec "
    mount --bind /var/lib/docker/network/files/$id/resolv.conf /etc/resolv.conf
    mount --bind /var/lib/docker/network/files/$id/hosts /etc/hosts
    exec nsenter --net=$key \"\$@\"" sh "$@"
}

# A host of its own: private state, and an "outside" that has no route back.
mkdir -p /var/lib/docker
mount -t tmpfs none /run
mount -t tmpfs none /var/lib/docker
ip link set lo up
unshare --net sleep infinity &
outside=$!
until [ "$(readlink /proc/self/ns/net)" != "$(readlink /proc/$outside/ns/net)" ]; do sleep 0.01; done
ip link add wan0 type veth peer name eth0 netns $outside
ip address add 203.0.113.1/24 dev wan0
ip link set wan0 up
nsenter -t $outside -n ip address add 203.0.113.2/24 dev eth0
nsenter -t $outside -n ip link set eth0 up
ip route add default via 203.0.113.2

say "1.2 Start a daemon"
printf '\033[36m$ dnet -d -D &\033[0m\n'
./bin/dnet -d -D 2>/run/dnet.log &
daemon=$!
until grep -q 'is ready' /run/dnet.log; do kill -0 $daemon || { cat /run/dnet.log; exit 1; }; sleep 0.02; done
show dnet network create test
show dnet network ls

say "1.3.3 Services and containers, here on a bridge network"
show dnet network create -d bridge multihost
show dnet service publish svc.multihost
show dnet service ls
show dnet container create container_0
show dnet service attach container_0 svc.multihost
show dnet service ls
show dnet container create container_00
say "An endpoint belongs to one container: a second attach is refused"
may_fail=1 show dnet service attach container_00 svc.multihost
show dnet service publish newsvc.multihost
show dnet service attach container_00 newsvc.multihost
show dnet network info multihost

say "The sandboxes reach each other by name, both ways"
in_sandbox container_0 ping -c 1 newsvc
in_sandbox container_00 ping -c 1 container_0
say "... and the outside, which has no route back: through NAT"
in_sandbox container_0 ping -c 1 203.0.113.2
say "What is in a sandbox"
in_sandbox container_0 ip -br address
in_sandbox container_0 ip route
in_sandbox container_0 cat /etc/hosts
say "What the daemon did for the last attach, as commands (from its debug log)"
grep -oE 'msg="(ip link add name veth|nsenter).*' /run/dnet.log | tail -n 4 | sed 's/^msg="//; s/"$//; s/\\n/\n/g' | cut -c1-160

say "Clean up"
show dnet container rm container_0
show dnet container rm container_00
show dnet network rm multihost
show dnet network rm test
show dnet network rm bridge
kill $daemon
wait $daemon
kill $outside; wait $outside 2>/dev/null || true
printf '\nleft in this host: %s links, %s namespaces, %s nftables tables\n' \
  "$(ip -br link | grep -cvE '^(lo|wan0)')" "$(find /run/docker/netns -type f | wc -l)" "$(nft list tables | wc -l)"
