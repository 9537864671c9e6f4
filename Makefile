# `make demo` shows Tandem at work, `make test` runs every test that needs no GPU; both set up what
# they need in .venv first, once.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
STUBS := $(VENV)/.stubs-installed

.PHONY: demo test check stubs format help

help:
	@echo "make demo    stream the shipped clip through every placement"
	@echo "make test    every test that needs no GPU"
	@echo "make check   lint, types, imports, stubs"
	@echo "make stubs   regenerate the Python stubs of protos/"
	@echo "make format  format the code"

demo: $(RUNTIME)
	$(BIN)/python -m client.demo

test: $(DEV)
	$(BIN)/python -m pytest

check: $(DEV) $(STUBS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check_stubs.sh

stubs: $(STUBS)
	scripts/generate_stubs.sh

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements/runtime.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	touch $@

# A virtual environment of its own: the generator's protobuf is older than the one we run on.
$(STUBS): requirements/stubs.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/stubs
	$(VENV)/stubs/bin/pip install --quiet --requirement requirements/stubs.txt
	touch $@
