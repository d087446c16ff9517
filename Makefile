# One environment for everything: `.venv`, made once from constraints.txt, and again when that or pyproject.toml changes.
# `make demo ARGS=--no-serve` passes options on; `make test ARGS="-k layers"` does the same for pytest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS  ?=

# The first interpreter that starts and is new enough; 3.11 before others, because it is the tested one.
# An interpreter of your choice: make demo PYTHON=/path/to/python
NEW_ENOUGH = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	if $$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then echo $$p; break; fi; done)

.PHONY: help demo test lab lint bench format constraints clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(STAMP)  ## train four real runs, write a report, serve the board
	@$(BIN)/dlstudio demo $(ARGS)

lab: $(STAMP)  ## open the first tutorial in JupyterLab
	@$(BIN)/dlstudio lab $(ARGS)

# The tests of a file share what they trained and the server they started, so a file stays in one process. Processes that
# share the cores compute with one thread each, or they wait for each other.
test: $(STAMP)  ## every test
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)  ## style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy

bench: $(STAMP)  ## measure dlstudio beside its peers
	@$(BIN)/dlstudio bench $(ARGS)

format: $(STAMP)  ## rewrite the source in the project's style
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

constraints: $(STAMP)  ## write what is installed into constraints.txt (after every check passed with it)
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//'; } > constraints.new
	@mv constraints.new constraints.txt && touch $(STAMP)

clean:  ## remove the environment and every cache (recorded runs stay)
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The test extra is part of it on purpose: it adds little to what the studio itself needs, and one environment means
# that the demo runs on exactly the set the tests ran on.
$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "Expected Python 3.11 or newer with venv, but found none. Install it (Debian: apt install python3 python3-venv)," \
			"or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 2; fi
	@[ -x $(BIN)/python ] && $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null \
		|| { echo "Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing dlstudio and the tested versions of what it needs (some minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(STAMP)
	@echo "Installed into $(VENV)"
