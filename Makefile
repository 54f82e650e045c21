# make            lists the commands
# make run        the main job on the embedded default: SQLite and a local mail folder
# make test       the tests; everything they need is set up first
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# The instant of the sample feeds. With FEEDS=... (a URL, file or folder) the real time is used unless NOW is given.
SAMPLE_NOW := 2026-11-20T04:00:00Z
FEEDS ?=
NOW ?= $(if $(FEEDS),,$(SAMPLE_NOW))

.DEFAULT_GOAL := help
.PHONY: help run test test-shared test-browser test-magazine test-mails lint check format messages cover bench bench-delivery bench-events bench-kill bench-picks bench-preview bench-web preview gallery clean

help:
	@echo "make run       pick, make up and send all nine newsletters into outbox/ (FEEDS=... takes real feeds)"
	@echo "make preview   a local page of every newsletter and variant"
	@echo "make gallery   pictures of all nine into docs/gallery (FEEDS=... NOW=... OUT=... of other feeds, elsewhere)"
	@echo "make test      the tests, on SQLite and, where one runs, PostgreSQL"
	@echo "make test-browser   the readers' journey in Chromium, where one is installed"
	@echo "make test-magazine  the magazine's PDF and EPUB, checked by epubcheck"
	@echo "make test-mails     every mail of the samples, by html-validate and SpamAssassin"
	@echo "make check     format, lint, types, imports"
	@echo "make cover     coverage, to read for holes"
	@echo "make bench     the measured ratios (make bench-delivery: a million readers; bench-events: a million events; bench-web: the pages under load; bench-preview: a save until it is seen; bench-picks: stories and picks on real days; bench-kill: a hundred kills)"
	@echo "make messages  bring the catalogues of the readers' languages up to date"
	@echo "make clean     remove what make run made (asks nothing, keeps .venv)"

$(BIN)/newsletter: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is needed; name yours with PYTHON=..."; exit 1; }
	@echo "Setting up $(VENV) (once)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# What a target needs beyond the program. The program is only there before: putting in another extra renews it.
EXTRAS := $(addprefix $(VENV)/.,dev browser magazine bench)
$(EXTRAS): $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/newsletter
	@echo "Setting up what [$*] needs (once)…"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@

run: $(BIN)/newsletter
	@$(BIN)/newsletter subscribers import samples/subscribers.csv $(if $(NOW),--now $(NOW))
	@$(BIN)/newsletter run --all $(if $(FEEDS),--from $(FEEDS)) $(if $(NOW),--now $(NOW)) || test $$? -eq 3
	@echo
	@echo "The mails are in outbox/ (open one with any mail program). Next, try:"
	@echo "  $(BIN)/newsletter picks today $(if $(NOW),--now $(NOW))      why each story was chosen or dropped"
	@echo "  $(BIN)/newsletter preview $(if $(NOW),--now $(NOW))          every newsletter and variant on one page"
	@echo "  $(BIN)/newsletter audit today                                the proof that nobody was forgotten"

preview: $(BIN)/newsletter
	@$(BIN)/newsletter collect $(FEEDS) $(if $(NOW),--now $(NOW)) >/dev/null
	@$(BIN)/newsletter preview $(if $(NOW),--now $(NOW))

gallery: $(VENV)/.dev
	@$(BIN)/python -m bench.gallery $(if $(FEEDS),--from "$(FEEDS)" --now $(NOW) --out $(or $(OUT),gallery))

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-shared: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m shared

test-browser: $(VENV)/.dev $(VENV)/.browser
	@$(BIN)/python -m pytest -q -n 2 -m browser tests/browser $(if $(JOURNEYS),-k "$(JOURNEYS)")

test-magazine: $(VENV)/.dev $(VENV)/.magazine
	@$(BIN)/python -m pytest -q -p no:xdist tests/magazine

.node/.made: tests/mails/package.json
	@command -v npm >/dev/null || { echo "npm is needed: install Node 20 or newer"; exit 1; }
	@mkdir -p .node && cp tests/mails/package.json .node/
	@npm install --prefix .node --silent --no-package-lock --no-audit --no-fund --ignore-scripts
	@touch $@

test-mails: $(VENV)/.dev .node/.made
	@command -v spamassassin >/dev/null || { echo "SpamAssassin is needed: apt-get install spamassassin"; exit 1; }
	@$(BIN)/python -m pytest -q -p no:xdist tests/mails

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check newsletter tests bench scheduler.py
	@$(BIN)/ruff check newsletter tests bench scheduler.py
	@$(BIN)/mypy

check: lint
	@$(BIN)/python -m pytest -q -p no:randomly tests/test_architecture.py

format: $(VENV)/.dev
	@$(BIN)/ruff format newsletter tests bench scheduler.py
	@$(BIN)/ruff check --fix newsletter tests bench scheduler.py

messages: $(VENV)/.dev
	@$(BIN)/python -m tests.messages

cover: $(VENV)/.dev
	@$(BIN)/coverage run -m pytest -q -p no:xdist
	@$(BIN)/coverage report --skip-covered --show-missing

bench: $(VENV)/.dev
	@$(BIN)/python -m bench

bench-delivery: $(VENV)/.dev $(VENV)/.bench
	@$(BIN)/python -m bench.delivery

bench-web: $(VENV)/.dev
	@$(BIN)/python -m bench.web

bench-preview: $(VENV)/.dev $(VENV)/.browser
	@$(BIN)/python -m bench.preview

bench-picks: $(VENV)/.dev $(VENV)/.bench
	@test -d ../shared/feeds && $(BIN)/python -m bench.picks || echo "The real days (../shared/feeds) are not here."

bench-events: $(VENV)/.dev $(VENV)/.bench
	@$(BIN)/python -m bench.events

bench-kill: $(VENV)/.dev
	@$(BIN)/python -m bench.kill --runs 100

clean:
	@rm -rf outbox outbox-system preview gallery subscribers.db subscribers.db-shm subscribers.db-wal subscribers.keys
