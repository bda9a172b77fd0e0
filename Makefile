# Everything that is done with this repository. `make` lists it.
# Needs cargo (rustup takes the toolchain of rust-toolchain.toml), a C linker and coreutils;
# `make setup` installs what the cluster tests use besides.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help build test lint fmt doc deny sim model fuzz crash hammer planted bench bench-scan test-cluster demo stop check ci clean setup

# Nodes of `make demo` and `make test-cluster`.
N ?= 3
# Seeds of the simulator, and steps of each; or one seed, to be told step by step.
SEEDS ?= 1000
STEPS ?= 20000
SEED ?=
# Seeds of the simulated folder; or one of them, to be told step by step.
FOLDERS ?= 200
FOLDER ?=
# States that the model checker looks at in each of its worlds.
STATES ?= 5000000
# For each gate that takes bytes from outside.
FUZZ_SECONDS ?= 30
# Cluster tests that run at the same time; a filter for their names.
JOBS ?= 2
T ?=
# How long the hammer's writers work.
MINUTES ?= 5
# netns: those tests too whose nodes are on hosts of their own; root.
HOSTS ?=

BIN = $(or $(CARGO_TARGET_DIR),target)/release

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sort | sed -E 's/:.*## /\t/' | expand -t 16

build: ## pickboxd and pickbox, optimised, in target/release
	cargo build --release -p pickbox-cli

demo: build ## three nodes in ./data: files made on each appear on all
	scripts/demo $(BIN) $(N)

stop: ## end the nodes of `make demo`
	$(BIN)/pickbox cluster stop

test: sim ## unit and property tests, and the simulator
	cargo test --workspace

sim: ## the simulator alone: SEEDS=1000 STEPS=20000; SEED=1234 or FOLDER=219 tells one seed
	$(if $(SEED),SIM_SEED=$(SEED)) SIM_SEEDS=$(SEEDS) SIM_STEPS=$(STEPS) \
	  cargo test --profile sim -p pickbox-tests --test sim -- --nocapture $(if $(SEED),no_seed)
	$(if $(SEED),true,$(if $(FOLDER),FOLDER_SEED=$(FOLDER)) FOLDER_SEEDS=$(FOLDERS) \
	  cargo test --profile sim -p pickbox-tests --test folders -- --nocapture)

model: ## the model checker on the real core: STATES=5000000 of each world
	MODEL_STATES=$(STATES) \
	  cargo test --profile sim -p pickbox-tests --test model -- --nocapture --test-threads=1

fuzz: ## any bytes for each gate to the outside: FUZZ_SECONDS=30; with cargo-fuzz if it is there
	tests/fuzz/run $(FUZZ_SECONDS)

test-cluster: build ## real daemons: N=3, T=part-of-a-name, HOSTS=netns; more in docs/testing.md
	PICKBOXD=$(abspath $(BIN)/pickboxd) PICKBOX=$(abspath $(BIN)/pickbox) NODES=$(N) HOSTS=$(HOSTS) \
	  cargo test -p pickbox-tests --test cluster -- --ignored --test-threads=$(JOBS) $(T)

hammer: build ## programs on every node while daemons die: MINUTES=5 NODES=3 SEED=1; root: networks too
	PICKBOXD=$(abspath $(BIN)/pickboxd) PICKBOX=$(abspath $(BIN)/pickbox) MINUTES=$(MINUTES) \
	  NODES=$(or $(NODES),$(N)) SEED=$(or $(SEED),1) \
	  HOSTS=$(or $(HOSTS),$(if $(filter 0,$(shell id -u)),netns)) \
	  cargo run -q -p pickbox-tests --bin hammer

crash: ## the log under power cuts and kills: CUTS=30, FS="ext4 xfs"; needs root
	cargo test -p pickbox-tests --test powercut -- --ignored --nocapture --test-threads=1

planted: ## known bugs, one at a time in a copy: the simulator or the tests must find each
	tests/planted/run

bench: build ## figures beside the floor of this disk; takes some minutes
	PICKBOXD=$(abspath $(BIN)/pickboxd) cargo run --release -p pickbox-tests --bin bench

bench-scan: build ## the start over a million files: FILES=1000000 DIRS=100000; needs 5 GB and a quarter of an hour
	PICKBOXD=$(abspath $(BIN)/pickboxd) cargo run --release -p pickbox-tests --bin bench -- scan

lint: ## clippy, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## format all code
	cargo fmt --all

doc: ## the documentation of all crates, in target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny: ## no crate that deny.toml does not allow: bans, licences, sources
	scripts/deny

check: lint doc test ## what must pass before a commit
	cargo fmt --all --check
	scripts/checklist --check

ci: ## what the continuous integration runs
	.ci/run

setup: ## install the programs that the cluster tests use (Debian, as root)
	scripts/setup

clean: ## remove what was built; `pickbox cluster clean` removes the demo's data
	cargo clean
