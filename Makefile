# `make demo` shows Tandem at work, `make test` runs every test that needs no GPU; both set up what
# they need in .venv first, once.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
STUBS := $(VENV)/.stubs-installed
EDGE := $(VENV)/.edge-installed
AUDIT := $(VENV)/.audit-installed
# What ships, each with its packages' hashes.
SHIPPED := runtime services gateway edge jetpack
QUICK := output/experiments/quick
RATE := output/rate-accuracy
# What needs neither the client nor torch, which run on 3.11 only.
EDGE_TESTS := tests/contract tests/integration/test_placements.py \
  tests/integration/test_bad_input.py tests/integration/test_faults.py \
  tests/integration/test_poison_frames.py tests/integration/test_budgets.py \
  tests/integration/test_buffers.py \
  tests/integration/test_stage_client.py tests/integration/test_traces.py tests/system/test_two_pythons.py \
  tests/integration/test_addresses.py tests/integration/test_nodes.py \
  tests/integration/security tests/integration/test_codecs.py tests/integration/test_cut_tensors.py tests/integration/test_latents.py \
  tests/integration/test_batches.py tests/integration/test_frame_places.py \
  tests/integration/test_video.py tests/unit/bundle tests/unit/codec \
  tests/unit/vision tests/unit/telemetry tests/unit/engines/test_tensorrt.py tests/unit/engines/test_operators.py \
  tests/unit/engines/test_devices.py tests/unit/engines/test_registry.py tests/unit/engines/test_families.py tests/unit/server \
  tests/unit/pipeline tests/unit/services tests/unit/orchestrator tests/unit/wire tests/unit/domain tests/unit/security \
  $(wildcard tests/unit/*.py)

.PHONY: setup demo test test-again test-edge check coverage bench docs wheel experiments-quick rate-accuracy sbom audit stubs format hooks help

# The slowest first, so that no worker is left alone with one of them in the end.
TESTS := tests/integration tests/system tests/contract tests/unit
ALONE_TESTS = $(sort $(shell grep -rl "pytest.mark.alone" tests --include "test_*.py"))
PARALLEL := --numprocesses auto --dist loadfile
# What failed can be tried again, by `make test-again`. A pytest that ended in another way has not told all.
NOTE_FAILURES = { status=$$?; [ $$status = 1 ] || { rm -rf .pytest_cache; exit $$status; }; }
# Hundreds of processes are started, each of which would compile what it imports.
test test-edge coverage: export PYTHONDONTWRITEBYTECODE :=

help:
	@echo "make demo    stream the shipped clip through every placement (MODEL=demo-dfine: by that one)"
	@echo "make setup   what the tandem command needs, into .venv"
	@echo "make test    every test that needs no GPU"
	@echo "make test-again  the tests that failed last, one at a time"
	@echo "make test-edge  the services' tests on Python 3.8 with the edge's pins"
	@echo "make check   lint, types, imports, stubs, docs"
	@echo "make coverage  what the unit and contract tests reach, held against a floor"
	@echo "make docs    the docs site with the API reference, in output/site"
	@echo "make wheel   the package that users install, in dist/, tried in a fresh environment"
	@echo "make bench   what Tandem reaches of what this machine could, recorded and compared"
	@echo "make experiments-quick  the placement experiment with slim models, and its page"
	@echo "make rate-accuracy  AP against bytes: features, latents, JPEGs, videos (MODEL=demo-r34: of that one)"
	@echo "make sbom    lists of the packages that ship (CycloneDX), in output/sbom"
	@echo "make audit   known vulnerabilities of these packages, asked of osv.dev"
	@echo "make stubs   regenerate the Python stubs of protos/"
	@echo "make format  format the code"
	@echo "make hooks   check each commit before it is made"

setup: $(RUNTIME)

demo: $(RUNTIME)
	$(BIN)/python -m tandem.cli.demo $(if $(MODEL),--bundle models/$(MODEL))

# A file's tests stay together: they share what is costly to start. Each process computes on one thread,
# or they would wait for one another. Those that measure time run afterwards, one at a time.
test: $(DEV)
	@status=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --no-loadscope-reorder -m "not alone" $(TESTS) || $(NOTE_FAILURES); \
	$(BIN)/python -m pytest -m alone $(ALONE_TESTS) || $(NOTE_FAILURES); \
	exit $$status

# For a machine that stands still now and then: what fails here too is broken. Without failures, it fails.
test-again:
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --verbose

# A real Python 3.8 with exactly the edge's releases; `scripts/find_python38.sh` looks for one. How long
# things take is measured by `make test` alone.
test-edge: $(EDGE)
	@status=0; \
	OMP_NUM_THREADS=1 $(VENV)/edge/bin/python -m pytest $(PARALLEL) -m "not alone" $(EDGE_TESTS) || $(NOTE_FAILURES); \
	exit $$status

check: $(DEV) $(STUBS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check_stubs.sh
	$(MAKE) --no-print-directory docs

# The unit and contract tests take minutes less than all, and hold the code that they reach to a floor
# (`fail_under` in pyproject.toml).
coverage: $(DEV)
	rm -rf output/coverage
	$(BIN)/coverage run -m pytest $(PARALLEL) tests/contract tests/unit
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

# Warnings are errors: a broken link, a missing anchor, a docstring that names no parameter. mkdocs
# counts none of them when it is called with --quiet.
docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel:
	PYTHON=$(PYTHON) scripts/try_wheel.sh

# About four minutes, with nothing else running; docs/performance.md says what it measures.
bench: $(DEV)
	$(BIN)/python -m benchmarks --check

# Within minutes, to see that it works; docs/experiments.md has the whole experiment.
experiments-quick: $(DEV)
	rm -rf $(QUICK)
	$(BIN)/python -m experiments.placements --config experiments/configs/quick.yaml --output $(QUICK)
	$(BIN)/python -m experiments.figures $(QUICK)

# About 20 minutes on two cores. A stopped run goes on where it was, with the same pictures and clips.
# PUBLISH=1 puts what was measured into docs/accuracy.md, which says how, and README.md.
rate-accuracy: $(DEV)
	test -d cache/scenes || $(BIN)/python -m scenes fetch
	test -f $(RATE)/scenes/instances.json || $(BIN)/python -m scenes export val --out $(RATE)/scenes
	test -f $(RATE)/clips/005/annotations.json || $(BIN)/python -m scenes clips --split val --count 6 --out $(RATE)/clips
	$(BIN)/python -m experiments.rate_accuracy --bundle models/$(or $(MODEL),demo-r50) \
	  --images $(RATE)/scenes/images --annotations $(RATE)/scenes/instances.json \
	  --clips models/demo-clip --noisy-clips 8 models/demo-clip --clips $(RATE)/clips \
	  --output $(RATE)/$(or $(MODEL),demo-r50) $(if $(PUBLISH),--publish)

# CycloneDX, with each package's hashes. The sources of Tandem's images are Dockerfiles, whose base images
# have lists of their own: `docker buildx build --sbom=true`.
sbom: $(AUDIT)
	mkdir -p output/sbom
	for name in $(SHIPPED); do \
	  PYTHONWARNINGS=ignore $(VENV)/audit/bin/cyclonedx-py requirements requirements/$$name.txt --pyproject pyproject.toml \
	    --mc-type application --output-reproducible --validate -o output/sbom/$$name.cdx.json || exit; \
	done

# Needs the network: it tells osv.dev the names and releases of the packages, and nothing else.
audit: $(AUDIT)
	@status=0; for name in $(SHIPPED); do \
	  $(VENV)/audit/bin/pip-audit --require-hashes --disable-pip --vulnerability-service osv \
	    --progress-spinner off --requirement requirements/$$name.txt || status=$$?; \
	done; exit $$status

stubs: $(STUBS)
	scripts/generate_stubs.sh

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(DEV)
	$(BIN)/pre-commit install

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# With what `tandem up --live-view` needs.
$(RUNTIME): requirements/gateway.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/gateway.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	touch $@

$(EDGE): requirements/edge-dev.txt $(RUNTIME)
	$(shell scripts/find_python38.sh || echo python3.8) -m venv $(VENV)/edge
	$(VENV)/edge/bin/pip install --quiet --require-hashes --requirement requirements/edge-dev.txt
	touch $@

$(AUDIT): requirements/audit.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --require-hashes --requirement requirements/audit.txt
	touch $@

# A virtual environment of its own: the generator's protobuf is older than the one we run on.
$(STUBS): requirements/stubs.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/stubs
	$(VENV)/stubs/bin/pip install --quiet --require-hashes --requirement requirements/stubs.txt
	touch $@
