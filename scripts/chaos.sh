#!/usr/bin/env bash
# Runs a program of the tests in network and mount namespaces of its own (as root): chaos.sh FILE ARGUMENTS
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "this needs root: it makes namespaces" >&2; exit 1; }
exec unshare --net --mount --propagation private sh -ec '
  mount -t tmpfs none /run
  mkdir -p /var/lib/docker /etc/docker
  ip link set lo up
  exec node "$@"' chaos "$@"
