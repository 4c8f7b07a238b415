#!/bin/sh
# Holds 1,000,000 connections, both ends on this machine, with heartbeats and broadcasts, and writes the report:
# million.json and million.html (with --tls: million-tls) in the current folder. Takes about ten minutes, 12 GiB of
# memory and as many processes as the descriptor limit demands; over TLS 1.3 about half an hour on two processors.
# Ctrl-C ends it cleanly. Not part of the test suite.
#
#   tests/load/million.sh [--tls] [options of holdfast-bench run ...]
#
# HOLDFAST and HOLDFAST_BENCH name the binaries (default: those in the current folder or in build/), CONNECTIONS another
# number, REPORT the reports' path without suffix.
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/../bench/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
# What the report gives for repeating it.
command="${CONNECTIONS:+CONNECTIONS=$CONNECTIONS }tests/load/million.sh${*:+ $*}"
name=million
target="holdfast=cmd:$HOLDFAST run -c {file:$here/holdfast.conf}"
if [ "${1:-}" = --tls ]; then
    shift
    name=million-tls
    target="holdfast-tls=cmd,tls13:$HOLDFAST run -c {file:$here/holdfast-tls.conf}"
fi
REPORT=${REPORT:-$name}

exec "$HOLDFAST_BENCH" run "$here/$name.conf" --connections "${CONNECTIONS:-1000000}" --strict \
    --json "$REPORT.json" --html "$REPORT.html" --command "$command" --target "$target" "$@"
