# `make train` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup train test lint types imports tests test-slurm format bench clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: .venv/installed  ## Make the environment in .venv.

train: setup  ## Train the embedded default and show what it did.
	$(BIN)/python -m sempa_lightning.train

test: setup lint types imports tests  ## Check and test everything, as CI does.

lint: setup  ## Style and common mistakes.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## Static types.
	$(BIN)/mypy

imports: setup  ## One direction of imports.
	$(BIN)/lint-imports

# Three processes keep two cores busy, for some tests wait; in the order of the tree the long files come early.
tests: setup  ## All tests that this machine can run.
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-slurm: setup  ## The documented SLURM commands, on a cluster on this machine; needs slurm-wlm and munge.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slurm tests/integration/slurm

format: setup  ## Rewrite the code to the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## Compare with TRL step by step; needs SEMPA_DATA_DIR.
	$(BIN)/python benchmarks/parity_trl.py

clean:  ## Remove the environment and build output.
	rm -rf .venv build dist
