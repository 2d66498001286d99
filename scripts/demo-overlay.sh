#!/usr/bin/env bash
# The walk-through's section 1.4 on a lab of two hosts: hosts, LAN and store are namespaces, this machine's network stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || { echo "the demo makes network namespaces: run it as root, or with sudo" >&2; exit 1; }
  exec sudo -n "$0"
fi
store=consul
if command -v etcd >/dev/null && command -v etcdctl >/dev/null; then store=etcd; fi
exec examples/walkthrough.sh "$store" overlay
