#!/bin/sh
# Builds provost and runs the demo (config/demo.toml) in the foreground; Ctrl-C ends everything.
# DEMO_SECONDS=20 ends it by itself.
set -eu
cd "$(dirname "$0")/.."

binary=${CARGO_TARGET_DIR:-target}/debug/provost
if [ ! -x "$binary" ]; then
    echo 'demo: building provost; the first time this compiles its dependencies and takes some minutes' >&2
fi
"${CARGO:-cargo}" build --locked --bin provost

set -- --config config/demo.toml
if [ -n "${DEMO_SECONDS:-}" ]; then set -- "$@" --seconds "$DEMO_SECONDS"; fi
# `cargo run` becomes the program by exec, so that Ctrl-C and the exit code are the program's own.
exec "${CARGO:-cargo}" run --quiet --locked --bin provost -- demo "$@"
