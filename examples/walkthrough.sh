#!/usr/bin/env bash
# The walk-through "Understanding How Libnetwork Works", command for command, on a lab of two hosts in place of containers:
#
#     make build && examples/walkthrough.sh [consul|etcd] [overlay]
#
# With `overlay`, only its last part, section 1.4: that is `make demo`.
# Every command is printed with what came out; where the document says what must come out, it is checked, and the script ends
# with status 1 where it does not hold. As root (or, without the root-only steps of section 1.4, whoever may make user namespaces).
set -euo pipefail
cd "$(dirname "$0")/.."
store=${1:-consul}
part=${2:-all}
name=walkthrough-$store
port=${DNET_LAB_PORT:-41000}
one=tcp://127.0.0.1:$port
two=tcp://127.0.0.1:$((port + 1))
output=

section() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf '\033[31mFAILED: %s\033[0m\n' "$*" >&2; exit 1; }
# Prints a command, runs it, prints and keeps what came out.
show() {
  printf '\033[36m# %s\033[0m\n' "$*"
  if ! output=$("$@" 2>&1); then
    printf '%s\n' "$output"
    fail "status of: $*"
  fi
  [ -z "$output" ] || printf '%s\n' "$output"
}
# The same for a command that must be refused.
refused() {
  printf '\033[36m# %s\033[0m\n' "$*"
  if output=$("$@" 2>&1); then fail "not refused: $*"; fi
  printf '%s\n' "$output"
}
says() { grep -Eq -- "$1" <<<"$output" || fail "expected: $1"; printf '  \033[32mok\033[0m %s\n' "$2"; }
silent() { [ -z "$output" ] || fail "expected no output"; }
dnet() { ./bin/dnet "$@"; }
on() { local host=$1; shift; dnet lab exec --name "$name" "$host" -- "$@"; }
# Waits until a command succeeds; a daemon that was started needs a moment.
until_ok() {
  local end=$((SECONDS + 30))
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || fail "not within 30 s: $*"; sleep 0.1; done
}
down() { ./bin/dnet lab down --name "$name" >/dev/null 2>&1 || true; }
trap down EXIT

section "1.1 Start $store (on the lab's LAN, in place of a container)"
show dnet lab up --hosts 2 --store "$store" --name "$name" --port "$port"
if [ "$store" = consul ]; then
  address=172.17.0.2:8500/custom_prefix
  export_store() { on dnet-1 consul kv export custom_prefix/; }
  show on dnet-1 consul members
  says 'alive +server' "consul is up"
else
  address=172.17.0.2:2379/custom_prefix
  export_store() { on dnet-1 etcdctl get --prefix custom_prefix/; }
  show on dnet-1 etcdctl endpoint health
  says 'is healthy' "etcd is up"
fi
work=$(mktemp -d)
trap 'down; rm -rf "$work"' EXIT
# The document's configuration, with the address of this lab's store.
config() { # file, lines for [daemon]
  printf 'title = "LibNetwork Configuration file"\n\n[daemon]\n  debug = true\n%s\n[cluster]\n  discovery = "%s://%s"\n  Heartbeat = 10\n[scopes]\n  [scopes.global]\n    [scopes.global.client]\n      provider = "%s"\n      address = "%s"\n' \
    "$2" "$store" "$address" "$store" "$address" >"$1"
}

if [ "$part" != overlay ]; then
section "1.2 Start a single dnet, on host dnet-1 alone"
dnet lab kill --name "$name" dnet-1
dnet lab kill --name "$name" dnet-2
config "$work/libnetwork-$store.toml" ""
show cat "$work/libnetwork-$store.toml"
printf '\033[36m# ./bin/dnet -d -D -H tcp://0.0.0.0:4567 -c %s &\033[0m\n' "libnetwork-$store.toml"
on dnet-1 ./bin/dnet -d -D -H tcp://0.0.0.0:4567 -c "$work/libnetwork-$store.toml" 2>"$work/single.log" &
until_ok on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4567 network ls
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4567 network create test
says '^[0-9a-f]{64}$' "prints the id"
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4567 network ls
says '^[0-9a-f]{12}   +test +bridge' "a bridge network"
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4567 network rm test
silent
on dnet-1 pkill -TERM -f 'tcp://0.0.0.0:4567'
wait

section "1.3 Start multiple dnet on the same host: different data stores"
# In place of the document's /tmp/dnet1 and /tmp/dnet2, which may be somebody's.
config "$work/libnetwork-dnet-1.toml" "  dataDir = \"$work/dnet1\""
config "$work/libnetwork-dnet-2.toml" "  dataDir = \"$work/dnet2\""
for n in 1 2; do
  printf '\033[36m# ./bin/dnet -d -D -H tcp://0.0.0.0:%d -c libnetwork-dnet-%d.toml &\033[0m\n' $((4566 + n)) $n
  on dnet-1 ./bin/dnet -d -D -H tcp://0.0.0.0:$((4566 + n)) -c "$work/libnetwork-dnet-$n.toml" 2>"$work/same-$n.log" &
  until_ok on dnet-1 ./bin/dnet -H tcp://127.0.0.1:$((4566 + n)) network ls
done
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4567 network create -d test shared
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4568 network ls
says '^[0-9a-f]{12}   +shared +test' "the second daemon sees the first one's network"
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4568 node ls
[ "$(grep -c alive <<<"$output")" -eq 2 ] || fail "expected two nodes that are alive"
printf '  \033[32mok\033[0m two nodes on one host\n'
if command -v serf >/dev/null; then
  output=$(grep -h 'serf' "$work/same-2.log" | grep -E '794[67]' | head -n 3)
  printf '%s\n' "$output"
  says '7947' "the second one's gossip took the next port in place of a conflict on 7946"
fi
show on dnet-1 ./bin/dnet -H tcp://127.0.0.1:4568 network rm shared
on dnet-1 pkill -TERM -f 'tcp://0.0.0.0:456[78]'
wait

section "1.3.3 Start dnet on two hosts; ports 41000 and 41001"
for n in 1 2; do
  sed -i "s#/dnet\"#/custom_prefix\"#" "/run/dnet-lab/$name/dnet-$n/dnet.toml"
  dnet lab start --name "$name" "dnet-$n"
done
show dnet -H "$one" network ls
says 'NETWORK ID +NAME +TYPE' "the original's columns"
show dnet -H "$one" network create -d test mh1
show dnet -H "$two" network ls
says ' mh1 +test' "synced to the other instance"
show export_store
says 'custom_prefix/global/networks/' "readable keys in the global datastore"
show dnet -H "$two" network rm mh1
show dnet -H "$one" network ls
! grep -q mh1 <<<"$output" || fail "mh1 is still there"
printf '  \033[32mok\033[0m removed on one, gone on both\n'

section "1.3.3 Create service (aka endpoint) and attach it to a sandbox"
show dnet -H "$one" network create -d test multihost
show dnet -H "$two" service publish svc.multihost
show dnet -H "$one" service ls
says '^[0-9a-f]{12}   +svc +multihost' "published there, seen here"
show dnet -H "$one" container create container_0
show dnet -H "$one" service attach container_0 svc.multihost
silent
show dnet -H "$one" service ls
says ' svc +multihost +container_0 +[0-9a-f]{12}$' "the container attached to the network"
show dnet -H "$two" service ls
says '^[0-9a-f]{12}   +svc +multihost *$' "a sandbox is local: no container is shown elsewhere"
show dnet -H "$one" container create container_00
refused dnet -H "$one" service attach container_00 svc.multihost
says '^error : another container is attached to the same network endpoint' "an endpoint belongs to one container"
show dnet -H "$two" service publish newsvc.multihost
show dnet -H "$one" service attach container_00 newsvc.multihost
silent
show dnet -H "$one" service ls
says ' newsvc +multihost +container_00 +' "a new endpoint for the second container"
for container in container_0 container_00; do show dnet -H "$one" container rm "$container"; done
show dnet -H "$one" network rm multihost
fi

section "1.4 Multiple dnets on multiple hosts: the overlay"
show dnet -H "$one" network create -d overlay multihost
show dnet -H "$one" network ls
says ' multihost +overlay' "an overlay network"
show dnet -H "$one" container create container_0
show dnet -H "$two" container create container_1
show dnet -H "$one" service publish container_0.multihost
show dnet -H "$two" service publish container_1.multihost
show dnet -H "$one" service attach container_0 container_0.multihost
silent
show dnet -H "$two" service attach container_1 container_1.multihost
silent
show dnet -H "$one" service ls
says '^[0-9a-f]{12}   +container_1 +multihost *$' "global scope: listed, its sandbox is the other host's"
says '^[0-9a-f]{12}   +container_0 +multihost +container_0 +[0-9a-f]{12}$' "local sandbox displayed"
says '^[0-9a-f]{12}   +gateway_container_0 +docker_gwbridge +container_0 +[0-9a-f]{12}$' "the way out"
sandbox=$(awk '$2 == "container_0" { print $5 }' <<<"$output")
files=$(on dnet-1 sh -c "ls -d /var/lib/docker/network/files/$sandbox*")
show on dnet-1 sh -ec "
  mkdir -p /scratch/rootfs/etc 2>/dev/null || mkdir -p /run/scratch/rootfs/etc
  etc=/scratch/rootfs/etc; [ -d \$etc ] || etc=/run/scratch/rootfs/etc
  cp $files/* \$etc; ls \$etc; cat \$etc/hosts \$etc/resolv.conf"
says '^hosts$' "the sandbox's files"
says 'nameserver 127.0.0.11' "the embedded resolver"
show on dnet-1 sh -ec "
  mkdir -p /var/run/netns
  touch /var/run/netns/c && mount -o bind /var/run/docker/netns/$sandbox /var/run/netns/c
  ip netns exec c ip address show dev eth0"
says 'mtu 1450' "MTU 1450 on the overlay"
says 'link/ether 02:42:0a:' "MAC derived from the address"
here=$(sed -nE 's/.*inet (10\.[0-9.]+)\/24.*/\1/p' <<<"$output")
[ -n "$here" ] || fail "eth0 has no address 10.x.x.x/24"
there=$(dnet -H "$two" service info container_1.multihost --format json | grep -oE '10\.[0-9.]+' | head -n 1)
show on dnet-1 ip netns exec c ping -c 2 -W 5 "$there"
says ' 0% packet loss' "ping to the other host's sandbox"
key=$(dnet -H "$two" container info container_1 --format json | sed -n 's/^  "key": "\(.*\)",$/\1/p')
show on dnet-2 nsenter "--net=$key" ping -c 2 -W 5 "$here"
says ' 0% packet loss' "and back"
show on dnet-1 ip netns exec c ping -c 1 -W 5 203.0.113.2
says ' 0% packet loss' "the outside, by the gateway's NAT"

section "1.4 What is the VNI of the overlay network?"
show on dnet-1 ls /var/run/docker/netns/
overlay=$(grep -oE '^1-[0-9a-f]{10}$' <<<"$output")
show on dnet-1 sh -ec "
  touch /var/run/netns/1ae
  mount -o bind /var/run/docker/netns/$overlay /var/run/netns/1ae
  ip netns exec 1ae ip -d link show dev vxlan1"
says 'vxlan id 256 ' "VNI 256"
says 'dstport 4789' "port 4789"
says 'proxy l2miss l3miss' "proxy l2miss l3miss"
says 'mtu 1450' "MTU 1450"
says 'master br0' "a port of br0"
show on dnet-1 ip netns exec 1ae bridge fdb show dev vxlan1
says "$(printf '02:42:%02x:%02x:%02x:%02x' ${there//./ }) dst 172.17.0.4 (link-netnsid 0 )?self permanent" "the other sandbox behind the other host"
show on dnet-1 sh -ec "umount /var/run/netns/c /var/run/netns/1ae; rm /var/run/netns/c /var/run/netns/1ae"
show dnet -H "$one" network create -d overlay second
show dnet -H "$one" network info second --format json
says '"vni": 257' "the next network gets 257"

section "Clean up"
show dnet -H "$one" container rm container_0
show dnet -H "$two" container rm container_1
show dnet -H "$one" network rm multihost
show dnet -H "$one" network rm second
show on dnet-1 ls /var/run/docker/netns/
silent
show dnet lab down --name "$name"
trap 'rm -rf "$work"' EXIT
printf '\nEverything held.\n'
