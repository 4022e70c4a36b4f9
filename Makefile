# `make help` lists the targets. HOST and PORT (and every other setting, see .env.example) come from the environment:
# `make run PORT=9000`.

PYTHON ?= python3
# The validator of FOCUS needs a Python 3.12.
FOCUS_PYTHON ?= python3.12
VENV_PYTHON := .venv/bin/python
PIP_COMPILE := $(VENV_PYTHON) -m piptools compile --quiet --allow-unsafe --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-browser test-image pictures focus test-run race attack faults machines \
	connections soak bench bench-micro bench-arbiter bench-pages bench-relay lint sbom audit release \
	translations requirements check-python installed \
	installed-dev

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

run: check-python  ## install what is missing, then run the gateway (HOST, PORT; Ctrl-C stops it)
	@$(PYTHON) gateway_project/installation.py run
	@exec $(VENV_PYTHON) -m gateway_project.supervisor

test: installed-dev  ## run the tests on an embedded PostgreSQL (or TEST_DATABASE_URL, TEST_BROKER_URL); ARGS="-k name"
	@exec $(VENV_PYTHON) -m pytest -n auto --dist worksteal -m "not slow and not long and not browser and not image" $(ARGS)

test-long: installed-dev  ## run the tests that take many seconds each; ARGS="-k name"
	@exec $(VENV_PYTHON) -m pytest -n auto --dist worksteal -m "long and not slow" $(ARGS)

test-browser: installed-dev  ## test the pages in Chromium (Debian: apt-get install chromium); ARGS="-k name"
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "Chromium is missing: apt-get install chromium" >&2; exit 2; }
	@exec $(VENV_PYTHON) -m pytest -n 2 --dist worksteal -m browser $(ARGS)

test-image: installed-dev  ## run the Dockerfile's steps and the roles from what they make, render the chart, have nginx and systemd read their files (as root; minutes; a failing test names missing packages)
	@exec $(VENV_PYTHON) -m pytest -m image -rP tests/deploy $(ARGS)

pictures: installed-dev  ## make the pictures of docs/tour.md and docs/finance-month.md again, from walks in Chromium
	@PICTURES_DIR=docs/pictures $(VENV_PYTHON) -m pytest -q -p no:randomly -m browser tests/admin/test_walks.py \
		tests/admin/test_finance_month.py

focus: installed-dev  ## check exports with the FinOps Foundation's validator and LibreOffice (FOCUS_PYTHON=python3.12)
	@test -x var/focus/bin/focus-validator || { $(FOCUS_PYTHON) -m venv var/focus && \
		var/focus/bin/python -m pip install --quiet focus-validator==2.2.1 'pyarrow<20'; }
	@FOCUS_VALIDATOR=$(CURDIR)/var/focus/bin/focus-validator $(VENV_PYTHON) -m pytest -q -m long tests/billing/test_other_programs.py $(ARGS)

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

bench: installed-dev  ## compare with nginx, Portkey and LiteLLM on two cores (ARGS="--quick --busy"; half an hour)
	@exec $(VENV_PYTHON) -m bench.beside $(ARGS)

bench-micro: installed-dev  ## measure the CPU of a call, step by step
	@exec $(VENV_PYTHON) bench/micro.py

bench-arbiter: installed-dev  ## measure the arbiter's cost in the database, in microseconds per call (ARGS="--beside FOLDER"; minutes)
	@exec $(VENV_PYTHON) bench/arbiter.py $(ARGS)

bench-pages: installed-dev  ## how fast pages are among 400,000 keys and 10 million calls (ARGS="--server URL"; an hour)
	@exec $(VENV_PYTHON) bench/pages.py $(ARGS)

bench-relay: installed-dev  ## how little the relay notices of guessed passwords and exports (ARGS="--rounds 3"; 15 minutes)
	@exec $(VENV_PYTHON) -m attacks.relay $(ARGS)

lint: installed-dev  ## ruff, its format check, mypy on everything, and hadolint
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy .
	@.venv/bin/hadolint Dockerfile

sbom: installed-dev  ## write the bill of materials (CycloneDX) from the pinned requirements (SBOM=file)
	@$(VENV_PYTHON) deploy/sbom.py $(or $(SBOM),sbom.json)

audit: installed-dev  ## ask public advisories about the pinned requirements (AUDIT=required: fail if they can't be reached)
	@$(VENV_PYTHON) deploy/audit.py

release: installed-dev  ## build the sdist and the wheel, the same bytes each time, and check them (RELEASE=folder)
	@$(VENV_PYTHON) deploy/release.py $(or $(RELEASE),dist)

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
