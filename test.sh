#!/bin/bash
# Installs what the tests need, builds, and runs everything. The last line counts: 'N passed, N failed'.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

QUICK=no
EXPR=""
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) QUICK=yes && shift ;;
    -k) EXPR=${2:?-k wants an expression} && shift 2 ;;
    -h | --help)
        cat <<END
usage: ./test.sh [--quick] [-k EXPR]

Unit tests, fuzz seeds, checks of the sources; the unit tests again under AddressSanitizer and UBSan; black-box tests
against the real binary with mosquitto, paho, mqtt.js and curl; a selection of them against the sanitized binary.

  --quick   without the sanitizers
  -k EXPR   only the black-box tests that pytest selects by EXPR
END
        exit 0
        ;;
    *) echo "test.sh: unknown argument '$1'; see ./test.sh --help" >&2 && exit 2 ;;
    esac
done

PASSED=0
FAILED=0
SKIPPED=0
JOBS=$(nproc)
export MAKEFLAGS=--no-print-directory

step() { printf '\n==== %s (%ss)\n' "$*" "$SECONDS"; }

# Counts one check, by its exit status.
count() {
    if [ "$1" -eq 0 ]; then
        PASSED=$((PASSED + 1))
    else
        FAILED=$((FAILED + 1))
        echo "FAILED: $2"
    fi
}

# The end, with the one line that sums up.
finish() {
    printf '\ntook %s s\n' "$SECONDS"
    if [ "$SKIPPED" -gt 0 ]; then
        echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
    else
        echo "$PASSED passed, $FAILED failed"
    fi
    [ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
    exit
}

# A failure after which nothing else makes sense.
give_up() {
    FAILED=$((FAILED + 1))
    echo "FAILED: $1"
    finish
}

# build FOLDER CONFIGURE-OPTION...: configures when needed and builds everything, test programs included. The folder
# is below build/, and configure called by a relative name: it refuses an absolute one with a space.
build() {
    local dir=$1
    shift
    mkdir -p "$dir"
    {
        { [ -f "$dir/Makefile" ] || (cd "$dir" && ../../configure --quiet "$@"); } &&
            make -C "$dir" -s -j"$JOBS" all && make -C "$dir" -s -j"$JOBS" check TESTS=
    } >"$dir/build.out" 2>&1 && return 0
    cat "$dir/build.out"
    return 1
}

# Adds the outcome of an automake test run: each Check program counts its checks, any other test counts as one.
# Prints the log of whatever failed.
collect_make_check() {
    local dir=$1 result=$2 trs log line before=$FAILED
    while IFS= read -r trs; do
        log=${trs%.trs}.log
        line=$(grep -E '^[0-9]+%: Checks: ' "$log" 2>/dev/null | tail -n 1)
        if [[ "$line" =~ Checks:\ ([0-9]+),\ Failures:\ ([0-9]+),\ Errors:\ ([0-9]+) ]]; then
            local bad=$((BASH_REMATCH[2] + BASH_REMATCH[3]))
            PASSED=$((PASSED + BASH_REMATCH[1] - bad))
            FAILED=$((FAILED + bad))
            # All checks well, but the program was not: a sanitizer's report at exit.
            [ "$bad" -eq 0 ] && grep -q '^:test-result: FAIL' "$trs" && FAILED=$((FAILED + 1))
        elif grep -q '^:test-result: PASS' "$trs"; then
            PASSED=$((PASSED + 1))
        elif grep -q '^:test-result: SKIP' "$trs"; then
            SKIPPED=$((SKIPPED + 1))
        else
            FAILED=$((FAILED + 1))
        fi
        if ! grep -qE '^:test-result: (PASS|SKIP)' "$trs"; then
            printf '\n---- %s\n' "$log"
            cat "$log"
        fi
    done < <(find "$dir" -name '*.trs' -newer "$dir/.check-started" | sort)
    [ "$result" -ne 0 ] && [ "$FAILED" -eq "$before" ] && FAILED=$((FAILED + 1))
    return 0
}

# The current mqtt.js, if npm is there and has it.
fetch_mqtt_js() {
    command -v npm >/dev/null && mkdir -p build/npm &&
        timeout 120 npm install --prefix build/npm --no-audit --no-fund --no-save --silent "mqtt@$MQTT_JS" </dev/null
}

# The automake tests of a build folder.
make_check() {
    local result=0
    touch -d '1 second ago' "$1/.check-started"
    make -C "$1" -s -k -j"$JOBS" check >"$1/check.out" 2>&1 || result=$?
    grep -E '^(FAIL|ERROR|# (TOTAL|PASS|SKIP|FAIL|ERROR)):' "$1/check.out" | sort -u
    collect_make_check "$1" "$result"
}

# blackbox BUILD-FOLDER PYTEST-ARGUMENT...
blackbox() {
    local dir=$1 xml=$1/blackbox.xml counts
    shift
    rm -f "$xml"
    HOLDFAST="$ROOT/$dir/holdfast" HOLDFAST_BENCH="$ROOT/$dir/holdfast-bench" \
        HOLDFAST_NPM_MODULES="$ROOT/build/npm/node_modules" PYTHONDONTWRITEBYTECODE=1 \
        /usr/bin/python3 -m pytest tests/blackbox -p no:cacheprovider -q --durations=5 --junitxml="$xml" \
        ${EXPR:+-k "$EXPR"} "$@" </dev/null
    local result=$?
    counts=$(/usr/bin/python3 - "$xml" <<'END'
import sys, xml.etree.ElementTree as tree
try:
    suite = next(tree.parse(sys.argv[1]).getroot().iter("testsuite")).attrib
    bad = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    print(int(suite["tests"]) - bad - skipped, bad, skipped)
except Exception:
    print(0, 1, 0)
END
)
    read -r good bad skipped <<<"$counts"
    [ "$result" -eq 5 ] && [ -n "$EXPR" ] && bad=0 # nothing selected
    PASSED=$((PASSED + good))
    FAILED=$((FAILED + bad))
    SKIPPED=$((SKIPPED + skipped))
    [ "$result" -ne 0 ] && [ "$result" -ne 5 ] && [ "$bad" -eq 0 ] && FAILED=$((FAILED + 1))
    return 0
}

# Exit with a test run stopped by hand or by a time limit: children end with their process group.
trap 'echo interrupted; exit 130' INT TERM

# The tests open thousands of connections; a login usually allows 1,024 descriptors until one asks for more.
ulimit -Sn 16384 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"

ROOT=$PWD
MQTT_JS=5.16.0 # from npm, beside the older one of the package node-mqtt

step "packages"
# shellcheck source=.ci/packages.sh
. .ci/packages.sh
install_packages "${TEST_PACKAGES[@]}" || give_up "installing packages"
if ! grep -qs "\"version\": \"$MQTT_JS\"" build/npm/node_modules/mqtt/package.json; then
    fetch_mqtt_js || echo "mqtt.js $MQTT_JS is not to be had from npm: its tests are left out"
fi

step "build"
if [ ! -x configure ] || [ ! -f Makefile.in ] || [ configure.ac -nt configure ]; then
    autoreconf --install || give_up "autoreconf"
fi
build build/test --enable-werror || give_up "build"

step "unit tests, fuzz seeds, source checks"
make_check build/test
shellcheck -x quickstart.sh test.sh .ci/run .ci/packages.sh
count $? "shellcheck"
mapfile -t SOURCES < <(find proto gateway tests -name '*.[ch]' | sort)
clang-format --dry-run -Werror "${SOURCES[@]}"
count $? "clang-format"

if [ "$QUICK" = no ]; then
    step "the same under AddressSanitizer and UndefinedBehaviorSanitizer"
    if build build/asan --enable-werror --enable-sanitizers CFLAGS="-g -O1"; then
        make_check build/asan
    else
        count 1 "sanitizer build"
    fi
fi

step "black-box tests"
LONG=$([ "$QUICK" = no ] && echo 1) # a gigabyte each way over TLS, see test_tls_long.py
HOLDFAST_LONG=${HOLDFAST_LONG-$LONG} blackbox build/test
if [ "$QUICK" = no ] && [ -x build/asan/holdfast ]; then
    step "black-box tests against the sanitized binary"
    HOLDFAST_LONG='' blackbox build/asan -m "not slow"
fi
finish
