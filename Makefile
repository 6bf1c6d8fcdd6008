# Every target does all its own set-up, in the checkout (.venv, .venv-demo) or, for big things, in $(TOOLS), keyed by version.
# Work that is done is skipped. Nothing is installed globally, except system packages by `make tools` when root.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

TOOLS ?= $(or $(SOFA_TOOLS),$(HOME)/.cache/sofa-tools)
ROOMS := core exporters processors apoml_controller dashboards cli
DEMO_STEPS ?= 400
DEMO_SECONDS ?= 60

# The newest Python >= 3.11 on PATH that can make environments; PYTHON=… overrides.
PYTHON ?= $(shell bash tools/find-python)
# The demo's trainer: the newest Python there is, also one that is not on PATH.
TRAINER_PYTHON ?= $(shell bash tools/find-python trainer)
BIN := .venv/bin
DEMO_PYTHON := .venv-demo/bin/python
TORCH_TAG := $(shell sed -n 's/^torch==//p' examples/requirements-torch.txt)-py$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
TORCH_ENV := $(TOOLS)/torch-$(TORCH_TAG)
WEB := dashboards/sofa_otel/dashboards/report/web
TEST_ENVIRONMENT = SOFA_DEMO_PYTHON=$(CURDIR)/$(DEMO_PYTHON) SOFA_TORCH_PYTHON=$(TORCH_ENV)/bin/python

.PHONY: help install demo test lint bench e2e e2e-full campaign tools docs lock dev clean

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*##\(.*\)/  make \1\t\2/p' Makefile | expand -t 20

# -- environments --------------------------------------------------------------------------------------------------------------
.venv/.python:
	@if [ -z "$(PYTHON)" ]; then
	  echo "no Python >= 3.11 with venv on PATH: install one, or say make PYTHON=/path/to/python3.12" >&2
	  exit 3
	fi
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	touch $@

# uv is ten times faster than pip; where it cannot reach the index that pip is configured for, pip does it.
.venv/.run: .venv/.python requirements.lock pyproject.toml
	@$(BIN)/python tools/sync.py $(BIN)/python requirements.lock
	$(BIN)/python tools/sync.py $(BIN)/python --editable .
	touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	@$(BIN)/python tools/sync.py $(BIN)/python requirements-dev.lock
	touch $@

.venv-demo/.done: examples/requirements-demo.txt | .venv/.python
	@$(TRAINER_PYTHON) -m venv --without-pip .venv-demo
	$(BIN)/python tools/sync.py $(DEMO_PYTHON) --loose examples/requirements-demo.txt
	touch $@

# Keyed by version, not by age: any checkout may use what another one has made.
$(TORCH_ENV)/.done: | .venv/.python
	@mkdir -p $(TOOLS)
	$(PYTHON) -m venv --without-pip $(TORCH_ENV)
	echo "installing torch into $(TORCH_ENV) (once, some minutes)"
	$(BIN)/python tools/sync.py $(TORCH_ENV)/bin/python --loose examples/requirements-torch.txt
	touch $@

install: .venv/.run  ## our package and what `sofa run` needs, in .venv
	@echo "$(CURDIR)/$(BIN)/sofa"

dev: .venv/.dev

# -- use -----------------------------------------------------------------------------------------------------------------------
demo: .venv/.run .venv-demo/.done  ## profile a real training run, and say what limits it
	@$(BIN)/sofa run -o sofa-runs/demo-$$(date +%H%M%S) -- $(DEMO_PYTHON) examples/train_digits.py --steps $(DEMO_STEPS) --seconds $(DEMO_SECONDS)

# -- proof ---------------------------------------------------------------------------------------------------------------------
lint: .venv/.dev  ## ruff, mypy, import contract, no registry host
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(ROOMS)
	$(BIN)/lint-imports
	$(BIN)/python tools/check_hosts.py

test: .venv/.dev .venv-demo/.done $(TORCH_ENV)/.done  ## everything but e2e
	@$(TEST_ENVIRONMENT) $(BIN)/pytest --timeout 600 -m "not e2e" $(PYTEST_ARGS)

e2e: .venv/.dev .venv-demo/.done $(TORCH_ENV)/.done tools  ## real training processes and a browser
	@$(TEST_ENVIRONMENT) $(BIN)/pytest --timeout 600 -m "e2e and not matrix" $(PYTEST_ARGS)

e2e-full: .venv/.dev .venv-demo/.done $(TORCH_ENV)/.done tools  ## also what takes too long for CI
	@$(TEST_ENVIRONMENT) $(BIN)/pytest --timeout 600 -m e2e $(PYTEST_ARGS)

bench: .venv/.dev .venv-demo/.done $(TORCH_ENV)/.done  ## the figures of docs/results, short form
	@export $(TEST_ENVIRONMENT)
	$(BIN)/python benchmarks/live_iterations.py --short
	$(BIN)/python benchmarks/findings.py --runs 1
	$(BIN)/python benchmarks/step_cost.py --pairs 10
	$(BIN)/python benchmarks/agent_memory.py

campaign: .venv/.dev .venv-demo/.done $(TORCH_ENV)/.done tools  ## the long form, results to docs/results
	@export $(TEST_ENVIRONMENT)
	mkdir -p docs/results
	$(BIN)/python benchmarks/live_iterations.py --json docs/results/live-iterations.json
	$(BIN)/python benchmarks/findings.py --runs 5 --json docs/results/findings.json
	$(BIN)/python benchmarks/step_cost.py --pairs 200 --json docs/results/step-cost.json
	$(BIN)/python benchmarks/agent_memory.py --json docs/results/agent-memory.json

# -- keeping -------------------------------------------------------------------------------------------------------------------
tools: $(WEB)/node_modules/.done  ## external tools that the tests need
	@bash tools/system-packages

# Sources of the page's charts and the accessibility checker; without npm the tests that need them are skipped, and say so.
$(WEB)/node_modules/.done: $(WEB)/package-lock.json
	@if command -v npm > /dev/null && (cd $(WEB) && npm ci --no-audit --no-fund --loglevel=error); then touch $@; \
	else echo "npm ci did not work in $(WEB): tests of the bundle and of accessibility will be skipped"; fi

docs: .venv/.dev  ## check that the documents' links and commands hold
	@$(BIN)/python tools/check_docs.py

lock: .venv/.dev  ## compile the lock files anew
	@compile() { $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q "$$@"; }
	printf 'uv\n' | compile - -o requirements-bootstrap.lock
	printf 'hatchling\neditables\n' | compile pyproject.toml - --extra run -o requirements.lock
	compile pyproject.toml --extra run --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf .venv .venv-demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
