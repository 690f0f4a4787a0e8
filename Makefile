# Two commands to know: `make up` (everything, with the Dagster UI) and `make run` (once, without it).
# Needs Python 3.11 or newer and the package registry; the rest is installed into .venv.

PORT ?= 3000
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: up run test lint fast-test bench lock clean help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

up: $(READY) ## Start the database, load the sample, serve the UI on 127.0.0.1:3000; Ctrl-C stops all of it
	@$(BIN)/dossier-pipelines up --port $(PORT)

run: $(READY) ## Load the source, refresh and check every score, print a summary
	@$(BIN)/dossier-pipelines run

test: $(READY) lint ## Lint, types, definitions and every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY) ## ruff (lint and format), mypy (strict), dg check defs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# In a home of its own: definitions load without a database and without any setting.
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && DAGSTER_HOME="$$home" $(BIN)/dg check defs

fast-test: $(READY) ## The tests that need no database
	$(BIN)/python -m pytest dossier_pipelines_tests/unit

bench: $(READY) ## Measure loading and refreshing against the plain ways, in one run; about 20 minutes
	$(BIN)/python -m benchmarks

lock: ## Pin the dependencies anew (needs uv)
	@command -v uv >/dev/null || { echo "uv is needed to pin dependencies: https://docs.astral.sh/uv"; exit 1; }
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements.lock

clean: ## Remove the environment; the data in .dossier stays
	rm -rf .venv

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found. Install it, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing into .venv with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# The lock is complete and hashed; without resolving, nothing else can come in.
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@# Every run pays for modules that are not compiled; some environments forbid Python to keep them.
	@$(BIN)/python -m compileall -q -j 0 .venv/lib dossier_pipelines > /dev/null || true
	@touch $@
