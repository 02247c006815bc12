# The commands of this project. `make demo` shows what it does, `make test` checks it; each makes .venv first.
# Only this directory is written to: packages, caches and settings of libraries go to .venv, results to results/.

PYTHON ?= python3
CORES ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ "$$n" -lt 8 ] && echo "$$n" || echo 8)
# Jobs with a model that run at the same time: one a GPU; without a GPU as many as there are cores. Parts of a GPU (MIG) have
# lines of their own, which begin with blanks; what CUDA_VISIBLE_DEVICES names is a number or begins with GPU- or MIG-.
GPUS ?= $(shell if [ -n "$${CUDA_VISIBLE_DEVICES+set}" ]; \
  then n=$$(printf %s "$$CUDA_VISIBLE_DEVICES" | tr , '\n' | grep -c '^[0-9GM]'); \
  else n=$$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU '); fi; \
  [ "$$n" -gt 0 ] && echo "$$n" || echo $(CORES))

INSTALLED := .venv/.installed
# An option has to stand between `--quiet` and a target: `--quiet` would take the target for one of its words.
SNAKEMAKE := .venv/bin/python -m snakemake --cores $(CORES) --resources gpu=$(GPUS) --quiet host reason --show-failed-logs

export XDG_CACHE_HOME := $(CURDIR)/.venv/cache
export MPLCONFIGDIR := $(CURDIR)/.venv/cache/matplotlib
export HF_HUB_OFFLINE := 1
unexport PYTHONPATH PYTHONHOME SNAKEMAKE_PROFILE

.PHONY: demo all smoke test environments lint clean

demo: $(INSTALLED) ## one headline figure or table per paper, on the embedded world
	$(SNAKEMAKE)
	@.venv/bin/python scripts/show_results.py results/demo/figures

all: $(INSTALLED) ## everything, on the embedded world
	$(SNAKEMAKE) all
	@.venv/bin/python scripts/show_results.py results/demo/figures

smoke: $(INSTALLED) ## everything with as few samples as possible
	$(SNAKEMAKE) all --configfile presets/smoke.yaml

test: $(INSTALLED)
	.venv/bin/python -m pytest

environments: $(INSTALLED) ## the environments of --sdm conda, each installed and tried without conda
	cd tests && ../.venv/bin/python -m environments.check
	cd tests && ../.venv/bin/python -m environments.through_snakemake

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	.venv/bin/python -m snakemake --lint

clean: ## back to a fresh clone, but for what other runs than the demo and smoke left in results/
	rm -rf .venv .pytest_cache .ruff_cache results/demo results/smoke

# CPython 3.11 to 3.13 have every package ready made; a newer one is tried only where none of these is found.
# setuptools comes first, at the lock's version, because the few packages without a wheel are built with it.
$(INSTALLED): envs/requirements.txt envs/requirements-no-deps.txt
	@if ! .venv/bin/python -c '' 2>/dev/null; then \
	  found=; \
	  for below in 14 99; do for python in $(PYTHON) python3.13 python3.12 python3.11; do \
	    if "$$python" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, $$below))" 2>/dev/null; \
	    then found=$$python; break 2; fi; \
	  done; done; \
	  if [ -z "$$found" ]; then \
	    echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	    echo "Install one (3.11, 3.12 and 3.13 are tested), or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	  fi; \
	  if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$found cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	  fi; \
	  echo "Making .venv with $$("$$found" --version); this takes minutes, once."; \
	  rm -rf .venv && "$$found" -m venv .venv; \
	fi
	.venv/bin/python -m pip install --disable-pip-version-check --constraint envs/requirements.txt setuptools
	.venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --requirement envs/requirements.txt
	.venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps --requirement envs/requirements-no-deps.txt
	rm -rf .venv/cache/pip
	touch $@
