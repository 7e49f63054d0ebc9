# Everything starts here. `make` lists what there is; .venv is made when it is first needed.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
# The peers want other versions of some libraries, so they live apart.
BENCHMARK_VENV := .venv-benchmark
# A TPU's compiler. Where it is found and no TPU is, JAX says so in several lines, so it lies apart.
LIBTPU  := .libtpu
DATA    ?= data/corpus
CONFIG  ?= configs/loev_tempo.py:small
# runs/ and the config's name: runs/loev_tempo
WORKDIR ?= runs/$(basename $(notdir $(firstword $(subst :, ,$(CONFIG)))))

# The C library of Linux asks for large pages, in tests too: a step on a CPU takes an eighth less.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# Processes that run tests: each compiles on its own, in about 3 GB.
WORKERS ?= 2

# Python to make .venv with: the first of these that fits and has venv, unless one is given.
# The lock's tensorflow has no wheels for Python 3.14 yet.
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3 python)

RESOLVE := uv pip compile --universal --fork-strategy fewest --python-version 3.11 \
  --generate-hashes --no-header

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train test test-slow test-peers soak test-tpu lint format docs bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv from the hashed lock (once, and again when the lock changes)

# Makes the environment $(1) from the lock $(2).
# `python -c` rather than --version: a pyenv shim is on PATH even where it runs nothing.
define install
@if ! $(1)/bin/python -c 'import pip' 2>/dev/null; then \
  found=; bare=; \
  for python in $(PYTHONS); do \
    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
    if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
    bare=$${bare:-$$python}; \
  done; \
  if [ -z "$$found" ] && [ -n "$$bare" ]; then \
    echo "error: $$bare lacks venv or ensurepip: install them (Debian: python3-venv)" \
      "or give another with make PYTHON=..." >&2; exit 2; \
  elif [ -z "$$found" ]; then \
    echo "error: none of '$(PYTHONS)' is Python 3.11, 3.12 or 3.13:" \
      "install one or give it with make PYTHON=..." >&2; exit 2; \
  fi; \
  echo "making $(1) with $$found"; \
  "$$found" -m venv --clear $(1); \
fi
$(1)/bin/python -m pip install --disable-pip-version-check --require-hashes -r $(2)
$(1)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
@touch $(1)/.installed
endef

$(STAMP): requirements.lock
	$(call install,$(VENV),requirements.lock)

$(BENCHMARK_VENV)/.installed: requirements-benchmark.lock
	$(call install,$(BENCHMARK_VENV),requirements-benchmark.lock)

$(LIBTPU)/.installed: requirements-tpu.lock | $(STAMP)
	rm -rf $(LIBTPU)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-deps \
	  --target $(LIBTPU) -r requirements-tpu.lock
	@touch $@

train: $(STAMP) ## prepare the corpus, train CONFIG in WORKDIR, evaluate, print the table
	$(BIN)/python launch/prepare_data.py --source=corpus --out=$(DATA)
	$(BIN)/python launch/train.py --config=$(CONFIG) --workdir=$(WORKDIR) --config.data.path=$(DATA)
	$(BIN)/python launch/eval.py --workdir=$(WORKDIR) --step=last

test: $(STAMP) ## run the test suite
	$(BIN)/python -m pytest -m "not slow and not tpu and not soak" -n $(WORKERS) --dist=loadfile

test-slow: $(STAMP) ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-peers: $(BENCHMARK_VENV)/.installed ## compare sf_nfnet_f0 with mule-torch, both computing
	$(BENCHMARK_VENV)/bin/python -m pytest tests/encoders/test_mule.py

soak: $(STAMP) ## kill and resume a tiny run, CYCLES=500 times
	CYCLES=$(CYCLES) $(BIN)/python -m pytest -m soak --timeout=0 -s

test-tpu: $(STAMP) $(LIBTPU)/.installed ## run the tests that ask a TPU's compiler (Linux, x86-64)
	PYTHONPATH=$(LIBTPU) $(BIN)/python -m pytest -m tpu -n $(WORKERS) --dist=load

lint: $(STAMP) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## sort imports, mend what ruff can mend, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## check strictly that what the documents link to and name exists
	$(BIN)/python -m pytest -q tests/test_docs.py

bench: $(BENCHMARK_VENV)/.installed ## compare with other libraries (several GB in .venv-benchmark)
	$(BENCHMARK_VENV)/bin/python launch/benchmark.py

# audiomentations wants an older soxr, torch an older setuptools; all else is as in the first lock.
lock: ## resolve the locks anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "error: uv is not on PATH: pip install uv" >&2; exit 2; }
	$(RESOLVE) --extra dev pyproject.toml -o requirements.lock
	sed -nE '/^(soxr|setuptools)==/d; s/^([a-z0-9_.-]+==[^\\]*[^ \\]).*/\1/p' requirements.lock \
	  | $(RESOLVE) --extra benchmark --constraints - pyproject.toml -o requirements-benchmark.lock
	sed -n '/^libtpu==/,/[^\\]$$/p' requirements-benchmark.lock > requirements-tpu.lock

clean: ## remove .venv and the tools' caches; data, runs and models stay
	rm -rf $(VENV) $(BENCHMARK_VENV) $(LIBTPU) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
