# python3.11 where it runs (a pyenv shim may be there and not run), else python3.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
BIN := .venv/bin
# Touched after a complete install, so that a second run starts at once and a broken install is done again.
STAMP := .venv/.installed
DOCS_STAMP := .venv/.docs

# Two cores compile faster than one: most of a test's time is XLA's, and each shares what it has compiled.
COMPILED = JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.pytest_cache/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1
PYTEST = $(COMPILED) $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal
# A quick test compiles for longer than it runs, so XLA does not optimise there. XLA aborts on a flag that it does not
# know: a trial decides.
FAST = --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 --xla_llvm_disable_expensive_passes=true
QUICK = if XLA_FLAGS="$(FAST)" $(BIN)/python -c 'import jax; jax.devices()' 2>/dev/null; then export XLA_FLAGS="$$XLA_FLAGS $(FAST)"; fi

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench bench-cold docs gallery-lecture architecture lint clean

help:  ## show these targets
	@$(PYTHON) -c 'import re; [print(f"  make {t:10}{h}") for t, h in re.findall(r"^([a-z-]+):.*?## (.*)", open("Makefile").read(), re.M)]'

demo: $(STAMP)  ## install if needed, then run the demonstration
	@$(BIN)/unnorm demo

test: $(STAMP)  ## run the quick tests
	@$(QUICK); $(PYTEST) -m "not slow"

test-all: $(STAMP)  ## run every test, the slow ones too
	@$(PYTEST)

bench: $(STAMP)  ## run the benchmarks, hours; their tables are kept in docs/appendix
	@cd tests && for part in chain_steps many_chains torch_peers effective_draws start_up hessian_trace training whole_fits; do \
	  ../$(BIN)/python -m benchmarks.$$part; done
	@mkdir -p build && cd tests && ../$(BIN)/python -m benchmarks.log_z_scoreboard ../build/log_z_runs.jsonl
	@cd tests && ../$(BIN)/python -m benchmarks.toy_peers ../build/toy_peers.jsonl

bench-cold: $(STAMP)  ## CPU seconds of first calls in fresh processes; OLD=commit alternates with it
	@cd tests && ../$(BIN)/python -m benchmarks.cold $(if $(OLD),--old $(OLD))

docs: $(DOCS_STAMP)  ## run every block of the pages and build them in build/docs
	@$(QUICK); $(COMPILED) $(BIN)/python -m sphinx -W --keep-going -b html -d build/docs_cache/doctrees docs build/docs
	@echo "Open build/docs/index.html"

gallery-lecture: $(STAMP)  ## fit every objective to every toy, an hour; build/lecture/index.html. ONLY="nce,two_moons"
	@$(BIN)/python docs/lecture/make.py "$(ONLY)"

architecture: $(STAMP)  ## write docs/architecture.md and its picture from the code
	@$(BIN)/python tests/architecture/page.py

lint: $(STAMP)  ## check the code with ruff and its types with mypy
	@$(BIN)/ruff check unnorm tests docs
	@$(BIN)/mypy

clean:  ## remove what builds, tests and demos leave behind (.venv stays)
	@rm -rf build docs/generated dist *.egg-info .pytest_cache .ruff_cache report.html
	@find unnorm tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "PYTHON is '$(PYTHON)' ($$($(PYTHON) --version 2>&1 | head -n 1)), but unnorm needs Python 3.11 or newer: install one and run 'make PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "Installing unnorm and what it needs into .venv (once, some minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	@echo "Installing what the pages need into .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
