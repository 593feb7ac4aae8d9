# The ways into keyreid; `make` alone lists them. Needs GNU make, git and Python 3.11 or newer.
#
#   make demo ARGS="-p epochs 2"           parameters for the notebook that runs
#   make test ARGS="ruff clean"            only these checks
#   make test PYTHON=/opt/python3.12/bin/python3     the Python that .venv is made of

PYTHON ?=
ARGS ?=

.PHONY: help demo test docs lab clean quarto
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

demo: .venv/.installed-book ## train a small model on synthetic walkers and show how it ranks people
	.venv/bin/keyreid runs execute nbs/experiments/quickstart.ipynb --out _runs/quickstart $(ARGS)

test: .venv/.installed-dev ## run every check: style, export, notebooks, tests, experiments, pages
	.venv/bin/python tests/check.py $(ARGS)

lab: .venv/.installed-lab ## open the book in JupyterLab
	.venv/bin/jupyter-lab nbs/index.ipynb $(ARGS)

docs: quarto .venv/.installed-lab ## draw the book as a web site in _docs (needs Quarto)
	PATH="$(CURDIR)/.venv/bin:$$PATH" nbdev-docs $(ARGS)
	@echo "The book is drawn: open _docs/index.html"

clean: ## remove .venv and what tools left behind; data, settings, .cache and runs stay
	rm -rf .venv _proc _docs .pytest_cache .ruff_cache .hypothesis keyreid.egg-info
	rm -f nbs/nbdev.yml nbs/sidebar.yml nbs/.last_checked
	find nbs keyreid tests \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

quarto:
	@command -v quarto >/dev/null || { \
	  echo "make docs: the program quarto, which draws the pages, is not installed." \
	    "Get version 1.9 or newer from https://quarto.org/docs/get-started (Debian and Ubuntu:" \
	    "download the .deb, then sudo apt install ./quarto-*.deb; macOS: brew install quarto;" \
	    "Windows: winget install Posit.Quarto), then run make docs again"; exit 1; }

# One folder .venv for everything. A stamp says which extra of pyproject.toml is installed in it;
# dev contains lab, and lab contains book. Versions come from constraints.txt, so that two machines get the same.
.venv/.installed-%: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing keyreid[$*] into .venv: two minutes and 6 GB on a fast line, once"
	.venv/bin/python -m pip install --no-user --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$*]'
	@touch $(addprefix .venv/.installed-,$(if $(filter dev,$*),lab) $(if $(filter dev lab,$*),book) $*)

.venv/bin/python:
	@for python in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11 python3.14); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv && exit 0; \
	    rm -rf .venv; \
	    echo "make: $$python cannot make a virtual environment (see above);" \
	      "on Debian or Ubuntu: apt install python3-venv"; exit 1; \
	  fi; \
	done; \
	echo "make: keyreid needs Python 3.11 or newer, but $(or $(PYTHON),python3) is" \
	  "$$($(or $(PYTHON),python3) --version 2>/dev/null || echo missing);" \
	  "install a newer one, or name it: make PYTHON=/path/to/python3.12"; exit 1
