# sqlite-cold: `make demo` and `make test` do all their own set-up.
#
#   make loadable               dist/cold.so with DuckDB (the first time takes 25 to 30 minutes)
#   make loadable FEATURES=lean dist/cold.so without it (under 5 minutes)
#   make demo                   a 140 MB task queue, archived, measured and checked
#   make test                   every test, with the library that users get
#   make hostile                changed files and catalogs, 50 times as many as in make test
#   make soak                   random queries against plain SQLite for half an hour
#   make bench                  against the script one would write today, and parts by criterion
#   make lint                   rustfmt and clippy, warnings are errors

FEATURES ?= full
TARGET   := $(or $(CARGO_TARGET_DIR),target)/release
PYTHON   := .venv/bin/python
# The system's own: it can load SQLite extensions, which builds by pyenv often cannot.
SYSTEM_PYTHON := /usr/bin/python3
CARGO_FEATURES_full :=
CARGO_FEATURES_lean := --no-default-features

ifeq ($(OS),Windows_NT)
  BUILT := cold.dll
  FILE  := cold.dll
else ifeq ($(shell uname -s),Darwin)
  BUILT := libcold.dylib
  FILE  := cold.dylib
else
  BUILT := libcold.so
  FILE  := cold.so
endif

.PHONY: loadable faults mutator demo test hostile soak bench lint setup-build setup-demo setup-python clean

# The lean and the full library share all compiled crates but DuckDB's own.
loadable: setup-build
	cargo build --release $(CARGO_FEATURES_$(FEATURES))
	@tests/install.sh $(TARGET)/$(BUILT) dist/$(FILE)
	@echo $(FEATURES) > dist/features

# The library with fault points, which no user gets.
faults: setup-build
	cargo build --release --no-default-features --features faults
	@tests/install.sh $(TARGET)/$(BUILT) dist/faults/$(FILE)

# The program that makes hostile files and reads them, with a reader whose memory it counts.
mutator: setup-build
	cargo build --release --no-default-features --features host-allocator --example hostile
	@tests/install.sh $(TARGET)/examples/hostile dist/hostile

# First impressions count: the full library if there is one, else the one that builds quickly.
demo: setup-demo
	@$(MAKE) --no-print-directory loadable FEATURES=$$(cat dist/features 2>/dev/null || echo lean)
	$(SYSTEM_PYTHON) benches/demo.py

test: setup-python faults mutator
	@$(MAKE) --no-print-directory loadable FEATURES=$(FEATURES)
	cargo test --release $(CARGO_FEATURES_$(FEATURES)) --lib
	cargo test --release --manifest-path tests/hosts/rust/Cargo.toml --target-dir $(TARGET)/../host
	$(PYTHON) -m pytest tests

hostile: setup-python mutator loadable
	HOSTILE_TIMES=50 nice $(PYTHON) -m pytest -q -s tests/test_hostile_mutations.py

SOAK_SECONDS ?= 1800
SOAK_SEED    := $(or $(SOAK_SEED),$(shell date +%s))

soak: setup-python loadable
	@echo "SOAK_SEED=$(SOAK_SEED)"
	SOAK_SEED=$(SOAK_SEED) SOAK_SECONDS=$(SOAK_SECONDS) $(PYTHON) -m pytest -q tests/test_differential.py

bench: setup-python loadable
	cargo bench --no-default-features --bench parts
	$(PYTHON) benches/archive.py --memory
	$(PYTHON) benches/queries.py
	$(PYTHON) benches/ten_years.py
	$(PYTHON) benches/analytics.py
	$(PYTHON) benches/analytics.py --start
	$(PYTHON) benches/analytics.py --large
	$(PYTHON) benches/analytics.py --memory
	$(PYTHON) benches/tpch.py

lint: setup-build
	cargo fmt --check
	cargo clippy --release --all-targets --all-features -- -D warnings

setup-build:
	@tests/setup.sh build

setup-demo:
	@tests/setup.sh demo

setup-python:
	@tests/setup.sh python

clean:
	rm -rf dist demo .venv
