# Everything a developer types. `make` alone lists it. Needs python3 (3.11 or newer, with venv) and make; uv is used when it is there.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TEST_WORKERS ?= 2
SOAK_FOR ?= 8h

.DEFAULT_GOAL := help
.PHONY: help setup demo test check serve bench lock chaos soak mutants audit clean

help: ## list these targets
	@awk -F ': .*## ' '/^[a-z]+:.*## /{sub(/:.*/, "", $$1); printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything that requirements.lock pins, checked by hash

demo: $(STAMP) ## replay recorded San Francisco trips through the real server (DEMO_ARGS="--for 60s --json demo.json")
	@exec $(PY) -m bench demo $(DEMO_ARGS)

test: $(STAMP) ## run the whole test suite against real stores that it starts itself (TEST_ARGS="-k accept")
	@exec $(PY) -m pytest -n $(TEST_WORKERS) --dist worksteal $(TEST_ARGS)

check: $(STAMP) ## formatting, lint, types and the rules of the house
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/tidy

serve: $(STAMP) ## run the server alone (SERVE_ARGS="--workers 2 --port 8080")
	@exec $(PY) -m dispatch serve $(SERVE_ARGS)

bench: $(STAMP) ## measure everything shortly, with a report (BENCH_ARGS="offers --json offers.json" runs one scenario in full)
	@exec $(PY) -m bench $(or $(BENCH_ARGS),all --short)

lock: ## renew requirements.lock after a change of pyproject.toml; needs uv (LOCK_ARGS=--upgrade takes newer versions)
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra embedded --extra demo --extra bench --extra dev $(LOCK_ARGS) --quiet pyproject.toml -o requirements.lock

chaos: $(STAMP) ## ten minutes of real processes under a seeded nemesis (CHAOS_ARGS="--seed 7 --json chaos.json")
	@exec $(PY) -m bench chaos --for 10m $(CHAOS_ARGS)

soak: $(STAMP) ## the same for hours (SOAK_FOR=8h)
	@exec $(PY) -m bench chaos --for $(SOAK_FOR) $(CHAOS_ARGS)

mutants: $(STAMP) ## twelve mistakes made on purpose: each must be caught
	MUTANTS_JSON=bench/results/faults/mutants.json $(PY) -m pytest -n 0 tests/mutants

audit: ## look up every pinned version in the advisory databases; needs the internet and uv
	uvx pip-audit --require-hashes --disable-pip -r requirements.lock

clean: ## remove what make made, but not .data
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv that does not run any more (its Python moved or is too old) is made anew. No build isolation and no index for our
# own package: setuptools comes from the lock, so this step fetches nothing.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || rm -rf $(VENV)
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "installing what requirements.lock pins into $(VENV)"
	@{ uv --version >/dev/null 2>&1 && uv pip install --quiet --python $(PY) --require-hashes -r requirements.lock 2>/dev/null; } || \
		$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@
