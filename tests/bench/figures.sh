#!/bin/sh
# The figures that the gateway is to reach at 15,000 connections, one worker, all its processes summed, against the
# floor in the same run. Prints tables, then each figure with what was wanted and whether it was met. Exit status 1
# when one is not.
#
#   tests/bench/figures.sh [options of holdfast-bench run ...]
#
# HOLDFAST and HOLDFAST_BENCH name the binaries (default: those in the current folder or in build/), REPEAT the
# repetitions (default 3), SCENARIOS which of connect idle broadcast heartbeat slow (default: all).
set -eu
here=$(dirname "$0")
# shellcheck source=tests/bench/find_binary.sh
. "$here/find_binary.sh"

HOLDFAST=${HOLDFAST:-$(find_binary holdfast)}
HOLDFAST_BENCH=${HOLDFAST_BENCH:-$(find_binary holdfast-bench)}
scenarios=
for name in ${SCENARIOS:-connect idle broadcast heartbeat slow}; do
    scenarios="$scenarios $here/figures/$name.conf"
done

# What the report gives for repeating it.
command="${REPEAT:+REPEAT=$REPEAT }tests/bench/figures.sh${*:+ $*}"
if [ -n "${SCENARIOS:-}" ]; then
    command="SCENARIOS='$SCENARIOS' $command"
fi

# shellcheck disable=SC2086 # one word per scenario
exec "$HOLDFAST_BENCH" run $scenarios --repeat "${REPEAT:-3}" --strict --command "$command" --target floor \
    --target "holdfast=cmd:$HOLDFAST run -c {file:$here/holdfast.conf}" "$@"
