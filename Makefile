# Needs make and Python 3.11 or newer; everything else goes into .venv.

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
# Another interpreter: make PYTHON=/path/to/python test
PYTHON ?=
ARGS   ?=
# As pip does: trust what the machine trusts, or uv fails behind a proxy that signs by itself. Where the machine
# has no certificates, uv's own are left in force.
CERTIFICATE_STORES := /etc/ssl/certs/*.crt /etc/ssl/certs/*.pem /etc/ssl/cert.pem \
  /etc/pki/tls/certs/*.crt /etc/pki/ca-trust/extracted/pem/*.pem /System/Library/Keychains/*
export UV_SYSTEM_CERTS ?= $(if $(wildcard $(CERTIFICATE_STORES)),1,0)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install test lint format demo bench image lock helm-check clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

install: $(STAMP) ## Build .venv with the guardian, the sandbox and the test tools

test: $(STAMP) ## Run the tests (ARGS="-k settle" picks some)
	$(BIN)/pytest -n 3 --dist loadfile $(ARGS)

lint: $(STAMP) ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP) ## Lose a payment without the guardian and keep it with it
	$(BIN)/guardian demo $(ARGS)

bench: $(STAMP) ## Measure settles per second beside other proxies
	$(BIN)/python bench/settle.py $(ARGS)

image: ## Build the container image with buildah, and try it
	@image/build

lock: $(STAMP) ## Pin the image's packages anew, with hashes
	cd image && for one in ../pyproject.toml:requirements build-requirements.in:build-requirements; do \
	  $(abspath $(BIN))/uv pip compile --quiet --upgrade --universal --python-version 3.13 --generate-hashes \
	    --no-annotate --custom-compile-command 'make lock' --output-file $${one#*:}.txt $${one%:*} || exit 1; \
	done

helm-check: $(STAMP) ## Fetch helm and promtool, and test the chart with them
	@helm/tools .cache/tools/bin
	$(BIN)/uv pip install --quiet --python $(BIN)/python kubernetes-validate==1.37.0
	$(BIN)/pytest -rs tests/deploy $(ARGS)

clean: ## Remove .venv and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .sandbox dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml Makefile
	@set -e; \
	usable() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	found=; bare=; \
	for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 python); do \
	  usable "$$candidate" || continue; \
	  if "$$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  bare=$$candidate; \
	done; \
	if [ -z "$$found$$bare" ]; then \
	  version=$$($(or $(PYTHON),python3) --version 2>/dev/null || echo none); \
	  echo "make: needs Python 3.11 or newer; found $$version." >&2; \
	  echo "make: install one, or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; \
	  exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "make: $$bare cannot make virtual environments: it has no venv or no ensurepip module." >&2; \
	  echo "make: on Debian and Ubuntu, 'apt install python3-venv' brings them." >&2; \
	  exit 1; \
	fi; \
	if ! usable $(BIN)/python; then rm -rf $(VENV); "$$found" -m venv $(VENV); fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[test]'
	@touch $@
