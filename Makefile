# Every target does its own set-up; `make help` lists them.
.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: run
run: ## Start the gateway with a simulated GLM-Image, make a key and a first picture
	@.ci/setup runtime
	@exec $(BIN)/glm-gateway demo

.PHONY: test
test: setup ## Run every test
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: bench
bench: ## Measure the gateway beside its peers, and reports over ten million lines (200 ms is the limit)
	@.ci/setup dev
	@.ci/setup bench
	@$(BIN)/python -m tests.bench $(BENCH)
	@$(BIN)/python -m tests.bench.ledger

.PHONY: lint
lint: ## Check style, types, imports and spelling
	@.ci/setup dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

.PHONY: fmt
fmt: ## Put the code into the project's form
	@.ci/setup dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: setup
setup: ## Install what the tests need
	@.ci/setup dev
	@.ci/setup node
	@.ci/setup zhipuai
	@.ci/setup deploy

COMPILE := uv pip compile --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q

.PHONY: lock
lock: ## Resolve the dependencies anew (needs uv)
	$(COMPILE) pyproject.toml --group build -o requirements.lock
	$(COMPILE) pyproject.toml --extra otel --group build -c requirements.lock -o requirements-otel.lock
	$(COMPILE) pyproject.toml --extra otel --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) tests/contract/zhipuai/requirements.in -o tests/contract/zhipuai/requirements.lock
	$(COMPILE) tests/contract/node/requirements.in -o tests/contract/node/requirements.lock
	npm install --prefix tests/contract/node --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts
	$(COMPILE) tests/deploy/requirements.in -o tests/deploy/requirements.lock
	npm install --prefix tests/deploy --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --legacy-peer-deps
	$(COMPILE) tests/bench/peers/litellm.in -o tests/bench/peers/litellm.lock
	npm install --prefix tests/bench/peers --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts

.PHONY: sbom
sbom: ## Write what the gateway is made of into dist/sbom.cdx.json (CycloneDX)
	@.ci/setup deploy
	@mkdir -p dist
	@PYTHONWARNINGS=ignore .venv-deploy/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
	  --spec-version 1.6 --of JSON -o dist/sbom.cdx.json requirements.lock
	@echo "dist/sbom.cdx.json"

.PHONY: image
image: ## Build the container image glm-gateway:local (needs Docker)
	docker build -f deploy/Dockerfile -t glm-gateway:local .

.PHONY: clean
clean: ## Remove the environments
	rm -rf .venv .venv-* tests/*/node_modules tests/*/*/node_modules dist
