#!/bin/sh
# Holdfast, mosquitto and the floor in one table: memory, CPU per delivery, heartbeat and connection, at 15,000 clients on
# one topic. Writes side-by-side.json and side-by-side.html in the current folder.
#
#   tests/bench/side_by_side.sh [options of holdfast-bench run ...]
#
# HOLDFAST, HOLDFAST_BENCH and MOSQUITTO name the binaries, REPEAT the repetitions (default 3), REPORT the reports' path
# without suffix.
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
MOSQUITTO=${MOSQUITTO:-$(command -v mosquitto || echo /usr/sbin/mosquitto)}
REPORT=${REPORT:-side-by-side}
if ! [ -x "$MOSQUITTO" ]; then
    echo "side_by_side.sh: mosquitto is not installed: apt-get install mosquitto, or name it in MOSQUITTO" >&2
    exit 2
fi

# What the report gives for repeating it.
command="${REPEAT:+REPEAT=$REPEAT }tests/bench/side_by_side.sh${*:+ $*}"

exec "$HOLDFAST_BENCH" run "$here/figures/connect.conf" "$here/figures/idle.conf" "$here/figures/broadcast.conf" \
    "$here/figures/heartbeat.conf" --repeat "${REPEAT:-3}" --json "$REPORT.json" --html "$REPORT.html" \
    --command "$command" --target floor \
    --target "holdfast=cmd:$HOLDFAST run -c {file:$here/holdfast.conf}" \
    --target "mosquitto=cmd:$MOSQUITTO -c {file:$here/mosquitto.conf}" "$@"
