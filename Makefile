# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer with venv.
PYTHON ?= python3
VENV := .venv
# open_clip and sentence-transformers, which ours is measured against, need torchvision.
OTHERS := .venv-others
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: demo test check docs fuzz faults audit release-check lint format bench clean help

demo: $(VENV)/.has-demo ## install, then compare, index, search and classify with the embedded models (5 min)
	$(BIN)/python examples/demo.py

test: $(VENV)/.has-dev ## install what tests need, then run them (12 min)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.has-dev ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.has-docs ## the documentation as a site, English and Korean: build/docs/site/index.html
	$(BIN)/python scripts/reference --check
	$(BIN)/python scripts/docs.py

fuzz: $(VENV)/.has-dev ## spoil every input, five thousand times (6 min)
	OMP_NUM_THREADS=1 ENCODERLAB_FUZZ_CASES=5000 $(BIN)/python -m pytest tests/fuzz

faults: $(VENV)/.has-dev ## kill, fill up and crowd the commands: 100 rounds of kill -9 (10 min)
	ENCODERLAB_KILL_ROUNDS=100 $(BIN)/python -m pytest tests/faults

audit: $(VENV)/.has-dev ## licences of what we stand on, and its known weaknesses
	$(BIN)/python scripts/licences.py
	$(BIN)/python scripts/audit.py

release-check: $(BIN)/python ## build, look inside, install elsewhere, run the demo there (5 min)
	$(BIN)/python scripts/release_check.py

lint: $(VENV)/.has-dev ## style only
	$(BIN)/ruff check .

format: $(VENV)/.has-dev ## put the code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.has-bench $(OTHERS)/.ready ## measure everything that docs and README claim (half an hour)
	$(BIN)/python benchmarks/run_all.py --others $(OTHERS)/bin/python
	$(BIN)/python scripts/reference

clean: ## remove what tools and runs made; the environment too
	rm -rf $(VENV) $(OTHERS) build dist outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

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
