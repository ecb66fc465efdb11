# One entry for people and for CI. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sovereign-gpu
PINS := $(shell cat requirements/dev.txt | sha256sum | cut -c1-12)
VENV := $(CACHE)/venv-$(PINS)-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PY := $(VENV)/bin/python
export PYTHONPATH := operator:.
export SOVEREIGN_GPU_CACHE := $(CACHE)

.PHONY: help
help: ## what can be run
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-16s %s\n", $$1, $$2}'

$(VENV)/.complete: requirements/dev.txt
	@echo "==> Python packages from requirements/dev.txt (hash-pinned) into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version)"; exit 1; }
	@rm -rf "$(VENV)" && mkdir -p "$(CACHE)" && $(PYTHON) -m venv "$(VENV)"
	@"$(VENV)/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/.complete ## Python packages, cached outside the tree
