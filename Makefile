# Two commands set everything up: `make run` (a run's needs, then the recipe `sample`) and `make test` (the developers'
# tools too, then all tests). What is there already is neither fetched nor built again. `make help` lists the rest.

PYTHON ?= python3.11
CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/polylm
BIN    := .venv/bin
# The stamps carry what they stand for: the folder (a .venv cannot be moved) and the files that say what is installed.
PLACE  := $(shell echo "$(CURDIR)" | cksum | cut -d ' ' -f 1)
DIGEST := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)-$(PLACE)
EXTRA  ?=
MADE   := .venv/.made-$(PLACE)
STAMP   = .venv/.installed-$(EXTRA)$(DIGEST)

# The folder `kernels/` must not be importable by its bare name: transformers looks for a package of that name.
export PYTHONSAFEPATH := 1
export NUMBA_CACHE_DIR := $(CACHE)/numba
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME

.PHONY: help run install test check format bench agreement goldens rules torture clean system packages cache

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: install ## set up, then run the recipe `sample` as a Prefect flow
	@$(BIN)/polylm run sample --prefect

install: ## set up what a run needs: packages, models, KenLM's programs
	@$(MAKE) --no-print-directory -j2 packages cache

test: ## set up, with the developers' tools, then run all tests (ARGS='-k name' narrows)
	@$(MAKE) --no-print-directory install EXTRA=dev
	@code=0; \
	tests() { $(BIN)/pytest "$$@" $(ARGS) || { c=$$?; [ $$c = 5 ] || code=$$c; }; }; \
	tests -n 2 -m "not serial"; \
	tests -m serial; \
	exit $$code # 5 is pytest's "no test was selected"

check: ## format, lint and types
	@$(MAKE) --no-print-directory packages EXTRA=dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p polylm
	$(BIN)/mypy setup

format: ## put the code into its format, and mend what the linter can
	@$(MAKE) --no-print-directory packages EXTRA=dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: ## run one comparison: make bench ONLY=name
	@test -f "benchmarks/$(ONLY).py" || \
	  { echo "make bench ONLY=name; names: $$(ls benchmarks | sed -n 's/\.py$$//p' | xargs)" >&2; exit 2; }
	@$(MAKE) --no-print-directory install EXTRA=dev
	@PYTHONPATH=benchmarks $(BIN)/python -P benchmarks/$(ONLY).py

agreement: ## our verdicts against datatrove's recorded ones: make agreement GOLDENS=FILE [DATA=FOLDER]
	@test -n "$(GOLDENS)" || { echo "make agreement GOLDENS=FILE [DATA=FOLDER] [RAW=1]: a file of datatrove's answers, such as" \
	  "tests/data/datatrove_filters.jsonl.gz, and where the texts lie that are not in it" >&2; exit 2; }
	@$(MAKE) --no-print-directory packages
	@PYTHONPATH=benchmarks $(BIN)/python -P -m agreement "$(GOLDENS)" $(if $(DATA),--data "$(DATA)") $(if $(RAW),--raw)

goldens: ## write tests/goldens.json anew, after a stage's version was raised
	@$(MAKE) --no-print-directory install EXTRA=dev
	@PYTHONPATH=tests/helpers $(BIN)/python -m goldens

rules: ## write docs/rules.md anew from the code
	@$(MAKE) --no-print-directory packages
	@$(BIN)/python -P -m polylm.tasks.corpus.rules_page > docs/rules.md.new && mv docs/rules.md.new docs/rules.md

torture: install ## treat stores badly and see that nothing is lost; hours (ONLY=inputs,damage,hardship,kills KILLS=200 SEED=0)
	@PYTHONPATH=tests/helpers:benchmarks $(BIN)/python -P -m torture

clean: ## remove what builds and tools leave; .venv, store/ and the cache folder stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

system:
	@sh setup/system.sh $(PYTHON) $(EXTRA)

# pip's script is written last and names its folder: a half-made .venv, or one from elsewhere, is made anew.
$(MADE): | system
	@grep -qsF "$(CURDIR)/.venv/bin/python" .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	@touch $@

$(STAMP): | $(MADE)
	@echo "set-up: installing the packages into .venv, 3-5 minutes when none is cached" >&2
	@$(BIN)/python -m pip install --quiet --editable ".$(if $(EXTRA),[$(EXTRA)])" --constraint constraints.txt
	@touch $@ .venv/.installed-$(DIGEST)

packages: $(STAMP)

cache: | $(MADE)
	@$(BIN)/python setup/fill_cache.py
