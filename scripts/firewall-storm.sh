#!/usr/bin/env bash
# The long form of test/e2e/firewall-storm.test.ts: 100 networks, 400 endpoints, a flush of all rules every second for a minute (as root).
set -euo pipefail
cd "$(dirname "$0")/.."
node=$(echo "$PWD"/node_modules/node-linux-*/bin)
export PATH="$node:$PATH"
export DNET_STORM_NETWORKS=${1:-100} DNET_STORM_ENDPOINTS=${2:-400} DNET_STORM_FLUSHES=${3:-60} DNET_STORM_INTERVAL=${4:-1000}
exec node_modules/.bin/vitest run --project root test/e2e/firewall-storm.test.ts
