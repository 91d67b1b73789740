# One command each; CI and pre-commit call these and nothing else. `make` alone prints them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# ONNX Runtime and MLflow carry telemetry clients.
export ORT_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
# Threads that wait for others sleep instead of spinning: on a shared machine spinning costs more than it saves.
export OMP_WAIT_POLICY := PASSIVE
# What images say to stay small: every process would compile all that it imports, half of what a start takes.
unexport PYTHONDONTWRITEBYTECODE

DATA ?= ml-100k
ONCE ?=
ARGS ?=
# Processes that run tests side by side, a file at a time; most tests wait for others.
WORKERS ?= 2

BIN := .venv/bin
PYTHON := $(BIN)/python
READY := .venv/.ready
# What has a core of its own beside mypy, which takes one for a minute.
BESIDE := $(MAKE) --jobs 2 --output-sync=target
CHECKS := types lint walls generated
# All but Feast and Spark, of which a newcomer's first minutes need nothing.
CORE := .venv/.core

.PHONY: help
help:
	@echo "make <command>"; awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Try it
.PHONY: demo trace
demo: core ## train on DATA (ml-100k), serve all five and show answers until Ctrl-C; ONCE=1 ends after the answers
	@$(PYTHON) -m cli demo --data $(DATA) $(if $(ONCE),--once) $(ARGS)

# The shell's own USER is somebody else.
trace: core ## one request of USER=405, stage by stage: its time, how many items, the first five
ifeq ($(origin USER) $(if $(USER),,of nobody),command line )
	@$(PYTHON) -m cli trace --user $(USER) $(ARGS)
else
	@echo "whose request? for example: make trace USER=405" >&2; exit 2
endif

##@ Run it on its real parts
.PHONY: up status down
up: setup packages triton ## Redis, Kafka, MLflow, Triton, Spark and the five services over DATA's home, in the background
	@$(PYTHON) -m cli up --data $(DATA) $(ARGS)

status: core ## what of it runs and answers
	@$(PYTHON) -m cli status

down: core ## stop what `make up` started
	@$(PYTHON) -m cli down

##@ Prove it
.PHONY: test check evaluate replay bench bench-vectors bench-peers bench-scale bench-gpu capacity drill fuzz cluster-check
test: setup ## everything: set-up, the checks, every test (ARGS="-k slate" for some)
	@$(BESIDE) $(CHECKS) packages triton helm
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: setup ## style, types, walls between packages, generated code; no tests
	@$(BESIDE) $(CHECKS)

evaluate: core ## ranking quality on DATA against simple baselines, into build/evaluate.json
	@$(PYTHON) -m cli evaluate --data $(DATA) $(ARGS)

replay: DATA := online-retail
replay: core ## a data set month by month, retrained every month and never, into build/replay.json and a plot in docs/
	@$(PYTHON) -m cli replay --data $(DATA) --plot docs/replay-$(DATA).svg $(ARGS)

bench: setup packages triton ## latency, throughput and cost per request, into build/bench.json
	@$(PYTHON) -m cli bench $(ARGS)

bench-vectors: core ## every vector index on a million made-up vectors (ARGS="--items 50000" for fewer), into build/bench-vectors.json
	@$(PYTHON) -m bench.vectors --plot docs/recall-latency.svg $(ARGS)

bench-peers: setup packages ## other recommenders and Feast's server asked the same, into build/bench-peers.json
	@$(PYTHON) -m bench.peers --data $(DATA) --plot docs/quality-latency.svg $(ARGS)

bench-scale: core ## growing worlds: time, memory and their exponents, into build/bench-scale.json
	@$(PYTHON) -m bench.scale $(ARGS)

bench-gpu: core ## training, vector search and models on a graphics card, into build/bench-gpu.json (ARGS="--device cpu" tries the code)
	@$(PYTHON) -m bench.gpu $(ARGS)

capacity: core ## pods, cores and memory for QPS=20000 requests a second, from measured costs
	@$(PYTHON) -m bench.capacity --qps $(if $(QPS),$(QPS),20000) $(ARGS)

fuzz: setup packages triton ## many more cases than `make test` draws, other ones each time: minutes to an hour
	@HYPOTHESIS_PROFILE=long $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --timeout 1800 -m hypothesis $(ARGS)
	@FUZZ_EXAMPLES=400 FUZZ_SECONDS=1200 FUZZ_SEED=$$RANDOM $(PYTHON) -m pytest --timeout 1800 tests/platform/test_fuzz.py

drill: setup packages triton ## lose every part under load, promote twenty times: tables and build/drill.json
	@$(PYTHON) -m drills $(ARGS)

cluster-check: setup helm ## the Helm chart: lint, every combination of values, against three versions of Kubernetes
	@$(PYTHON) -m cluster

##@ Ship it
.PHONY: images sbom audit
images: setup ## the five images without Docker: build, weigh, run locked down over a small home (as root)
	@scripts/debian.sh buildah=buildah runc=runc debootstrap=debootstrap
	@$(PYTHON) scripts/images.py $(ARGS)

sbom: core ## what Winnow is made of, as CycloneDX, into build/sbom
	@$(PYTHON) scripts/supply.py sbom

audit: core ## what of it is known to be weak
	@$(PYTHON) scripts/supply.py audit

##@ Change it
.PHONY: setup core format proto lock clean
core: $(CORE)

setup: $(READY) ## make .venv as requirements.lock says

format: setup ## rewrite the code in the one style
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

proto: setup ## generate winnow/v1 from protos/winnow/v1
	@$(PYTHON) scripts/proto.py

# The stamp says what is installed, so a new lock makes it stale by itself.
lock: $(PYTHON) ## pin again after an edit of pyproject.toml; UPGRADE=1 takes the newest, WITHIN=file stays within its pins
	@$(PYTHON) scripts/environment.py lock $(if $(UPGRADE),--upgrade) $(if $(WITHIN),--constraints $(WITHIN))

clean: ## remove build/ and caches; .venv stays
	@rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .schemathesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Programs of Debian that the parts beside Winnow are: Redis, Java for Spark, Prometheus.
.PHONY: packages triton helm
triton: core
	@$(PYTHON) scripts/triton.py

# Both majors of Helm, which no package of Debian is.
helm: core
	@$(PYTHON) scripts/helm.py

packages:
	@scripts/debian.sh redis-server=redis-server java=default-jre-headless prometheus=prometheus

# The parts of `check`, each a target so that one can be run alone.
.PHONY: lint types walls generated
lint: setup
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@echo "lint: fine"

types: setup
	@$(BIN)/mypy

walls: setup
	@report=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$report"; exit 1; }
	@echo "walls: kept"

generated: setup
	@$(PYTHON) scripts/proto.py --check
	@$(PYTHON) -m scripts.dashboards --check
	@$(PYTHON) -m scripts.variables --check
	@echo "generated: current"

$(PYTHON):
	@scripts/venv.sh .venv

$(READY): pyproject.toml requirements.lock scripts/environment.py scripts/venv.sh
	@[ -x $(PYTHON) ] || scripts/venv.sh .venv
	@$(PYTHON) scripts/environment.py install
	@touch $(CORE) $@

$(CORE): pyproject.toml requirements.lock scripts/environment.py scripts/venv.sh
	@[ -x $(PYTHON) ] || scripts/venv.sh .venv
	@$(PYTHON) scripts/environment.py install dev serving training
	@touch $@
