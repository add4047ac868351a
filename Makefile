# make audit   runs the built-in demo audit and says where its report is
# make test    runs every test
# make fuzz SECONDS=60   feeds altered files to every reader of untrusted bytes
# make screenshots   draws docs/screenshots anew from the report of the demo
# All make .venv when it is missing; Python 3.11 or newer with venv is all they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread per process: tests and audits run several processes side by side.
export OMP_NUM_THREADS ?= 1
SECONDS ?= 60

.PHONY: help audit test fuzz lint format bench screenshots clean

help:
	@sed -n 's/^# //p' Makefile

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

audit: $(STAMP)
	@$(BIN)/auditor run demo --exit-zero
	@echo "Open the report: $(CURDIR)/auditor-runs/demo/report.html"

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist worksteal

# Without atheris the driver has a fuzzer of its own, and says so.
fuzz: $(STAMP)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' || true
	@$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python benchmarks/acasxu.py

screenshots: $(STAMP)
	$(BIN)/python docs/make_screenshots.py

clean:
	rm -rf $(VENV) .venv-wheel auditor-runs build dist
