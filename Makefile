# Wherry: `make run` shows real containers on this machine, `make test` passes all tests.
#
#   make setup        install what is missing (Debian packages, .venv); run by make run
#   make run          start the engine, make images, run the demo; DEBIAN=1 also makes debian:bookworm
#   make stop         end that engine (containers live on, unless KILL=1)
#   make setup-test   what the tests need on top (Debian's docker.io, without its service); run by make test
#   make test         all tests, in two processes; ARGS="tests/conformance -k WAI" for some, WORKERS=0 for one process
#   make vm-test      the tests in a virtual machine with systemd and cgroup v2; ARGS="--suite trixie" for Debian 13: docs/vm.md
#   make rules        which rules of behaviour hold, and where: docs/rules.md
#   make check        format, lint, types, import rules
#   make fuzz         odd input under hypothesis for as long as you like: EXAMPLES=20000 of each test
#   make fuzz-api     every operation of the published description under schemathesis: EXAMPLES=200 of each
#   make soak         10 GB of log, archives of 4 GiB, 100 attachments and more: memory and ping (25 GB of disk)
#   make bench        Wherry beside dockerd and bare crun

SHELL := /bin/bash
PYTHON := .venv/bin/python
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
ARGS ?=
WORKERS ?= 2

export WHERRY_SOCKET ?= /run/wherry/wherry.sock
export WHERRY_DATA_ROOT ?= /var/lib/wherry
export WHERRY_EXEC_ROOT ?= /run/wherry

.PHONY: setup run stop setup-test test vm-test rules check fuzz fuzz-api soak bench

setup:
	@scripts/setup.sh $(if $(DEBIAN),debian)

run: setup
	@$(SUDO) $(PYTHON) scripts/run.py start $(if $(DEBIAN),--debian)

stop:
	@$(SUDO) $(PYTHON) scripts/run.py stop $(if $(KILL),--stop-containers)

setup-test:
	@scripts/setup-test.sh

test: setup-test
	$(SUDO) $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

vm-test:
	@scripts/vm/setup.sh
	@$(SUDO) python3 -m scripts.vm.run $(ARGS)

rules: setup-test
	$(SUDO) $(PYTHON) scripts/rules.py $(ARGS)

check:
	@scripts/setup.sh dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

fuzz: setup-test
	$(SUDO) env WHERRY_FUZZ=$(or $(EXAMPLES),20000) $(PYTHON) -m pytest tests/fuzz --timeout 0 --deselect tests/fuzz/test_fuzz_description.py $(ARGS)

fuzz-api: setup-test
	$(SUDO) env WHERRY_FUZZ_API=$(or $(EXAMPLES),200) $(PYTHON) -m pytest tests/fuzz/test_fuzz_description.py $(ARGS)

soak: setup-test
	$(SUDO) $(PYTHON) -m benchmarks.soak $(ARGS)

bench: setup-test
	$(SUDO) $(PYTHON) benchmarks/bench.py $(ARGS)
	@for what in streams listing archive unpack pull client memory build; do \
		echo; echo "== $$what"; $(SUDO) $(PYTHON) -m benchmarks.$$what $(filter --short,$(ARGS)) || exit 1; done
