# Every target does its own set-up: `make demo` or `make test` is all that a fresh clone needs.
#
# VENV    where the environment lives. As root, keep it out of a home that other users cannot enter: the PostgreSQL
#         server of the tests runs as an unprivileged user and is started from there.
# PYTHON  the Python (3.11 or newer) to make it with; found by itself.
# PYTEST_ARGS  more arguments for pytest, as in: make test PYTEST_ARGS="tests/project -x"
# WORKERS      how many processes run the tests, each with servers of its own: a number, or auto (one a core, at most 4)

VENV ?= .venv
PYTEST_ARGS ?=
WORKERS ?= auto
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# With it, each of the many child processes compiles Airflow anew: imports take 2-3 times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: demo test lint types imports matrix bench soak clean help setup

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the environment and install everything into it

$(STAMP): pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh "$(VENV)"
	@touch "$@"

demo: $(STAMP) ## Run a real Airflow that loads klines twice, the second time doing nothing
	@"$(BIN)/python" scripts/demo.py

test: $(STAMP) ## Run the whole test suite
	@"$(BIN)/python" -m pytest --durations=15 -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP) ## Check style and format
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

types: $(STAMP) ## Check the package's types (mypy, strict)
	"$(BIN)/mypy"

imports: $(STAMP) ## Check that imports point one way
	"$(BIN)/lint-imports"

matrix: ## Run tests with the lowest and the latest dependencies (needs uv)
	@bash scripts/matrix.sh

bench: $(STAMP) ## Measure; writes benchmarks/RESULTS.md
	@"$(BIN)/python" -m benchmarks.run

soak: $(STAMP) ## Kill loads at random moments (SOAK_KILLS, SOAK_SEED); prove the weight budget in real minutes
	@"$(BIN)/python" -m pytest -m soak --durations=15 $(PYTEST_ARGS)

clean: ## Remove build output and caches; the environment stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
