# The project's commands; each does its own set-up. `make` without a target lists them.
SHELL := /bin/bash
ARCH  := $(shell uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')
NODE  := $(CURDIR)/node_modules/node-linux-$(ARCH)/bin/node
BIN   := node_modules/.bin
RUN   := PATH="$(dir $(NODE)):$$PATH"
STAMP := node_modules/.installed

.PHONY: help build check test setup packages clean
help:
	@echo "make build    compile ./bin/dnet"
	@echo "make check    types, lint and unit tests (under 15 s, no root needed)"
	@echo "make test     everything, as root, on real kernel objects"
	@echo "make clean    remove what was built and installed here"

$(STAMP): package.json package-lock.json
	@echo "installing npm packages ..."
	@npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $(STAMP)

setup: $(STAMP)

packages:
	@scripts/packages.sh

check: setup
	@$(RUN) $(BIN)/tsc -p .
	@$(RUN) $(BIN)/biome check --error-on-warnings .
	@$(RUN) node scripts/lint-imports.ts
	@$(RUN) $(BIN)/vitest run --project unit

test: check packages
	@$(RUN) $(BIN)/vitest run --project root

clean:
	rm -rf dist node_modules coverage .cache
