# `make demo` and `make test` set up all they need; nothing else is typed on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
BENCHMARKS := fbp projector end_to_end corrections memory quality scheduler plan

.PHONY: demo test test-slow test-batch soak lint bench clean

# Made anew when what it should hold changes: the core first, what tests and lint need on top.
$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.learn: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --editable '.[learn]'
	@touch $@

$(VENV)/.installed: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --editable '.[bench,learn,test,dev]'
	@touch $@

demo: $(VENV)/.learn
	$(BIN)/tomodask demo --output demo

test: $(VENV)/.installed
	$(PYTEST) -n 2 --dist loadfile

test-slow: $(VENV)/.installed
	$(PYTEST) -m slow

test-batch: $(VENV)/.installed
	$(PYTEST) -m "batch and not slow"

soak: $(VENV)/.installed
	$(PYTEST) -m soak

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	@for name in $(BENCHMARKS); do \
	  if [ -f benchmarks/$$name.py ]; then \
	    echo "== $$name"; \
	    $(BIN)/python benchmarks/$$name.py --output benchmarks/results/$$name.json || exit 1; \
	  fi; \
	done
	$(BIN)/python benchmarks/plot.py
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
