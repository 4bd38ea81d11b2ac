# One way to set up, try, test and tidy. Needs Python 3.11 to 3.13, git and make; everything else is fetched.
PYTHON ?= python3
BIN := .venv/bin
# Many tests wait for machines, engines and servers: two workers more than there are processors.
WORKERS ?= $(shell python3 -c 'import os; print(2 + os.cpu_count())')
READY := .venv/.ready
PIN = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml
RUNNERS := .github/actions/setup

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-edge demo-azure test test-all parts lint format bench docs lock clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Make .venv with everything, pinned by hash

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "edgetrain needs Python 3.11 to 3.13; $$($(PYTHON) --version) was found. Say which: make PYTHON=python3.12 setup"; exit 1; }
	@echo "setting up .venv (about 500 MB, some 40 seconds)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $(READY)

demo: setup ## Walk the main job on real data, in a scratch folder
	@$(BIN)/python tools/demo/demo.py

demo-edge: setup parts ## Walk it over the real parts of a site: blob store, VM, registry (root on Debian)
	@$(BIN)/python tools/demo/edge.py

demo-azure: setup parts ## Walk it through Azure ML: emulator, attached VM, registry (root on Debian)
	@$(BIN)/python tools/demo/cloud.py

parts: ## Set up the system parts of the tests where this user may (sandbox, registry, VM, Azurite)
	@tests/parts

test: setup parts ## Run the tests; long walks are sampled by a seed that is printed
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST)

test-all: setup parts ## Run the tests with every step of the long walks
	@EDGETRAIN_WALK=all $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST)

lint: setup ## Check style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Bring the code into its style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure side by side, print ratios, and write docs/benchmarks.md
	@$(BIN)/python -m tests.bench --write

docs: setup ## Generate the pages that come from the code
	@$(BIN)/python -m edgetrain.render.problems > docs/problems.md
	@$(BIN)/python -m edgetrain.cli.commands > docs/commands.md
	@$(BIN)/python -m edgetrain.render.manifests > docs/manifests.md
	@$(BIN)/python -m edgetrain.render.outputs > tools/edgetrain/schemas/outputs.schema.json

lock: ## Pin all dependencies again, those of runners apart
	@$(PIN) --extra azureml --extra emulator --extra demo --extra dev --output-file requirements.lock
	@$(PIN) --constraints requirements.lock --output-file $(RUNNERS)/requirements.lock
	@$(PIN) --constraints requirements.lock --extra azureml --output-file $(RUNNERS)/requirements-azureml.lock

clean: ## Remove what setup and tests made
	@rm -rf .venv .edgetrain .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
