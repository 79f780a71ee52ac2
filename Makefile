# The verbs of this project. `make` alone lists them; each one sets up what it needs first.
.DEFAULT_GOAL := help
.PHONY: help run test check tune evaluate bench browser clean
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
# Stamps lie inside the environment, so that they go when it goes.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.installed-with-tests
TUNES := $(VENV)/.installed-with-tuning
BENCHES := $(VENV)/.installed-with-bench
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
ARGS ?=

help: ## list the verbs
	@echo "Marginalia: a chat you can see through."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## start the app; pass flags as in: make run ARGS="--port 8000"
	@$(BIN)/python app.py $(ARGS)

test: check browser ## check everything: style, types and all tests
	@echo "Running the tests."
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

tune: $(TUNES) ## train the default model's adapter from nothing (minutes on a GPU, days without); ARGS="--ship" puts it into the package
	@$(BIN)/python app.py tune $(ARGS)

evaluate: $(INSTALLED) ## judge a model by the held-out stories (minutes); pass ARGS="--model smollm2-base"
	@$(BIN)/python app.py evaluate $(ARGS)

bench: $(BENCHES) browser ## measure the engine beside llama.cpp and transformers
	@PYTHONPATH=tests $(BIN)/python tests/bench/run.py $(ARGS)

check: $(TESTED) ## check style and types only
	@echo "Checking style and types."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy app.py

browser: # the browser that the page's tests drive
	@if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium, which the page's tests drive."; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else \
		echo "The page's tests drive Chromium, which is not here. Install it with your system's package manager."; \
	fi

clean: ## remove the environment and every cache; the data folder stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

$(MADE):
	@for python in "$${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		echo "Making $(VENV) with $$("$$python" --version)."; \
		"$$python" -m venv --clear $(VENV) && touch $@ && exit 0; \
		echo "Python's venv module does not work here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; \
	done; \
	echo "Marginalia needs Python 3.11 or later, and there is none on the PATH. Install one, or name it:"; \
	echo "  make PYTHON=/where/it/is/python3"; exit 1

$(INSTALLED): $(MADE) pyproject.toml constraints.txt
	@echo "Installing what running needs. The first time this takes some minutes."
	@$(PIP) -e .
	@touch $@

$(TUNES): $(MADE) pyproject.toml constraints.txt
	@echo "Installing what running and tuning need. The first time this takes some minutes."
	@$(PIP) -e ".[tuning]"
	@touch $(INSTALLED) $@

$(BENCHES): $(MADE) pyproject.toml constraints.txt
	@echo "Installing what the benchmark needs. llama.cpp is compiled, which takes minutes."
	@$(PIP) -e ".[bench]"
	@touch $(INSTALLED) $@

$(TESTED): $(MADE) pyproject.toml constraints.txt
	@echo "Installing what running and testing need. The first time this takes some minutes."
	@$(PIP) -e ".[test]"
	@touch $(INSTALLED) $@
