#!/bin/sh
# 12,000 clients lose their connection and come back with full TLS handshakes, all at once, while the heartbeats of 3,000
# others are measured: with an ECDSA certificate and with an RSA one, beside a plain server on libevent and OpenSSL.
# Writes tls-storm.json and tls-storm.html in the current folder.
#
#   tests/bench/tls_storm.sh [--quick] [options of holdfast-bench run ...]
#
# --quick takes 2,000 clients of which 1,600 come back. HOLDFAST and HOLDFAST_BENCH name the binaries, REPEAT the
# repetitions (default 1), REPORT the reports' path without suffix.
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
REPORT=${REPORT:-tls-storm}
# What the report gives for repeating it.
command="${REPEAT:+REPEAT=$REPEAT }tests/bench/tls_storm.sh${*:+ $*}"
if [ "${1:-}" = --quick ]; then
    shift
    set -- --connections 2000 --set storm=1600 "$@"
fi

exec "$HOLDFAST_BENCH" run "$here/figures-tls/storm.conf" --repeat "${REPEAT:-1}" --json "$REPORT.json" \
    --html "$REPORT.html" --command "$command" --target floor --target floor-tls,tls13 \
    --target floor-tls-rsa=floor-tls,tls13,rsa \
    --target "holdfast-tls13=cmd,tls13:$HOLDFAST run -c {file:$here/holdfast-tls.conf}" \
    --target "holdfast-tls13-rsa=cmd,tls13,rsa:$HOLDFAST run -c {file:$here/holdfast-tls.conf}" "$@"
