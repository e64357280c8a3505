# Two commands for everyone: `make demo` and `make test`. Both do all their own set-up.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
HOME_DIR ?= $(CURDIR)/.proctor
DEMO_FLAGS ?=

.PHONY: install demo up test test-fast check images bench faults clean help

help:
	@echo "make install    install Proctor into .venv, and nothing else"
	@echo "make demo       run the demo pipeline from dataset to package (no account, no Docker needed)"
	@echo "make test       every check and test; make test-fast: checks and unit tests only"
	@echo "make up         start the Airflow UI with the shipped pipelines; Ctrl-C stops it"
	@echo "make images     build the container images (needs a Docker engine)"
	@echo "make bench      measure Proctor itself, BENCH=\"sut scoring\" for some (on a quiet machine)"
	@echo "make faults     kill everything at random moments, FAULTS=\"5 --only launcher\" for some"
	@echo "make clean      remove the virtual environment and the demo's files"

# A machine may call its Python 3.11 just python3.
$(VENV)/bin/python:
	@py=$$(command -v $(PYTHON) || command -v python3) || { echo "Python 3.11 is needed"; exit 1; }; \
	$$py -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	  || { echo "$$py is $$($$py --version); Proctor needs Python 3.11"; exit 1; }; \
	$$py -m venv $(VENV)

$(READY): $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Proctor and Apache Airflow into $(VENV) (one to two minutes, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	@touch $@

$(READY_DEV): $(READY)
	@echo "Installing what the tests need (two to four minutes, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e ".[openvino,torch,dev]" -c constraints.txt
	@touch $@

install: $(READY)

demo: $(READY)
	@$(BIN)/proctor run demo --yes --home $(HOME_DIR) $(DEMO_FLAGS)

up: $(READY)
	@$(BIN)/proctor up --home $(HOME_DIR)

images: $(READY)
	@$(BIN)/python -m proctor.runtime.images

check: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/proctor check pipeline_specs/*.yaml

test-fast: check
	$(BIN)/pytest tests/unit -q -n auto --dist loadfile

# Each worker has an instance of Airflow of its own, and what takes longest begins first; what kills
# at random moments comes after all others, alone.
FIRST := tests/e2e tests/airflow tests/browser tests/rights tests/containers
ALONE := tests/faults
test: check
	$(BIN)/pytest $(FIRST) tests --ignore=$(ALONE) -n auto --dist loadfile
	$(BIN)/pytest $(ALONE)

# Not part of any test: figures belong to a machine that does nothing else.
bench: $(READY_DEV)
	$(BIN)/python -m benchmarks $(or $(BENCH),all) $(BENCH_FLAGS)

# The long form of what tests/faults shows in short: about an hour, needs Docker and root.
faults: $(READY_DEV)
	$(BIN)/python tests/faults/table.py $(FAULTS)

clean:
	rm -rf $(VENV) .proctor build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
