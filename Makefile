# What each target needs (environments, servers, models) it makes itself, once. Only Python with venv is needed.
#
#   PYTHON=python3.12 make test      another interpreter
#   make test ARGS="-k tools -x"     arguments for pytest
#   KSERVE_TEST_CACHE=/big/disk      where make test-runtimes keeps servers and models (about 5 GB)

PYTHON ?= python3
ARGS ?=
VENV := .venv
VENV_LOWEST := .venv-lowest
VENV_BENCH := .venv-bench
MAKE_VENV := $(PYTHON) scripts/venv_tool.py
PYTEST := -m pytest

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-runtimes soak fuzz lowest bench lint protos format clean venv

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## Make .venv with everything the other targets use
	@$(MAKE_VENV) $(VENV) --extra all --group dev

quickstart: venv ## Ask questions of this project's documentation, in LangChain and in LlamaIndex
	@$(VENV)/bin/python examples/quickstart.py $(ARGS)

test: venv ## Unit and conformance tests, faults, security, fuzzing: offline
	$(VENV)/bin/python $(PYTEST) -n 2 --dist loadfile tests/unit tests/conformance tests/faults tests/security tests/fuzz $(ARGS)

test-runtimes: venv ## The conformance suites and contract tests against real servers on this machine
	PYTHONPATH=tests:scripts $(VENV)/bin/python -m runtimes -- $(ARGS)

soak: venv ## 200 streams against development servers for ten minutes, 5 % with faults (ARGS="--seconds 60")
	@PYTHONPATH=tests:scripts $(VENV)/bin/python -m soak $(ARGS)

fuzz: venv ## The property tests with many random examples; with atheris installed, ARGS=--atheris guides them by coverage
	@PYTHONPATH=tests:scripts $(VENV)/bin/python -m fuzz $(ARGS)

lowest: ## Unit and conformance tests with the oldest versions the package says it works with
	@$(MAKE_VENV) $(VENV_LOWEST) --extra all --lowest --group lowest
	$(VENV_LOWEST)/bin/python $(PYTEST) -n 2 --dist loadfile tests/unit tests/conformance $(ARGS)

bench: ## Speed, as ratios against plain HTTP and against other clients
	@$(MAKE_VENV) $(VENV_BENCH) --extra all --group bench
	$(VENV_BENCH)/bin/python benchmarks/run.py $(ARGS)

lint: venv ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python scripts/protos.py --check

protos: venv ## Compile protos/*.proto into the package
	$(VENV)/bin/python scripts/protos.py

format: venv ## Format the sources, fix what ruff can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean: ## Remove environments, caches and results (not the servers of test-runtimes)
	rm -rf $(VENV) $(VENV_LOWEST) $(VENV_BENCH) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
