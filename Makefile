PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON)),)
PYTHON = python3
endif

.PHONY: demo test clean

demo: .venv/runtime
	.venv/bin/python -m demo.run

test: .venv/development
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -r requirements.txt
	touch $@

.venv/development: .venv/runtime requirements-dev.txt
	.venv/bin/pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv demo/data
