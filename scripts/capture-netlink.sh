#!/usr/bin/env bash
# Writes the bytes that iproute2 sends for one command of each kind to test/golden/netlink.json: the oracle of the codec's tests.
# Needs root and strace; works in a network namespace of its own. Run it again only to add cases.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != inside ]; then exec unshare --net --mount "$0" inside; fi
ip link add lan type bridge && ip link set lan up && ip address add 10.0.0.1/24 dev lan
ip link add vx type vxlan id 9 dstport 4789
ip link add va type veth peer name vb
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
first=1
echo "[" > test/golden/netlink.json
while IFS= read -r command; do
  # Some kinds are not in every kernel: what was sent counts, not the answer.
  strace -qq -e trace=sendmsg,sendto -e write=3,4,5 -o "$trace" $command >/dev/null 2>&1 || true
  # The dump of the last message sent: lines such as ` | 00000  28 00 00 00 10 00 05 06  ...`.
  hex=$(awk '/^send/ { hex = "" } /^ \| [0-9a-f]+ / { line = substr($0, 11, 49); gsub(/ /, "", line); hex = hex line } END { print hex }' "$trace")
  [ $first = 1 ] || echo "," >> test/golden/netlink.json
  first=0
  printf '  { "command": "%s", "hex": "%s" }' "$command" "$hex" >> test/golden/netlink.json
done <<'COMMANDS'
ip link add name br9 mtu 1400 address 02:42:0a:00:00:01 type bridge stp_state 0 vlan_filtering 1
ip link add name v9 mtu 1400 type veth peer name p9 mtu 1400 address 02:42:0a:00:00:02
ip link add name x9 type vxlan id 256 local 10.0.0.1 dstport 4789 learning proxy l2miss l3miss
ip link add name x6 type vxlan id 257 local fd00::1 dstport 4789
ip link add name m9 link lan type macvlan mode bridge
ip link add name i9 link lan type ipvlan mode l3
ip link add name d9 type dummy
ip link set dev lan alias dnet:1:2
ip link set dev lan up
ip link set dev va master lan
bridge link set dev va hairpin on
ip link set dev va nomaster
ip link delete dev vb
ip address add 10.9.0.1/24 broadcast + dev lan
ip address add fd00:9::1/64 dev lan nodad
ip address delete 10.9.0.1/24 dev lan
ip route add default via 10.0.0.9 dev lan proto 215
ip route add 10.7.0.0/16 via 10.0.0.9 dev lan metric 5 src 10.0.0.1 proto 215
ip -6 route add fd00:7::/64 dev lan proto 215
ip route add 10.8.0.0/16 dev lan scope link proto 215
ip rule add priority 100 from 10.0.0.0/24 to 10.9.0.0/16 table 300 protocol 215
ip rule add priority 101 from 10.0.0.0/24 table 200 protocol 215
ip neighbor replace 10.0.0.7 lladdr 02:42:0a:00:00:07 nud permanent dev lan
ip -6 neighbor replace fd00::7 lladdr 02:42:0a:00:00:07 nud permanent dev lan
bridge fdb replace 02:42:0a:00:00:07 dev vx dst 172.17.0.3 self permanent
bridge fdb append 00:00:00:00:00:00 dev vx dst 172.17.0.3 self permanent
COMMANDS
printf '\n]\n' >> test/golden/netlink.json
