# Every task of the project. Each one first builds .venv if it is missing or older than its two lists of
# packages, so on a fresh machine `make reproduce` or `make test` is enough.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
UNFINISHED := $(VENV)/unfinished

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test test-slow test-cluster check format bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with everything installed (PYTHON=python3.12 picks another Python)
	@echo "$$($(RUN) -m llmscale --version) is ready in $(VENV); next: $(VENV)/bin/llmscale doctor"

reproduce: $(READY) ## measure a scaling law on this machine, fit it, draw it, and compare it with results/
	$(RUN) experiments/reproduce.py

test: $(READY) ## run the tests, in less than ten minutes on two cores
	$(RUN) -m pytest -n 2 --dist loadfile

test-slow: $(READY) ## run the tests that take longer: compiled training, coverage of intervals
	$(RUN) -m pytest -m slow

test-cluster: $(READY) ## run the tests on Ray, Slurm and trackers; as root on Debian installs slurm-wlm and munge
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,slurm,trackers]'
	@if ! command -v slurmctld >/dev/null && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		echo "installing slurm-wlm and munge, since slurmctld is not here"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge; \
	fi
	$(RUN) -m pytest -m cluster -rs

check: $(READY) ## lint, format, types, and the layers of imports
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-cache

format: $(READY) ## put code into the form that `make check` asks for
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(READY) ## time what the benchmarks folder measures
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(RUN) $$script; done

clean: ## remove .venv and caches; results stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(UNFINISHED) marks an installation that was cut off: the next one then starts from nothing.
$(READY): pyproject.toml constraints.txt $(RUN)
	@$(RUN) -m pip --version >/dev/null 2>&1 && test ! -e $(UNFINISHED) || $(PYTHON) -m venv --clear $(VENV)
	@touch $(UNFINISHED)
	@echo "installing llmscale and what it needs into $(VENV): a few minutes, once"
	@$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' || { \
		rm -f $(UNFINISHED); \
		echo "error: pip could not install what llmscale needs; its message is above" >&2; \
		echo "  fix: mend that, then run make again, which goes on from here" >&2; \
		exit 1; }
	@mv $(UNFINISHED) $(READY)

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$($(PYTHON) --version 2>/dev/null || echo "not there"); \
		echo "error: llmscale needs Python 3.11 or newer, and '$(PYTHON)' is $$found" >&2; \
		echo "  fix: make setup PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
