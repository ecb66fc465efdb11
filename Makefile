# One entry for people and for CI. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sovereign-gpu
PINS := $(shell cat requirements/dev.txt | sha256sum | cut -c1-12)
VENV := $(CACHE)/venv-$(PINS)-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PY := $(VENV)/bin/python
CODE := operator rig bench tests
export PYTHONPATH := operator:.
export SOVEREIGN_GPU_CACHE := $(CACHE)

.PHONY: help
help: ## what can be run
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-20s %s\n", $$1, $$2}'

# --- what everything needs ---------------------------------------------------------------
# Named after the content of the pins: a fresh clone, whose files are all new, finds it complete.
$(VENV)/.complete:
	@echo "==> Python packages of requirements/dev.txt, hash-pinned, into the cache"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Choose another with PYTHON=..."; exit 1; }
	@rm -rf "$(VENV)" && mkdir -p "$(CACHE)" && $(PYTHON) -m venv "$(VENV)" || { echo "python3 -m venv failed: on Debian, apt-get install python3-venv"; exit 1; }
	@"$(VENV)/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/.complete ## Python packages, cached outside the tree

.PHONY: rig-binaries
rig-binaries: venv ## build etcd, Kubernetes, kwok and helm from pinned Go modules, cached
	@$(PY) -m rig binaries

.PHONY: kind-binaries
kind-binaries: venv
	@$(PY) -m rig binaries --profile kind

.PHONY: kind-up
kind-up: kind-binaries ## the cluster of kind-config.yaml, real kubelets in containers (root)
	@$(PY) -m rig.kind up

.PHONY: kind-down
kind-down: kind-binaries ## delete it, and take back what the machine was changed for it
	@$(PY) -m rig.kind down

# --- the main job ------------------------------------------------------------------------
.PHONY: demo
demo: rig-binaries ## the whole story on 1,250 nodes; KEEP=1 leaves it running
	@$(PY) -m rig.demo $(if $(KEEP),--keep)

# --- checks, each a rung that runs alone -------------------------------------------------
.PHONY: test
test: lint types imports drift test-unit test-contract test-faults test-control-plane coverage ## everything that must hold

.PHONY: lint
lint: venv
	@echo "==> lint"
	@$(VENV)/bin/ruff check $(CODE)
	@$(VENV)/bin/ruff format --check $(CODE)

.PHONY: types
types: venv
	@echo "==> types"
	@$(VENV)/bin/mypy

.PHONY: imports
imports: venv
	@echo "==> import contracts"
	@$(VENV)/bin/lint-imports --no-cache

.PHONY: drift
drift: venv ## generated files are what their generators write
	@echo "==> generated files"
	@$(PY) -m sovereign_gpu.api.crdgen --check
	@$(PY) -m sovereign_gpu.admission.render --check

RUN := $(VENV)/bin/coverage run --parallel-mode -m pytest

.PHONY: test-unit
test-unit: venv ## pure core, models, telemetry, commands
	@echo "==> unit tests"
	@rm -f .coverage .coverage.*
	@$(RUN) tests/core tests/api tests/telemetry tests/controller tests/cli tests/bench

.PHONY: test-contract
test-contract: venv ## informer, writer, lease, read API, device plugin against scripted servers
	@echo "==> contract tests"
	@$(RUN) tests/cluster tests/contract tests/readapi tests/fake_gpu --ignore=tests/fake_gpu/api_server

.PHONY: test-faults
test-faults: venv ## 2,000 random schedules of faults in virtual time, and random inputs
	@echo "==> random schedules of faults, random inputs"
	@$(PY) -m pytest tests/faults tests/fuzz -s

.PHONY: test-control-plane
test-control-plane: rig-binaries ## policies, chart and operator on a real control plane
	@echo "==> control plane tests"
	@$(RUN) tests/rig tests/control_plane tests/admission tests/chart tests/alerts tests/fake_gpu/api_server

.PHONY: chaos
chaos: rig-binaries ## real processes killed, frozen, cut off: CHAOS random schedules (10)
	@echo "==> chaos on a real control plane"
	@$(PY) -m bench.chaos --schedules $(or $(CHAOS),10)

.PHONY: device-plugin-torture
device-plugin-torture: rig-binaries ## two hundred restarts, deaths and flaps of kubelet and device plugin
	@DEVICE_PLUGIN_FAULTS=200 $(PY) -m pytest tests/fake_gpu/api_server/test_torture.py --log-cli-level=INFO

.PHONY: e2e
e2e: kind-up ## the product's story on real kubelets with fake GPUs; leaves the cluster
	@echo "==> scenarios on kind"
	@$(PY) -m pytest tests/kind --durations=5

.PHONY: nightly
nightly: rig-binaries ## what takes too long for every change: some six hours
	@$(PY) -m rig binaries --profile 1.37
	@FAULT_SCHEDULES=100000 FUZZ_INPUTS=50000 $(PY) -m pytest tests/faults tests/fuzz -s
	@RANDOM_ATTACKS=10000 $(PY) -m pytest tests/admission/test_random_attacks.py
	@SOVEREIGN_GPU_PROFILE=1.37 $(PY) -m pytest tests/control_plane tests/admission tests/chart
	@$(MAKE) device-plugin-torture
	@$(MAKE) chaos CHAOS=100
	@$(PY) -m bench.failover
	@$(PY) -m bench.start
	@$(PY) -m bench.soak
	@for round in 1 2 3 4 5; do $(MAKE) kind-down && $(MAKE) e2e || exit 1; done

.PHONY: coverage
coverage: venv ## of the rungs that ran
	@$(VENV)/bin/coverage combine --quiet --keep
	@$(VENV)/bin/coverage report --skip-covered --sort=cover
	@$(VENV)/bin/coverage report --include='operator/sovereign_gpu/core/*' --fail-under=100 --format=total >/dev/null || { echo "core/ must be covered to 100 % of branches"; exit 1; }

.PHONY: format
format: venv ## apply the formatter and write generated files anew
	@$(VENV)/bin/ruff check --fix --quiet $(CODE) || true
	@$(VENV)/bin/ruff format --quiet $(CODE)
	@$(PY) -m sovereign_gpu.api.crdgen
	@$(PY) -m sovereign_gpu.admission.render
	@$(PY) -m tests.admission.bypasses

.PHONY: pins
pins: ## compile requirements/*.in anew (needs uv)
	@for name in operator dev go build fake-gpu; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/$$name.in -o requirements/$$name.txt; done

# --- measurements ------------------------------------------------------------------------
.PHONY: bench
bench: rig-binaries ## every figure that README quotes; about an hour
	@$(PY) -m bench.engine
	@$(PY) -m bench.ledger_steps
	@$(if $(SOVEREIGN_GPU_DATA),$(PY) -m bench.openb && $(PY) -m bench.philly,echo "SOVEREIGN_GPU_DATA names no folder of traces: openb and philly are left out")
	@$(PY) -m bench.burst --pods 5000
	@$(PY) -m bench.burst --pods 10000
	@$(PY) -m bench.backlog
	@$(PY) -m bench.policies
	@$(PY) -m bench.cli
	@$(PY) -m bench.crash
	@$(PY) -m bench.chaos
	@$(PY) -m bench.failover
	@$(PY) -m bench.start
	@$(PY) -m bench.drift
	@$(PY) -m bench.plots
