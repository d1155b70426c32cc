# Turns a checkout with Rust, Python 3.11 and make into a demo, a test verdict or a benchmark.

PYTHON ?= python3
CARGO ?= cargo
DEMO_LAKE ?= demo-lake
STRIPELAKE_BIN ?= target/debug/stripelake
FUZZ_SECS ?= 60
SECS ?= 1800
FUZZ_SEED ?= $(shell date +%s)
CHARGES ?= 5000000
# Each takes three minutes, which the limits set: fewer runs say as much.
RATE_RUNS ?= 3

REQUIREMENTS := tests/acceptance/requirements.txt
TOOLS := .venv/.installed
# What a whole sync is measured beside, each in an environment of its own.
RIVALS := tap dlt sdk

.PHONY: help demo test test-fast acceptance check soak fuzz bench bench-compare bench-fetch bench-large clean
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z.][a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(TOOLS) ## build, fill demo-lake from a fake account, show a first DuckDB query
	$(CARGO) build --locked --bins --tests --target-dir target
	target/debug/stripelake demo $(DEMO_LAKE)
	.venv/bin/python tests/acceptance/first_query.py $(DEMO_LAKE)

test: test-fast acceptance ## every test: cargo's, then the real binary against DuckDB and S3

test-fast: ## cargo's tests only
	$(CARGO) test --locked --target-dir target

# Building bins together with tests gives them the same features as `cargo test` does,
# so no dependency is compiled twice.
acceptance: $(TOOLS) ## the real binary against DuckDB, pyarrow, Polars and SeaweedFS
	$(CARGO) build --locked --bins --tests --target-dir target
	STRIPELAKE_BIN=$(abspath $(STRIPELAKE_BIN)) .venv/bin/python -B -m pytest tests/acceptance $(PYTEST_ARGS)

check: ## what must hold before a commit: format, lints, all tests
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(MAKE) test

soak: $(TOOLS) ## faults and kills for SECS, then the lake must equal the account
	$(CARGO) build --locked --bins --tests --target-dir target
	STRIPELAKE_BIN=$(abspath $(STRIPELAKE_BIN)) STRIPELAKE_SOAK_SECS=$(SECS) .venv/bin/python -B -m pytest -s tests/acceptance/test_soak.py $(PYTEST_ARGS)

fuzz: ## mutated pages against every decoder and the envelope, for FUZZ_SECS
	FUZZ_SECS=$(FUZZ_SECS) FUZZ_SEED=$(FUZZ_SEED) $(CARGO) test --locked --target-dir target --test fuzz -- --nocapture

bench: ## the benchmarks
	$(CARGO) bench --locked

RELEASE := $(CARGO) build --release --locked --target-dir target --bins --examples

bench-compare: $(TOOLS) ## import beside DuckDB, Polars and pyarrow
	$(RELEASE)
	.venv/bin/python -B -m pip install --quiet --disable-pip-version-check --requirement benches/compare/requirements.txt
	.venv/bin/python -B -m benches.compare.compare $(COMPARE_ARGS)
	.venv/bin/python -B -m benches.compare.floor $(COMPARE_ARGS)

bench-fetch: $(RIVALS:%=.venv-bench/%/.installed) ## a first sync: behind Stripe's limits, beside its rivals, and large
	$(RELEASE)
	$(PYTHON) -B -m benches.fetch.rate --runs $(RATE_RUNS)
	$(PYTHON) -B -m benches.fetch.rivals
	$(PYTHON) -B -m benches.fetch.least
	$(PYTHON) -B -m benches.fetch.large

.venv-bench/%/.installed: benches/fetch/requirements-%.txt
	$(PYTHON) -m venv .venv-bench/$*
	.venv-bench/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench-large: ## a partition of CHARGES charges in one import, and a merge into it
	$(RELEASE)
	$(PYTHON) -B -m benches.compare.large --charges $(CHARGES)

.venv: $(TOOLS) ## the Python tools of the acceptance tests, at pinned versions

$(TOOLS): $(REQUIREMENTS)
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(REQUIREMENTS)
	@touch $@

clean: ## remove everything that these targets made
	$(CARGO) clean
	rm -rf .venv .venv-bench $(DEMO_LAKE)
