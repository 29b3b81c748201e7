# Every task of the project. Each one first builds .venv if it is missing or older than its two lists of
# packages, so on a fresh machine `make reproduce` or `make test` is enough. If no packages can be installed there, as
# without a network, .venv takes those of $(PYTHON), if that has all of $(NEEDED).

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
TESTED := $(VENV)/ready-to-test
LOG := $(VENV)/install.log
UNFINISHED := $(VENV)/unfinished
# What pyproject.toml asks for, without which nothing works: all but `datasets`, which reads datasets of a hub.
NEEDED := fsspec, matplotlib, numpy, pandas, pyarrow, rich, safetensors, scipy, tokenizers, torch, typer
# Whether $(PYTHON) has them; then an index of packages that does not answer is not asked again and again.
HAS_NEEDED = $(PYTHON) -c 'import $(NEEDED)' >/dev/null 2>&1
# Without pip if the system has left it out, as Debian does, and nothing needs to be installed.
MAKE_VENV = $(PYTHON) -m venv --clear $(VENV) || { $(HAS_NEEDED) && $(PYTHON) -m venv --clear --without-pip $(VENV); }

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test test-slow test-cluster check format docs bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with llmscale and what it needs (PYTHON=python3.12 picks another Python)
	@echo "$$($(RUN) -m llmscale --version) is ready in $(VENV); next: $(VENV)/bin/llmscale doctor"

reproduce: $(READY) ## measure a scaling law on this machine, fit it, draw it, and compare it with results/
	@$(RUN) experiments/reproduce.py

test: $(TESTED) ## run the tests, in less than ten minutes on two cores
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(TESTED) ## run the tests that take longer: compiled training, coverage of intervals
	$(RUN) -m pytest -m slow

test-cluster: $(TESTED) ## run the tests on Ray, Slurm and trackers; as root on Debian installs slurm-wlm and munge
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,slurm,trackers]'
	@if ! command -v slurmctld >/dev/null && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		echo "installing slurm-wlm and munge, since slurmctld is not here"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge; \
	fi
	$(RUN) -m pytest -m cluster -rs

check: $(TESTED) ## lint, format, types, and the layers of imports
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-cache

format: $(TESTED) ## put code into the form that `make check` asks for
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(READY) ## write the pages that are made from the code
	$(RUN) -m llmscale schema --settings > docs/settings.md
	$(RUN) -m llmscale explain --markdown > docs/warnings.md
	$(RUN) -m llmscale schema --columns > docs/columns.md

bench: $(READY) ## time what the benchmarks folder measures
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(RUN) $$script; done

clean: ## remove .venv and caches; results stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs $(1), and says in one line what it does: $(2). $(UNFINISHED) marks an installation that was cut off: the next
# one then starts from nothing.
define INSTALL
	@$(RUN) -m pip --version >/dev/null 2>&1 && test ! -e $(UNFINISHED) || { $(MAKE_VENV); }
	@touch $(UNFINISHED)
	@echo "$(2) (pip writes into $(LOG))"
	@if $(HAS_NEEDED); then export PIP_RETRIES=$${PIP_RETRIES:-0}; fi; \
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '$(1)' >$(LOG) 2>&1 || { \
		if $(HAS_NEEDED); then \
			$(PYTHON) -c "$$BORROW" $(VENV) && \
			echo "pip could not install anything, so $(VENV) takes the packages of $(PYTHON); once there is a network:" && \
			echo "  make clean, and make again, which then installs the tested versions"; \
		else \
			cat $(LOG) >&2; \
			rm -f $(UNFINISHED); \
			echo "error: pip could not install what llmscale needs; its message is above" >&2; \
			echo "  fix: solve that, then run make again, which goes on from here" >&2; \
			exit 1; \
		fi; }
	@rm $(UNFINISHED)
	@touch $(READY) $@
endef

$(READY): pyproject.toml constraints.txt $(RUN)
	$(call INSTALL,.,installing llmscale into $(VENV): a few minutes once)

$(TESTED): $(READY)
	$(call INSTALL,.[dev],adding the tools of its tests and checks)

# Writes the file by which the Python of .venv finds this checkout and the packages of the Python that runs this.
define BORROW
import pathlib, site, sys, sysconfig
folders = {sysconfig.get_path(name) for name in ("purelib", "platlib")} | {site.getusersitepackages()}
(target,) = pathlib.Path(sys.argv[1]).glob("lib/python*/site-packages")
lines = [str(pathlib.Path.cwd()), *(f"import site; site.addsitedir({folder!r})" for folder in sorted(folders))]
(target / "borrowed.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
endef
export BORROW

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$($(PYTHON) --version 2>/dev/null || echo "not there"); \
		echo "error: llmscale needs Python 3.11 or newer, and '$(PYTHON)' is $$found" >&2; \
		echo "  fix: make setup PYTHON=python3.12" >&2; \
		exit 1; }
	@$(MAKE_VENV)
