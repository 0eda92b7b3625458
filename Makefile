# Two commands for a fresh clone: `make demo` and `make test`. Both set up .venv first.
SHELL := bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(CURDIR)/.venv/bin

.PHONY: demo demo-rmc test test-slow lint bench reproduce report clean

# Quick, after the installation: about two minutes on two cores. What is trained already stays.
demo: .venv/installed
	bash demo.sh $(BIN)/python

# Under three minutes as well: runtime masking and cleansing beside its controls.
demo-rmc: .venv/installed
	bash demo_rmc.sh $(BIN)/python

# Most tests trace graphs, which takes one core each: as many files at once as there are cores.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile

# Everything but what takes minutes and has a quicker sibling here.
test: .venv/installed-test
	$(PYTEST) -m "not slow"

# The rest; CI runs both.
test-slow: .venv/installed-test
	$(PYTEST) -m slow

lint: .venv/installed-test
	$(BIN)/ruff check .

bench: .venv/installed
	$(BIN)/python -m benchmarks.train_throughput
	$(BIN)/python -m benchmarks.attack_throughput
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.detection
	$(BIN)/python -m benchmarks.adaptation

# Takes long and goes on where it was. See results/reproduce.sh for DATA, WORK and SETTINGS.
reproduce: .venv/installed
	PYTHON=$(BIN)/python bash results/reproduce.sh

# REPORT.md, index.html and the README from results/*.json; with WORK, the folder of `make reproduce`, these first.
report: .venv/installed
	$(if $(WORK),$(BIN)/python -m results.collect $(WORK))
	$(if $(WORK),$(BIN)/python -m results.beyond $(WORK))
	$(BIN)/python -m results.report

clean:
	rm -rf .venv demo_run

.venv/installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@
