# The project's commands; each does its own set-up. `make` without a target lists them.
SHELL := /bin/bash
ARCH  := $(shell uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')
NODE  := $(CURDIR)/node_modules/node-linux-$(ARCH)/bin/node
BIN   := node_modules/.bin
RUN   := PATH="$(dir $(NODE)):$$PATH"
STAMP := node_modules/.installed

.PHONY: help build check check-types check-lint check-unit test faults chaos kills soak restart fuzz demo demo-single bench setup packages test-packages clean
help:
	@echo "make build    compile ./bin/dnet"
	@echo "make demo     two hosts with a store, an overlay network across them, ping (as root; under 30 s after the install)"
	@echo "make demo-single  two sandboxes on a bridge network of one host"
	@echo "make check    types, lint and unit tests (under 15 s, no root needed)"
	@echo "make test     everything, as root, on real kernel objects"
	@echo "make faults   every operation failing and dying at every point of stores, kernel and files (as root; OF='service attach')"
	@echo "make chaos    10 minutes of random operations on three nodes that break (as root; SECONDS=60 STORE=etcd SEED=1)"
	@echo "make fuzz     10 minutes of hostile input to everything that takes some (SECONDS=60 SEED=1 TARGET=rest RUN_PATH=3:1)"
	@echo "make kills    1,000 SIGKILLs of daemons on three nodes under load (as root; KILLS=100 STORE=consul SEED=1)"
	@echo "make soak     an hour of churn with restarts of a real etcd, after which all is as before (as root; SECONDS=900)"
	@echo "make restart  400 sandboxes with 800 ports across TERM and KILL of the daemon (as root; SANDBOXES=40)"
	@echo "make bench    measures against the kernel's own floor, in the same run (as root)"
	@echo "make clean    remove what was built and installed here"

$(STAMP): package.json package-lock.json
	@echo "installing npm packages ..."
	@npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $(STAMP)

setup: $(STAMP)

packages:
	@scripts/packages.sh
	@scripts/consul.sh || true

# For tests beside a real Docker; nothing else needs it.
test-packages: packages
	@scripts/packages.sh dockerd:docker.io busybox:busybox-static

build: setup
	@$(RUN) node scripts/build.ts

# Side by side, the output of each in one piece.
check: setup
	@QUICK=1 $(MAKE) --no-print-directory --jobs=3 --output-sync=target check-unit check-types check-lint

check-types:
	@$(RUN) $(BIN)/tsc -p . --incremental --tsBuildInfoFile .cache/tsc.tsbuildinfo

check-lint:
	@$(RUN) $(BIN)/biome check --error-on-warnings .
	@$(RUN) node scripts/lint-imports.ts
	@$(RUN) node scripts/errors-doc.ts --check
	@$(RUN) node scripts/firewall-doc.ts --check
	@$(RUN) node scripts/named-tests.ts docs/complaints.md docs/advisories.md

check-unit:
	@$(RUN) env NODE_COMPILE_CACHE=.cache/compiled $(BIN)/vitest run --project unit

test: setup
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target check-unit check-types check-lint
	@$(MAKE) --no-print-directory test-packages build
	@$(RUN) $(BIN)/vitest run --project root --maxWorkers=3

faults: build packages
	@$(RUN) FAULTS=all FAULTS_OF="$(OF)" $(BIN)/vitest run --project root --maxWorkers=2 test/faults/bridge.test.ts test/faults/overlay.test.ts

chaos: build packages
	@$(RUN) scripts/chaos.sh test/chaos/main.ts --seconds "$(or $(SECONDS),600)" $(if $(STORE),--store "$(STORE)") $(if $(SEED),--seed "$(SEED)")

kills: build packages
	@$(RUN) scripts/chaos.sh test/chaos/kills-main.ts --kills "$(or $(KILLS),1000)" $(if $(STORE),--store "$(STORE)") $(if $(SEED),--seed "$(SEED)")

soak: build packages
	@$(RUN) env SOAK_SECONDS="$(or $(SECONDS),3600)" $(BIN)/vitest run --project root test/endurance/soak.test.ts

restart: build packages
	@$(RUN) env SANDBOXES="$(or $(SANDBOXES),400)" $(BIN)/vitest run --project root test/endurance/live-restart.test.ts

fuzz: setup
	@$(RUN) node test/fuzz/main.ts --seconds "$(or $(SECONDS),600)" $(if $(SEED),--seed "$(SEED)") $(if $(TARGET),--target "$(TARGET)") $(if $(RUN_PATH),--path "$(RUN_PATH)")

demo: build packages
	@scripts/demo-overlay.sh

demo-single: build packages
	@scripts/demo.sh

bench: build
	@scripts/packages.sh dnsperf:dnsperf
	@$(RUN) node bench/main.ts
	@scripts/packages.sh && (scripts/consul.sh || true)
	@$(RUN) node bench/cluster.ts

clean:
	rm -rf dist node_modules coverage .cache
