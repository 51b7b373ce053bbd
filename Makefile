# `make` lists the targets. All that is said goes to standard error, but for what the programs that are run
# (the tests, the demo) have to say themselves.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install build package lint test test-full demo bench bench-guard chaos clean
# The demo's last line is to be the last. (For `make -C`, make heeds this from 4.4 on.)
MAKEFLAGS += --no-print-directory

# For `make demo DEMO_ARGS='--pair mysql:mariadb --keep'`.
DEMO_ARGS ?=
BENCH_ARGS ?=
# For `make chaos`: how many schedules of each shape the simulation tries (1000: more than 100,000 in all), how often the
# end-to-end tests kill.
SCHEDULES ?= 1000
KILLS ?= 50

# The build's place is part of what is promised, whatever CARGO_TARGET_DIR says.
PONTOON := target/release/pontoon

# Runs the tests: doc tests first, so that the last lines are the summary of the others (one crate has some: the others say `doctest = false`,
# and to look for them would build each alone). $(1) is put before the
# arguments of nextest and $(2) before those of the test binaries, where there is no nextest.
define run_tests
	@cargo test -p pontoon-servers --locked --doc --quiet </dev/null
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked $(1) </dev/null; \
	else \
		cargo test --workspace --locked --lib --bins --tests --no-fail-fast -- --test-threads=3 $(2) </dev/null; \
	fi
endef

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: ## Install what is missing: database servers, a C compiler, a browser; starting no service
	@scripts/install-servers

build: ## Build the release binary, target/release/pontoon
	@cargo build --release --locked --target-dir target >&2

package: ## Build the Debian package of a release build, in target/shipped
	@scripts/install-servers package
	@scripts/build-package

lint: ## Check format, lints, documentation, and the licences of the dependencies
	@cargo fmt --all --check >&2
	@cargo clippy --workspace --all-targets --locked -- -D warnings >&2
	@cargo fmt --manifest-path fuzz/Cargo.toml --check >&2
	@cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target --no-default-features --locked -- -D warnings >&2
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked >&2
	@scripts/check-licences
	@deploy/kubernetes/components/monitoring/mirror-rules --check

# What is built once is built in less time so.
test test-full: export CARGO_INCREMENTAL ?= 0

test: install ## Run the tests: unit, simulation, end to end on real servers
	$(call run_tests,,)

# What takes minutes is marked `#[ignore = "full: ..."]`.
test-full: export PONTOON_SIM_SCHEDULES ?= 400
test-full: export PONTOON_KILLS ?= 20
# Some of these take a core and more each, and some the time.
test-full: export NEXTEST_TEST_THREADS ?= 2
test-full: install ## The same, and the tests that take longer, and those on newer servers
	@scripts/install-servers newer
	@scripts/install-servers package
	@$(MAKE) bench-guard
	$(call run_tests,--run-ignored all,--include-ignored)

demo: install build ## Show two private servers bridged both ways (DEMO_ARGS='--pair mysql:mariadb')
	@exec $(PONTOON) demo $(DEMO_ARGS)

bench: ## Measure beside the peers, in one run (BENCH_ARGS='--quick "copy mariadb"')
	@scripts/install-servers peers
	@cargo bench --locked -p pontoon --bench bench -- $(BENCH_ARGS)

bench-guard: ## Count the instructions that a row costs, and compare them with what is stored
	@scripts/install-servers guard
	@scripts/bench-guard

chaos: export PONTOON_SIM_SCHEDULES = $(SCHEDULES)
chaos: export PONTOON_KILLS = $(KILLS)
chaos: install ## More schedules in the simulation, more faults on real servers (SCHEDULES=, KILLS=)
	@cargo test -p pontoon --locked --release --no-fail-fast --test simulation -- --include-ignored --test-threads=2 </dev/null
	@cargo test -p pontoon-e2e --locked --release --no-fail-fast --test e2e -- --include-ignored --test-threads=2 \
		chaos:: call_sites:: standby:: links:: servers_fail:: other_logs ties::under_kills trees:: </dev/null

clean: ## Remove what was built
	@cargo clean >&2
	@cargo clean --target-dir target >&2
