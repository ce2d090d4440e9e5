# The two commands to know: `make demo` and `make test`. Both set up what is missing first.

# What scripts/setup.sh installed goes before what the machine has, which may be too old.
export PATH := $(CURDIR)/.tools/bin:$(PATH)
CARGO ?= cargo
DEMO_SECONDS ?=

.PHONY: help setup demo test lint bench bench-peers clean

help:
	@echo 'make demo    a supervised tree of real processes that fail on purpose; Ctrl-C ends it'
	@echo '             (DEMO_SECONDS=20 make demo ends by itself)'
	@echo 'make test    all checks and tests'
	@echo 'make lint    format, clippy, documentation and dependency checks alone'
	@echo 'make bench   what supervision costs, beside Erlang/OTP where escript is installed'
	@echo 'make bench-peers  breakers and supervision beside other crates; builds them first'
	@echo 'make setup   only installs what is missing, into .tools/'
	@echo 'make clean   removes target/ and .tools/'

setup:
	@scripts/setup.sh --tests

demo:
	@scripts/setup.sh
	@DEMO_SECONDS='$(DEMO_SECONDS)' scripts/demo.sh

test: setup lint
	$(CARGO) test --locked

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	scripts/check-dependencies.sh

bench:
	$(CARGO) bench --locked --bench decision
	$(CARGO) bench --locked --bench routing
	$(CARGO) bench --locked --bench supervision
	$(CARGO) bench --locked --bench downstreams
	@if command -v escript >/dev/null; then \
	  escript benches/otp_bench.escript latency && escript benches/otp_bench.escript burst && \
	  escript benches/otp_bench.escript start && escript benches/otp_bench.escript memory 100000; \
	else echo 'no Erlang here: its figures are left out (Debian: erlang-base)'; fi

# A package of its own with its own lock file; its build stays apart from ours.
bench-peers:
	cd benches/peers && $(CARGO) build --locked --release --target-dir ../../target/peers
	target/peers/release/breakers
	target/peers/release/supervisors

clean:
	$(CARGO) clean
	rm -rf .tools
