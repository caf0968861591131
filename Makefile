# Everything that a newcomer and CI need. `make demo` and `make test` make their own virtual environment.
PYTHON ?= python3
BIN := .venv/bin
# two per core: many tests wait for processes, and few compute
JOBS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))

.DEFAULT_GOAL := help
.PHONY: help demo test lint types contracts unit faults test-kubernetes conformance bench format docs clean

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Whimbrel needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@echo "installing whimbrel and its tools into .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: .venv/installed ## train a classifier on two nodes of an embedded Kubernetes
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/digits/demo.sh

test: lint types contracts unit ## everything that CI checks

lint: .venv/installed ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed ## mypy strict
	$(BIN)/mypy

contracts: .venv/installed ## the arrows of the house point down only
	$(BIN)/lint-imports

unit: .venv/installed ## the tests, in parallel
	$(BIN)/pytest -q -n $(JOBS) -m 'not slow'

faults: .venv/installed ## every command on every fault of a Kubernetes context (`unit` has the core of it)
	$(BIN)/pytest -q -n $(JOBS) tests/faults

test-kubernetes: .venv/installed ## the Kubernetes path on a cluster of yours: make test-kubernetes CONTEXT=name
	@test -n "$(CONTEXT)" || { echo "name a context: make test-kubernetes CONTEXT=name" >&2; exit 2; }
	WHIMBREL_TEST_CONTEXT="$(CONTEXT)" $(BIN)/pytest -q tests/anycluster

conformance: .venv/installed ## kubesim against answers of a real Kubernetes (skips without the kit)
	$(BIN)/python tests/kubesim/conformance/run.py

bench: .venv/installed ## medians of what users wait for, with the machine's load
	$(BIN)/python benchmarks/run.py

format: .venv/installed ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed ## write the generated pages of docs/reference again
	$(BIN)/python scripts/build_reference.py

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
