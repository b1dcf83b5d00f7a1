# Every target sets up .venv where it is missing or out of date.
BOARD ?= xu3
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.powerband-ready

.PHONY: setup train test test-slow test-arm check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Powerband needs Python 3.11 or newer")'
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[lab,dev]"
	touch $@

train: setup
	$(PY) experiments/train_agent.py --board $(BOARD)

# file by file, since the tests of one share what it made, and in the order of the files: else the longest test, one of
# few in its file, would start last
test: check
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PYTHONPATH=. .venv/bin/lint-imports

test-slow: setup
	$(PY) -m pytest -m slow -rs

test-arm: setup
	$(PY) -m pytest tests/arm -m arm -rs

bench: setup
	$(PY) -m pytest tests/bench -m bench -s

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
