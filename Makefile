# Needs Python >= 3.11, make, and the package registries; everything else is set up in .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
COUNT       ?= 20000
BODY        ?= 1024
CONCURRENCY ?= 20
PEERS       ?= all

.PHONY: help setup demo docs test check lint types imports bench clean

help:
	@echo 'make demo   generator → relay with a Lua policy → sink, on this machine (COUNT= BODY= CONCURRENCY=)'
	@echo 'make test   all checks and tests'
	@echo 'make docs   docs/reference, from what the code declares'
	@echo 'make bench  CPU per message beside other mail servers (PEERS=postfix,haraka,…)'
	@echo 'make clean  remove the virtual environment and caches'

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: setup
	@$(BIN)/python tools/demo/demo.py --count $(COUNT) --body-size $(BODY) --concurrency $(CONCURRENCY)

test: setup lint types imports
	$(BIN)/python -m pytest

check: setup lint types imports

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

docs: setup
	$(BIN)/kumo-py lua docs --output docs/reference
	$(BIN)/python tests/option_markers.py

bench: setup
	$(BIN)/python bench/bench.py --peers $(PEERS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
