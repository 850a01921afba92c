# Two commands matter: `make demo` and `make test`. Everything they need is set up here.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEVSTAMP := $(VENV)/.installed-dev

.PHONY: demo test test-full lint format bench clean sample-data

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e .
	touch $@

$(DEVSTAMP): pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[dev]'
	touch $@ $(STAMP)

demo: $(STAMP)
	$(BIN)/avatop demo

lint: $(DEVSTAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A file stays on one worker: what its tests share is made once. Heavy ones come first
# (tests/conftest.py). Two workers leave a fifth of two cores idle, waiting for ranks and terminals;
# a third one has it. (Groups are no way: with pytest 9.2 xdist 3.8 does not see them.)
test: $(DEVSTAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# All tests, and then every mode against every other with three seeds; the result is stored.
test-full: $(DEVSTAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m benchmarks.modes_matrix --seeds 3 \
		--json benchmarks/results/modes-matrix-$$(date +%F).json

format: $(DEVSTAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEVSTAMP)
	$(BIN)/python -m benchmarks.console
	$(BIN)/python -m benchmarks.console_pages
	$(BIN)/python -m benchmarks.console_live

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
