# make demo: the main job on real input.  make test: the tests.  Both need only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo train-demo test test-oldest check bench site clean ready-ci

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "calipose needs Python >= 3.11; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) '.[demo]'
	@touch $@

$(VENV)/ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) '.[dev]'
	@touch $@ $(VENV)/ready-demo

# What some tests need besides: supervision and what reads and runs .tflite files (.ci/run).
ready-ci: $(VENV)/ready-ci

$(VENV)/ready-ci: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) '.[ci]'
	@touch $@ $(VENV)/ready $(VENV)/ready-demo

# The default model on a few images; needs no torch. make demo IMAGES="a.jpg holiday/" takes yours.
demo: $(VENV)/ready-demo
	$(BIN)/python -m calipose demo $(IMAGES)

# Makes synthetic people, trains on them, predicts on unseen images.
train-demo: $(VENV)/ready
	$(BIN)/python -m calipose train-demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The oldest releases that pyproject.toml allows, in an environment of their own, and tests of what they are used for.
OLDEST := .venv-oldest

$(OLDEST)/ready: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt \
		--editable '.[dev,supervision]'
	@touch $@

test-oldest: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -m "not photographs and not exports" $(OLDEST_TESTS)

OLDEST_TESTS := tests/test_public_names.py tests/test_oldest.py tests/cli/test_predict.py tests/cli/test_export_packaged.py \
	tests/evaluation/test_ap.py tests/export tests/formats tests/io tests/model/test_checkpoint.py \
	tests/report/test_report.py tests/training/test_state.py

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, in build/site; warnings are errors.
site: $(VENV)/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

$(VENV)/ready-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) '.[docs]'
	@touch $@

bench: $(VENV)/ready
	$(BIN)/python benchmarks/head_cost.py

clean:
	rm -rf $(VENV) $(OLDEST) build dist runs
