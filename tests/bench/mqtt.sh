#!/bin/sh
# What QoS 1 and 2, persistent sessions and the log cost: deliveries with acknowledgements, of deliveries without; the
# memory of an idle client with a persistent session; publishers that wait for the disk, one and a hundred; 10,000
# clients that come back to what they missed. Beside the floor, where it can do the same, and mosquitto if it is named.
# Writes mqtt.json and mqtt.html in the current folder.
#
#   tests/bench/mqtt.sh [--quick] [options of holdfast-bench run ...]
#
# --quick takes 2,000 clients, a quarter of the broadcasts, shorter waits and one repetition: two minutes instead of a
# quarter of an hour per repetition. Of so few clients the memory figures say nothing: what a server has once counts too
# much. HOLDFAST and HOLDFAST_BENCH name the binaries, MOSQUITTO another server's (without it there is none), REPEAT the
# repetitions (default 3), SCENARIOS which of qos1 qos1-persistent qos2 idle-sessions publish wake (default: all), REPORT
# the reports' path without suffix, TMPDIR where the servers' data is (default /tmp): the disk that is measured.
# A million sleeping sessions are measured by log_sessions.sh.
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
REPORT=${REPORT:-mqtt}
# What the report gives for repeating it.
command="${MOSQUITTO:+MOSQUITTO=$MOSQUITTO }${REPEAT:+REPEAT=$REPEAT }tests/bench/mqtt.sh${*:+ $*}"
if [ -n "${SCENARIOS:-}" ]; then
    command="SCENARIOS='$SCENARIOS' $command"
fi
if [ "${1:-}" = --quick ]; then
    shift
    REPEAT=${REPEAT:-1}
    set -- --connections 2000 --set broadcasts=10 --set duration_s=3 --set settle_ms=2000 "$@"
fi
if [ -n "${MOSQUITTO:-}" ]; then
    set -- --target "mosquitto=cmd:$MOSQUITTO -c {file:$here/mosquitto-kept.conf}" "$@"
fi
scenarios=
for name in ${SCENARIOS:-qos1 qos1-persistent qos2 idle-sessions publish wake}; do
    scenarios="$scenarios $here/figures-mqtt/$name.conf"
done

# shellcheck disable=SC2086 # one word per scenario
exec "$HOLDFAST_BENCH" run $scenarios --repeat "${REPEAT:-3}" --json "$REPORT.json" --html "$REPORT.html" \
    --command "$command" --target floor \
    --target "holdfast=cmd:$HOLDFAST run -c {file:$here/holdfast.conf}" "$@"
