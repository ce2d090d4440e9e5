#!/bin/sh
# Builds provost and runs the demo (config/demo.toml) in the foreground; Ctrl-C ends everything.
# DEMO_SECONDS=20 ends it by itself.
set -eu
cd "$(dirname "$0")/.."

if [ ! -x "${CARGO_TARGET_DIR:-target}/debug/provost" ]; then
    echo 'demo: building provost; the first time this compiles its dependencies and takes some minutes' >&2
fi
set -- --config config/demo.toml
if [ -n "${DEMO_SECONDS:-}" ]; then set -- "$@" --seconds "$DEMO_SECONDS"; fi
# `cargo run` becomes the program by exec: Ctrl-C and the exit code are the program's own.
exec "${CARGO:-cargo}" run --locked --bin provost -- demo "$@"
