#!/usr/bin/env bash
# Installs the Debian packages that the tests and the demo use, and those of the pairs `program:package` given, where they are missing.
set -euo pipefail
need=()
for pair in ip:iproute2 nft:nftables ping:iputils-ping conntrack:conntrack dig:dnsutils etcd:etcd-server etcdctl:etcd-client serf:serf iperf3:iperf3 openssl:openssl "$@"; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || need+=("${pair##*:}")
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
# Another program that installs is waited for.
"${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update -qq
"${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${need[@]}" >/dev/null
# These packages start a server of their own; only their programs are wanted.
for pair in etcd-server:etcd serf:serf; do
  case " ${need[*]} " in *" ${pair%%:*} "*) ;; *) continue ;; esac
  ! command -v systemctl >/dev/null 2>&1 || "${as_root[@]}" systemctl disable -q --now "${pair##*:}.service" 2>/dev/null || true
done
