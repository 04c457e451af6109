# RiseML's tasks. `make` lists them. CI runs exactly these (.ci/run).
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
SHIM := noded/shim/riseml-shim
# Which Python makes the environment: `make venv PYTHON=python3.12`. Left out: the newest that is 3.11 or newer.
PYTHON ?= $(shell sh dev/find-python)
# More words for pytest: `make test ARGS="-k gang -x"`.
ARGS ?=

.PHONY: help
help: ## List these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# ---- set up ---------------------------------------------------------------------------------------------------------
.PHONY: venv
venv: $(STAMP) $(SHIM) ## Make .venv from the lock and install RiseML into it, editable

$(STAMP): requirements/dev.lock pyproject.toml hatch_build.py
	@sh dev/make-venv $(VENV) $(PYTHON)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: shim
shim: $(SHIM) ## Compile the C shim that supervises jobs

$(SHIM): $(wildcard noded/shim/*.c noded/shim/*.h) hatch_build.py | $(STAMP)
	$(BIN)/python hatch_build.py

.PHONY: lock
lock: ## Resolve the locks anew from pyproject.toml (needs uv)
	@command -v uv > /dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(LOCK) --extra dev -o requirements/dev.lock pyproject.toml
	$(LOCK) --extra all --extra kubernetes --extra postgres -c requirements/dev.lock -o requirements/run.lock pyproject.toml
	echo hatchling | $(LOCK) -c requirements/dev.lock -o requirements/build.lock -

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

# ---- the contract ---------------------------------------------------------------------------------------------------
.PHONY: proto
proto: $(STAMP) ## Regenerate the stubs in riseml/v1 from proto/
	$(BIN)/python dev/stubs.py write

.PHONY: baseline
baseline: $(STAMP) ## Accept the present contract as the one that may not be broken
	$(BIN)/buf build --exclude-source-info -o proto/baseline.binpb

# ---- checks ---------------------------------------------------------------------------------------------------------
CHECKS := check-format check-lint check-types check-layers check-contract check-stubs check-docs

.PHONY: check $(CHECKS)
check: $(CHECKS) ## Run every check that needs no running program
	@echo "check: all passed"

check-format: $(STAMP)
	$(BIN)/ruff format --check --quiet . || { echo "format: run $(BIN)/ruff format ." >&2; exit 1; }

check-lint: $(STAMP)
	$(BIN)/ruff check --quiet .

check-types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/mypy hatch_build.py dev/*.py
	$(BIN)/mypy tests benchmarks

check-layers: $(STAMP)
	$(BIN)/lint-imports --no-cache --no-logo

check-contract: $(STAMP)
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/baseline.binpb

check-stubs: $(STAMP)
	$(BIN)/python dev/stubs.py check

check-docs: $(STAMP)
	$(BIN)/python dev/reference.py check
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

# ---- run ------------------------------------------------------------------------------------------------------------
.PHONY: test
test: venv ## Run the tests (more words for pytest: ARGS="-k gang")
	@$(BIN)/pytest $(ARGS)

# Left out: a cluster made for the tests, as root. Else the kubeconfig of any other.
RISEML_E2E_KUBECONFIG ?=
.PHONY: e2e
e2e: venv ## Run the tests on a real Kubernetes, made for them (or RISEML_E2E_KUBECONFIG=FILE)
ifeq ($(RISEML_E2E_KUBECONFIG),)
	@$(BIN)/python -m tests.e2e.cluster run --logs build/e2e-logs -- $(abspath $(BIN))/pytest tests/e2e $(ARGS)
else
	@RISEML_E2E_KUBECONFIG=$(RISEML_E2E_KUBECONFIG) $(BIN)/pytest tests/e2e $(ARGS)
endif

.PHONY: demo
demo: venv ## Start a cluster on this machine, train a classifier, watch it, kill a second run
	@$(BIN)/python dev/demo.py

.PHONY: bench
bench: venv ## Measure, beside the limits of this machine (PEERS=1: other systems too; ONLY="create logs")
	@$(BIN)/python -m benchmarks $(ONLY) $(if $(PEERS),--peers) $(ARGS)

.PHONY: reference
reference: $(STAMP) ## Make the pages of docs/reference from the code
	$(BIN)/python dev/reference.py write

.PHONY: docs
docs: $(STAMP) ## Serve the documentation on a local port
	$(BIN)/mkdocs serve

.PHONY: clean
clean: ## Remove what was built, the environment too
	rm -rf $(VENV) build dist site $(SHIM) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
