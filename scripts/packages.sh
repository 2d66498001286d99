#!/usr/bin/env bash
# Installs the Debian packages that the tests and the demo use, and those of the pairs `program:package` given, where they are missing.
# Nothing that they bring is started: only their programs are wanted.
set -euo pipefail
need=()
for pair in ip:iproute2 nft:nftables ping:iputils-ping conntrack:conntrack dig:dnsutils etcd:etcd-server etcdctl:etcd-client serf:serf iperf3:iperf3 openssl:openssl "$@"; do
  # Some programs are where only root's PATH leads.
  PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || need+=("${pair##*:}")
done
[ ${#need[@]} -eq 0 ] && exit 0
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if sudo -n true 2>/dev/null; then as_root=(sudo -n); else
    echo "These Debian packages are missing: ${need[*]}. Install them (apt-get install ${need[*]}) and run this again." >&2
    exit 1
  fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "These programs' Debian packages are missing: ${need[*]}. Install your distribution's equivalents and run this again." >&2
  exit 1
fi
echo "installing Debian packages: ${need[*]} ..."
export DEBIAN_FRONTEND=noninteractive

# Units of the packages, by package: those that the machine has already are its own, and stay as they are.
units=()
for package in etcd-server:etcd.service serf:serf.service docker.io:docker.service docker.io:docker.socket docker.io:containerd.service; do
  unit=${package##*:}
  case " ${need[*]} " in *" ${package%%:*} "*) ;; *) continue ;; esac
  [ -e "/lib/systemd/system/$unit" ] || [ -e "/etc/systemd/system/$unit" ] || units+=("$unit")
done
# The way to tell maintainers' scripts that nothing is to be started (invoke-rc.d(8)): a Docker that starts changes the host's rules.
policy=/usr/sbin/policy-rc.d
made=
log=
trap '[ -z "$log" ] || rm -f "$log"; [ -z "$made" ] || "${as_root[@]}" rm -f "$policy"' EXIT
if [ ! -e "$policy" ]; then
  made=yes
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi
# Another program that installs is waited for. What apt says matters only where it fails.
log=$(mktemp)
apt=("${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120)
if ! { "${apt[@]}" update -qq && "${apt[@]}" install -y -qq --no-install-recommends "${need[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
# Nor after the next boot.
for unit in "${units[@]}"; do
  ! command -v systemctl >/dev/null 2>&1 || "${as_root[@]}" systemctl disable -q --now "$unit" 2>/dev/null || true
done
