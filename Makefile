# Two commands for people: `make demo` and `make test`. Each does all its set-up, in .venv.

PYTHON ?= python3
DEMO_FOLDER ?= demo
BIN := .venv/bin
SETUP := pyproject.toml constraints.txt scripts/setup_venv.py
export PYTHONNOUSERSITE := 1

.PHONY: help demo test lint clean

help:
	@echo "make demo   propagate one painted slice through the sample volume, into $(DEMO_FOLDER)/"
	@echo "make test   check style and types, run all tests"
	@echo "make lint   check style and types"
	@echo "make clean  remove .venv, caches and the demo's output"

demo: .venv/.demo
	@$(BIN)/imos demo --out $(DEMO_FOLDER)

# two processes, of one thread each: threads of both would wait for each other
test: lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The stamps are newer than what they were made from, so that a second call starts at once.
.venv/.demo .venv/.test: .venv/.%: $(SETUP)
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: install Python 3.11 or newer."; exit 1; }
	@$(PYTHON) scripts/setup_venv.py $*
	@touch $@

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache $(DEMO_FOLDER)
	find src tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
