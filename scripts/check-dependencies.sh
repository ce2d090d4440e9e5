#!/bin/sh
# One TLS provider: ring, through rustls. A second provider in the tree makes rustls panic at run
# time when both are installed, and openssl needs a C library of the right version.
set -eu
cd "$(dirname "$0")/.."

tree=$("${CARGO:-cargo}" tree --locked --all-features --target all --edges normal,build --prefix none)
for banned in aws-lc-rs aws-lc-sys openssl openssl-sys native-tls; do
    if printf '%s\n' "$tree" | grep -q "^$banned v"; then
        echo "dependencies: $banned is in the tree; see who brings it: cargo tree -i $banned" >&2
        exit 1
    fi
done
