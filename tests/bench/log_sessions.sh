#!/bin/sh
# 1,000,000 sleeping sessions: how fast a QoS 1 broadcast to all of them is acknowledged and what it leaves on the disk;
# then 10,000 of them wake up at once and must get it and everything else that they missed, in order. The sessions are
# made straight in the data directory, then the gateway is started on it. Writes log-sessions.json and
# log-sessions.html in the current folder. Takes half a minute and half a gigabyte of disk.
#
#   tests/bench/log_sessions.sh [options of holdfast-bench run ...]
#
# HOLDFAST, HOLDFAST_BENCH and MAKE_SESSIONS name the binaries (the last one: make tests/bench/make_sessions), SESSIONS
# another number of them, REPEAT the repetitions (default 3), REPORT the reports' path without suffix, TMPDIR where the
# data is (default /tmp): the disk that is measured.
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
MAKE_SESSIONS=${MAKE_SESSIONS:-$(find_binary tests/bench/make_sessions)}
SESSIONS=${SESSIONS:-1000000}
REPORT=${REPORT:-log-sessions}
# What the report gives for repeating it.
command="${REPEAT:+REPEAT=$REPEAT }tests/bench/log_sessions.sh${*:+ $*}"
if [ "$SESSIONS" -ne 1000000 ]; then
    command="SESSIONS=$SESSIONS $command"
fi
# Those who wake up are spread over all of them.
waking=10000
if [ "$SESSIONS" -lt "$waking" ]; then
    waking=$SESSIONS
fi

exec "$HOLDFAST_BENCH" run "$here/figures-mqtt/sleeping.conf" --repeat "${REPEAT:-3}" --json "$REPORT.json" \
    --html "$REPORT.html" --command "$command" --connections "$waking" --set "id_step=$((SESSIONS / waking))" --target \
    "holdfast=cmd:$MAKE_SESSIONS {dir}/data $SESSIONS && exec $HOLDFAST run -c {file:$here/holdfast.conf}" "$@"
