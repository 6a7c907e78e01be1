# make demo   train and evaluate on synthetic scans, offline, on a CPU; writes demo/
# make test   every gate, cheapest first
# Both do their own set-up: all they need is Python 3.11 or newer, with its venv module.

PYTHON ?= python3
WORKERS ?= 2
STEPS ?= all
TORCH ?= $(shell grep '^torch==' requirements.lock)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := -m pip install --quiet --no-input --disable-pip-version-check --progress-bar off

.PHONY: help setup demo test lint format coverage bench lock clean

help:
	@sed -n 's/^# //p' Makefile | head -3

setup: $(STAMP)

demo: $(STAMP)
	$(BIN)/autospine demo

test: lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --cov --cov-report term-missing:skip-covered

# Side by side with nnU-Net, which is installed below build/ at first; STEPS='export evaluation' runs only these.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(STEPS)

# Torch goes first and alone: whichever build the user's pip offers (CPU or CUDA) then satisfies the rest.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "autospine needs Python 3.11 or newer. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "Python's venv module is missing or incomplete (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(VENV): this takes some minutes, once."
	$(BIN)/python $(PIP) '$(TORCH)'
	$(BIN)/python $(PIP) --requirement requirements.lock
	$(BIN)/python $(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

# A new lock from pyproject.toml, resolved in an empty environment; TORCH=torch==X.Y.Z moves torch as well.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python $(PIP) '$(TORCH)'
	build/lock/bin/python $(PIP) '.[dev]'
	{ sed -n '/^#/p' requirements.lock; \
	  build/lock/bin/python -m pip freeze --all --exclude autospine --exclude pip \
	    | sed 's/+[a-z0-9.]*$$//' | grep -v -E '^(nvidia|cuda|triton)'; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

clean:
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
	    .hypothesis .coverage*
	find autospine planners trainers dataset_conversion tests -name __pycache__ -prune -exec rm -rf {} +
