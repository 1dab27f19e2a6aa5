# One command each: `make demo` shows the whole way of the data, `make test` tells whether it works.
# PYTHON only makes the environment (3.11 or newer); everything else runs in .venv.
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-ecosystem lint format clean benchmark

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-15s %s\n' "$$name" "$$text"; done

env: $(STAMP)  ## Make or update the environment in .venv from pyproject.toml

# torch goes first and alone: no other package gets to choose a newer or a CUDA build, and a build that
# is there already (2.13.0+cpu, say) satisfies the pin and stays.
$(STAMP): pyproject.toml
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: env  ## Train, evaluate and predict on made-up hearts, and draw a picture: minutes, no GPU, no download
	$(BIN)/python -m tools demo

test: env  ## Run the fast tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not ecosystem" -q --numprocesses auto --maxprocesses 4 --dist worksteal

test-slow: env  ## Run the tests that train for minutes
	$(BIN)/python -m pytest -m "slow and not gpu and not ecosystem" -q

test-ecosystem: env  ## Run the tests with MONAI Label, NVFlare and packed bundles, in environments of their own
	$(BIN)/python -m pytest -m "ecosystem and not gpu" -q --numprocesses 2 --dist loadfile

lint: env  ## Check style, types and the layout of the configs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools format_configs --check
	$(BIN)/python -m tools benchmark --check

format: env  ## Rewrite code and configs in the project's layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tools format_configs

clean:  ## Remove everything made (data, runs, build, caches), never .venv
	rm -rf data runs build .pytest_cache .ruff_cache .mypy_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

benchmark: env  ## Run every program in benchmarks/
	@for script in benchmarks/*.py; do \
		[ -e "$$script" ] || { echo "benchmarks/ holds no program"; break; }; \
		echo "$$script"; $(BIN)/python "$$script" || exit 1; \
	done
