PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON)),)
PYTHON = python3
endif

# Tests run in two processes, a file in one of them.
TWICE = -n 2 --dist loadfile

.PHONY: venv venv-timm demo check test lint fix clean

venv: .venv/runtime

# What a card with kind = "timm" needs as well.
venv-timm: .venv/timm

demo: .venv/runtime
	.venv/bin/python -m demo.run

# Under a minute: what to run while writing.
check: lint
	.venv/bin/python -m pytest $(TWICE) -m "not slow"

test: lint
	.venv/bin/python -m pytest $(TWICE)

lint: .venv/development
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

fix: .venv/development
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	@echo "installing the packages of requirements.txt: this takes some minutes"
	.venv/bin/pip install --quiet -r requirements.txt
	touch $@

.venv/development: .venv/runtime requirements-dev.txt
	.venv/bin/pip install --quiet -r requirements-dev.txt
	touch $@

.venv/timm: .venv/runtime requirements-timm.txt
	.venv/bin/pip install --quiet -r requirements-timm.txt
	touch $@

clean:
	rm -rf .venv demo/data .mypy_cache .ruff_cache .pytest_cache .hypothesis
