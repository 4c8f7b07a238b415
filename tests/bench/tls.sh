#!/bin/sh
# What TLS costs: the same scenarios over plaintext, parked TLS 1.3, parked TLS 1.2 and TLS without parking, beside the
# floor, a plain server on libevent and OpenSSL with either version, and mosquitto if it is named. Memory by layer, CPU
# per delivery, heartbeat, connection and handshake, full and resumed. Writes tls.json and tls.html in the current folder.
#
#   tests/bench/tls.sh [--quick] [options of holdfast-bench run ...]
#
# --quick takes 2,000 clients, a quarter of the broadcasts and one repetition: two minutes instead of an hour.
# HOLDFAST and HOLDFAST_BENCH name the binaries, MOSQUITTO another server's (without it there is none), REPEAT the
# repetitions (default 3), SCENARIOS which of connect idle broadcast heartbeat handshake (default: all), REPORT the
# reports' path without suffix.
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
REPORT=${REPORT:-tls}
# What the report gives for repeating it.
command="${MOSQUITTO:+MOSQUITTO=$MOSQUITTO }${REPEAT:+REPEAT=$REPEAT }tests/bench/tls.sh${*:+ $*}"
if [ -n "${SCENARIOS:-}" ]; then
    command="SCENARIOS='$SCENARIOS' $command"
fi
if [ "${1:-}" = --quick ]; then
    shift
    REPEAT=${REPEAT:-1}
    set -- --connections 2000 --set broadcasts=10 --set heartbeat_rounds=1 --set settle_ms=500 "$@"
fi
if [ -n "${MOSQUITTO:-}" ]; then
    set -- --target "mosquitto=cmd:$MOSQUITTO -c {file:$here/mosquitto.conf}" \
        --target "mosquitto-tls=cmd,tls13,ciphers=TLS_AES_128_GCM_SHA256:$MOSQUITTO -c {file:$here/mosquitto-tls.conf}" "$@"
fi
scenarios=
for name in ${SCENARIOS:-connect idle broadcast heartbeat handshake}; do
    scenarios="$scenarios $here/figures-tls/$name.conf"
done

# The same suite for everybody, whatever a server prefers.
tls13="tls13,ciphers=TLS_AES_128_GCM_SHA256"
tls12="tls12,ciphers=ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256"

# shellcheck disable=SC2086 # one word per scenario
exec "$HOLDFAST_BENCH" run $scenarios --repeat "${REPEAT:-3}" --json "$REPORT.json" --html "$REPORT.html" \
    --command "$command" --target floor \
    --target "floor-tls=floor-tls,$tls13" \
    --target "floor-tls12=floor-tls,$tls12" \
    --target "holdfast=cmd:$HOLDFAST run -c {file:$here/holdfast.conf}" \
    --target "holdfast-tls13=cmd,$tls13:$HOLDFAST run -c {file:$here/holdfast-tls.conf}" \
    --target "holdfast-tls12=cmd,$tls12:$HOLDFAST run -c {file:$here/holdfast-tls.conf}" \
    --target "holdfast-unparked=cmd,$tls13:$HOLDFAST run -c {file:$here/holdfast-tls-unparked.conf}" "$@"
