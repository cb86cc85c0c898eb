# Everything a person or CI calls. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV := $(shell command -v uv || echo .tools/bin/uv)
BIN := .venv/bin
LOCKS := requirements/run.txt requirements/dev.txt

.PHONY: help setup demo test test-long crash cluster-test bench check format docs lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.tools/bin/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("wanbatch needs Python 3.11 or later; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.ready: $(filter .tools/%,$(UV)) requirements/dev.txt pyproject.toml
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

setup: .venv/.ready ## fill .venv from the hashed lock

demo: setup ## the main job on the embedded emulator: no key, no network
	$(BIN)/wanbatch demo

test: setup ## the suite, but for what takes minutes
	$(BIN)/pytest -n 2 --dist loadgroup -m "not long"

test-long: setup ## death at every step, the documentation as it is shown, secrets, servers that die, deployments
	$(BIN)/pytest -n 2 --dist loadgroup -m long

N ?= 200
crash: setup ## N drawn stories of kills and faults: make crash N=200
	CRASH_SEEDS=$(N) $(BIN)/pytest tests/crash/test_crash.py -q -n 2

ONLY ?=
JSON ?=
bench: setup ## the measures beside the peers': make bench ONLY=M4,M5 JSON=bench.json
	$(BIN)/python -m tests.bench --only '$(ONLY)' $(if $(JSON),--json '$(JSON)')

ROWS ?= 2000
cluster-test: setup ## a cluster on this machine, one of whose workers dies: make cluster-test ROWS=2000
	$(BIN)/python -m tests.cluster $(ROWS)

check: setup ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup ## let the formatter and the safe fixes loose
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## write the reference pages from the code
	$(BIN)/python -m wanbatch.cli.reference

lock: $(filter .tools/%,$(UV)) ## resolve the locks anew
	$(UV) pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11 pyproject.toml --all-extras -o requirements/run.txt
	$(UV) pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11 pyproject.toml --all-extras --group test --group check --group build -o requirements/dev.txt
	echo uv | $(UV) pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11 - -o requirements/uv.txt

clean: ## forget what was built
	rm -rf .venv .tools dist build wanbatch-demo
