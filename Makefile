# `make help` lists the targets. HOST and PORT (and every other setting, see .env.example) come from the environment:
# `make run PORT=9000`.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
PIP_COMPILE := $(VENV_PYTHON) -m piptools compile --quiet --allow-unsafe --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-browser pictures test-run race attack faults machines connections soak bench bench-arbiter bench-pages bench-relay lint translations requirements check-python installed \
	installed-dev

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

run: check-python  ## install what is missing, then run the gateway (HOST, PORT; Ctrl-C stops it)
	@$(PYTHON) gateway_project/installation.py run
	@exec $(VENV_PYTHON) -m gateway_project.supervisor

test: installed-dev  ## run the tests on an embedded PostgreSQL (or TEST_DATABASE_URL, TEST_BROKER_URL); ARGS="-k name"
	@exec $(VENV_PYTHON) -m pytest -n auto --dist worksteal -m "not slow and not long and not browser" $(ARGS)

test-long: installed-dev  ## run the tests that take many seconds each; ARGS="-k name"
	@exec $(VENV_PYTHON) -m pytest -n auto --dist worksteal -m "long and not slow" $(ARGS)

test-browser: installed-dev  ## test the pages in Chromium (Debian: apt-get install chromium); ARGS="-k name"
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "Chromium is missing: apt-get install chromium" >&2; exit 2; }
	@exec $(VENV_PYTHON) -m pytest -n 2 --dist worksteal -m browser $(ARGS)

pictures: installed-dev  ## make the pictures of docs/tour.md again, from a walk through the pages in Chromium
	@PICTURES_DIR=docs/pictures $(VENV_PYTHON) -m pytest -q -p no:randomly -m browser tests/admin/test_walks.py

test-run: installed-dev  ## test `make run` itself, from a copy of the checkout (minutes)
	@exec $(VENV_PYTHON) -m pytest -m slow --ignore tests/faults $(ARGS)

race: installed-dev  ## test crashes, budgets and failing providers under load (minutes)
	@$(VENV_PYTHON) -m pytest -m slow tests/faults -rP $(ARGS)
	@STATEFUL_EXAMPLES=300 SCHEMATHESIS_TIMES=20 $(VENV_PYTHON) -m pytest -n auto --dist worksteal \
		tests/money/test_budgets_stateful.py tests/docs/test_schemathesis.py tests/rest/test_document.py

attack: installed-dev  ## attack a gateway, and measure what its other customers notice (ARGS="--only 7,9"; minutes)
	@exec $(VENV_PYTHON) -m attacks $(ARGS)

faults: installed-dev  ## break one part after the other under load, and judge what is left (ARGS="--seconds 60 --only NAME"; as root; 20 minutes)
	@exec $(VENV_PYTHON) -m reliability.faults $(ARGS)

machines: installed-dev  ## two machines on one database: do they agree, and does an upgrade lose a call? (as root; minutes)
	@exec $(VENV_PYTHON) -m reliability.machines $(ARGS)

connections: installed-dev  ## 10,000 slow connections and 200 large bodies at once: memory, and paying callers (as root; minutes)
	@exec $(VENV_PYTHON) -m reliability.connections $(ARGS)

soak: installed-dev  ## half of capacity for hours: memory, files, holds, overhead (ARGS="--minutes 120"; as root)
	@exec $(VENV_PYTHON) -m reliability.soak $(ARGS)

bench: installed-dev  ## measure the CPU of a call, step by step
	@exec $(VENV_PYTHON) bench/micro.py

bench-arbiter: installed-dev  ## measure the arbiter's cost in the database, in microseconds per call (ARGS="--beside FOLDER"; minutes)
	@exec $(VENV_PYTHON) bench/arbiter.py $(ARGS)

bench-pages: installed-dev  ## how fast pages are among 400,000 keys and 10 million calls (ARGS="--server URL"; an hour)
	@exec $(VENV_PYTHON) bench/pages.py $(ARGS)

bench-relay: installed-dev  ## how little the relay notices of guessed passwords and exports (ARGS="--rounds 3"; 15 minutes)
	@exec $(VENV_PYTHON) -m attacks.relay $(ARGS)

lint: installed-dev  ## ruff, its format check, and mypy on everything
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy .

translations: installed-dev  ## compile the catalogues after a change to them (a test names missing translations)
	@$(VENV_PYTHON) -m babel.messages.frontend --quiet compile --domain django --directory messages_api/locale
	@$(VENV_PYTHON) -m babel.messages.frontend --quiet compile --domain django --directory usage/locale

requirements: installed-dev  ## compile the requirements files from the .in files, with hashes (ARGS=--upgrade)
	$(PIP_COMPILE) $(ARGS) --output-file=requirements.txt requirements.in
	$(PIP_COMPILE) $(ARGS) --output-file=requirements-dev.txt requirements-dev.in

installed-dev: check-python
	@$(PYTHON) gateway_project/installation.py develop

check-python:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install python3 (3.11 or newer) and python3-venv." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version 2>&1); run: make PYTHON=python3.11 …" >&2; exit 2; }
