# Everything a fresh machine with Python 3.11 and make needs is installed by these targets, into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := --no-deps --require-hashes
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --overrides requirements/overrides.txt
# For the image of a GPU machine, which is a Linux of a known kind and lacks nothing.
COMPILE_GPU := $(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-header

.PHONY: demo test chaos fuzz million check install system bench lock clean

demo: system .venv/.demo  ## answer the example workbook with the demo model
	$(BIN)/kotae run examples/questions.xlsx -o demo.xlsx --model demo --max-tokens 128 --enforce-format

test: system check  ## every check and every test
	$(BIN)/python -m pytest

chaos: system .venv/.dev  ## every fault at full size, an hour; the figures go to chaos.jsonl
	KOTAE_CHAOS=long KOTAE_CHAOS_TABLE=$(CURDIR)/chaos.jsonl $(BIN)/python -m pytest -n0 --timeout 3000 tests/chaos

fuzz: system .venv/.dev  ## ten minutes of damaged workbooks, other ones each time; findings are kept in fuzz-findings
	KOTAE_FUZZ=$${KOTAE_FUZZ:-600} KOTAE_FUZZ_SEED=$${KOTAE_FUZZ_SEED:-$$(date +%s)} KOTAE_FUZZ_FINDINGS=$(CURDIR)/fuzz-findings \
		$(BIN)/python -m pytest -n0 -s tests/fuzz

million: .venv/.dev  ## a million rows through the echo engine, an hour and a half on two cores
	$(BIN)/python -m benchmarks.echo_rows --rows 1000000 --workers 2 --window 20000 --delay 0.1

check: .venv/.dev  ## style, types, arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache

install: .venv/.dev  ## everything that demo, test and check need

bench: .venv/.dev  ## Kotae against offline vLLM, on this machine
	$(BIN)/python -m benchmarks.engine_overhead

system: requirements/apt.txt  ## what tests need from Debian, where we may install it (services are not started); tests that lack it skip by name
	@missing=$$(grep -v '^#' $< | xargs -r -n1 sh -c 'dpkg -s "$$0" >/dev/null 2>&1 || echo "$$0"'); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		if [ ! -e /usr/sbin/policy-rc.d ]; then \
			printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; trap 'rm /usr/sbin/policy-rc.d' EXIT; fi; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; fi

lock: .venv/.dev  ## pin again what pyproject.toml asks for
	$(PIP) install --quiet uv
	$(COMPILE) --extra cpu pyproject.toml requirements/torch.in -o requirements/demo.txt
	$(COMPILE) --extra cpu --extra dev --extra monitoring pyproject.toml requirements/torch.in -c requirements/demo.txt -o requirements/dev.txt
	$(COMPILE) requirements/build.in -c requirements/demo.txt -o requirements/build.txt
	$(COMPILE) pyproject.toml -c requirements/demo.txt -o requirements/base.txt
	$(COMPILE) --extra monitoring pyproject.toml -c requirements/base.txt -o requirements/hub.txt
	$(COMPILE_GPU) --extra gpu pyproject.toml -c requirements/base.txt -o requirements/gpu.txt

clean:
	rm -rf .venv .kotae build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python requirements/demo.txt requirements/torch.txt pyproject.toml
	$(PIP) install --quiet $(LOCKED) -r requirements/demo.txt
	$(PIP) install --quiet -r requirements/torch.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.demo requirements/dev.txt
	$(PIP) install --quiet $(LOCKED) -r requirements/dev.txt
	@touch $@
