# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer with venv.
PYTHON ?= python3
VENV := .venv
# open_clip and sentence-transformers, which ours is measured against, need torchvision.
OTHERS := .venv-others
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: demo test check lint format bench clean help

demo: $(VENV)/.has-demo ## install, then compare, index, search and classify with the embedded models (5 min)
	$(BIN)/python examples/demo.py

test: $(VENV)/.has-dev ## install what tests need, then run them (12 min)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.has-dev ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: $(VENV)/.has-dev ## style only
	$(BIN)/ruff check .

format: $(VENV)/.has-dev ## put the code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.has-bench $(OTHERS)/.ready ## measure everything that docs and README claim (half an hour)
	$(BIN)/python benchmarks/run_all.py --others $(OTHERS)/bin/python

clean: ## remove what tools and runs made; the environment too
	rm -rf $(VENV) $(OTHERS) build dist outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("EncoderLab needs Python 3.11 or newer; give it with PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# One stamp per extra: a second call installs nothing again unless the lists have changed.
$(VENV)/.has-%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[$*]'
	@touch $@

$(OTHERS)/.ready: benchmarks/others-requirements.txt
	$(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(OTHERS)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@
