# The project's commands. `make` lists them; `make test` is everything a change must pass.
#
# The steps of `make test` run one after another, cheap ones first, and the first failure ends the run.
# All that compile the workspace pass the same --workspace --all-features, so that a dependency is
# checked once and built once, whichever step comes first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Seeds of a simulation, and the first of them.
SEEDS ?= 2000
FROM ?= 0

# How often a worker process is killed by `make kill`.
KILLS ?= 200

# How long `make fuzz` goes on with each property.
SECONDS ?= 60

# How long `make soak` goes on.
MINUTES ?= 10

# How many clients start how many instances over HTTP in `make load`.
CLIENTS ?= 200
INSTANCES ?= 20000

# The crates for the registry, in the order they depend on each other.
PUBLISHED := durable-machine durable-core-macros durable-core

# On CI the lock file must be right as committed, and one run names every failing test.
LOCKED := $(if $(CI),--locked)
NEXTEST_FLAGS := $(if $(CI),--no-fail-fast)

WORKSPACE := --workspace --all-features $(LOCKED)
STEP := @bash .ci/step

# Tools live below the target folder: nothing is installed globally, `cargo clean` removes them too.
TOOLS := $(or $(CARGO_TARGET_DIR),target)/tools
DENY_VERSION := 0.20.2
DENY_ROOT := $(TOOLS)/cargo-deny-$(DENY_VERSION)
DENY := $(DENY_ROOT)/bin/cargo-deny

# Azurite, for the tests that need Azure Storage. The stamp says that this very lock file is installed.
EMULATOR := durable-azure/emulator
EMULATOR_STAMP := $(EMULATOR)/node_modules/.installed

# Microsoft's client libraries, which drive the server of the examples. One stamp for each language.
LIBRARIES := examples/tests/clients
LIBRARY_NODE := $(LIBRARIES)/node_modules/.installed
LIBRARY_PYTHON := $(LIBRARIES)/.venv/.installed

.PHONY: help test fmt fmt-check lint doc deny emulator clients unit doctest package simulate kill fuzz soak load tools clean-tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

test: fmt-check deny lint doc doctest emulator clients unit package simulate ## Everything a change must pass: fmt-check, deny, lint, doc, doctest, emulator, clients, unit, package, simulate

fmt: ## Format the sources
	$(STEP) "Format" cargo fmt --all

fmt-check: ## Check that the sources are formatted
	$(STEP) "Formatting" cargo fmt --all --check

# `cargo tree --invert CRATE` says who needs a crate that this names.
deny: $(DENY) ## Check dependencies: banned crates, licences, sources (not advisories)
	$(STEP) "Dependencies" $(DENY) --workspace --all-features $(LOCKED) check \
		--hide-inclusion-graph bans licenses sources

lint: ## Clippy on all targets and features, warnings are errors
	$(STEP) "Lints" cargo clippy $(WORKSPACE) --all-targets -- -D warnings

doc: ## Build the documentation, warnings are errors
	$(STEP) "Documentation" env RUSTDOCFLAGS="-D warnings" cargo doc $(WORKSPACE) --no-deps

doctest: ## Run the examples in the documentation
	$(STEP) "Documentation examples" cargo test $(WORKSPACE) --doc

emulator: $(EMULATOR_STAMP) ## Install the storage emulator that tests run against

$(EMULATOR_STAMP): $(addprefix $(EMULATOR)/,package.json package-lock.json .npmrc)
	$(STEP) "Storage emulator" npm ci --prefix $(EMULATOR)
	@touch $@

clients: $(LIBRARY_NODE) $(LIBRARY_PYTHON) ## Install the client libraries that drive the HTTP server in tests

$(LIBRARY_NODE): $(addprefix $(LIBRARIES)/,package.json package-lock.json .npmrc)
	$(STEP) "Client library for JavaScript" npm ci --prefix $(LIBRARIES)
	@touch $@

$(LIBRARY_PYTHON): $(LIBRARIES)/requirements.txt
	@python3 -m venv --clear $(LIBRARIES)/.venv
	$(STEP) "Client library for Python" $(LIBRARIES)/.venv/bin/pip install --quiet --no-deps \
		--disable-pip-version-check --requirement $<
	@$(LIBRARIES)/.venv/bin/pip check --disable-pip-version-check
	@touch $@

unit: emulator clients ## Run all tests
	$(STEP) "Tests" cargo nextest run $(WORKSPACE) $(NEXTEST_FLAGS)

# Cargo packages and compiles the crates together, so that they may depend on each other before any of
# them is published. Compiling costs about half a minute and finds what no other step can: in the
# workspace a crate also gets the features that other members ask for, in its package only its own.
# Cargo takes a version for the same for ever: what it unpacked and compiled of an earlier call goes first.
UNPACKED := $(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src

package: ## Pack the crates for the registry and compile each from its package
	@rm -rf $(foreach crate,$(PUBLISHED),$(UNPACKED)/-*/$(crate)-[0-9]*)
	@cargo clean --quiet $(addprefix -p ,$(PUBLISHED))
	$(STEP) "Packages" cargo package --allow-dirty $(LOCKED) $(addprefix -p ,$(PUBLISHED))

simulate: ## Run the seeded simulation: make simulate SEEDS=n [FROM=k]
	$(STEP) "Simulation of $(SEEDS) seeds from $(FROM)" \
		cargo run $(LOCKED) --profile simulate -p durable-machine --features sim --bin simulate -- \
		--seeds $(SEEDS) --from $(FROM)

kill: ## Kill a worker process again and again: make kill [KILLS=n]
	$(STEP) "$(KILLS) kills" env DURABLE_KILLS=$(KILLS) \
		cargo test $(LOCKED) -p durable-core --all-features --test all kill:: -- --nocapture

fuzz: ## Random requests and texts for the HTTP interface: make fuzz [SECONDS=n] [DURABLE_SEED=k]
	$(STEP) "Random requests, $(SECONDS) s for each property" env DURABLE_FUZZ_SECONDS=$(SECONDS) \
		cargo test $(LOCKED) -p durable-core --all-features --lib --test all fuzz:: -- --nocapture

soak: emulator ## Kill and stop workers on a misbehaving Azure hub, run after run: make soak [MINUTES=n] [DURABLE_SEED=k]
	$(STEP) "Chaos for $(MINUTES) minutes" env DURABLE_CHAOS_MINUTES=$(MINUTES) \
		cargo test --release $(LOCKED) -p durable-azure --all-features --test all \
		chaos::workers -- --nocapture

load: ## Start and poll instances over HTTP: make load [CLIENTS=n] [INSTANCES=n]
	$(STEP) "$(INSTANCES) instances by $(CLIENTS) clients" \
		env DURABLE_HTTP_LOAD=$(CLIENTS)x$(INSTANCES) cargo test --release $(LOCKED) \
		-p durable-examples --all-features --test all http_load:: -- --nocapture

tools: $(DENY) ## Install the tools that `make test` needs and a Rust toolchain lacks

$(DENY):
	$(STEP) "cargo-deny $(DENY_VERSION)" bash .ci/install-cargo-deny $(DENY_VERSION) $(DENY_ROOT)

clean-tools: ## Remove the installed tools
	rm -rf $(TOOLS)
