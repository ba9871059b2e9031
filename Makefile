# `make demo` and `make test` set everything up in .venv and can be run again at any time.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 7860
export GRADIO_ANALYTICS_ENABLED := False
export TOKENIZERS_PARALLELISM := false

.PHONY: demo demo-build test test-slow lint clean

demo: demo-build
	$(BIN)/talkplay serve demo/model --port $(PORT)

demo-build: $(STAMP)
	@test -f demo/catalog/manifest.json || { \
	  echo "The demo world and its model are made once; this takes a few minutes."; \
	  $(BIN)/talkplay world demo/catalog --tracks 300; }
	$(BIN)/talkplay build demo/catalog demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV): once, about two minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist
