#!/bin/sh
# Verifies that the folders include only what gateway/LAYERS allows, that proto/ needs nothing but bytes, and
# that the unit tests are made from test files and the layers' libraries alone.
#
# usage: check_layers.sh [TREE]     without TREE: self test on made-up trees, then the source tree
set -eu

# System headers that proto/ may use: no socket, clock, allocator, log or event loop among them. Ciphers are OpenSSL's.
PROTO_HEADERS='assert.h inttypes.h limits.h stdarg.h stdbool.h stddef.h stdint.h string.h strings.h openssl/core_names.h openssl/crypto.h openssl/evp.h openssl/kdf.h openssl/params.h'

# Prints every violation in the tree $1 and the number of includes checked; fails if there is a violation.
check_tree() (
    cd "$1"
    files=$(find proto gateway tests/unit -type f \( -name '*.c' -o -name '*.h' -o -name '*.def' \) |
        LC_ALL=C sort)
    # shellcheck disable=SC2086 # file names of this project hold no blanks
    LC_ALL=C awk -v proto_headers="$PROTO_HEADERS" '
        # The longest row of LAYERS that the path begins with, or "".
        function row_of(path,    r, best) {
            best = ""
            for (r in allowed)
                if (index(path, r) == 1 && length(r) > length(best))
                    best = r
            return best
        }
        function wrong(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; bad++ }
        function exists(path,    line, found) {
            found = (getline line < path) >= 0
            close(path)
            return found
        }
        function folder(path) { sub(/[^\/]*$/, "", path); return path }

        # tests/unit: no source of a layer is compiled into a test.
        function check_test(target) {
            if (target !~ /^(proto|gateway|tests\/unit)\// && exists(folder(FILENAME) target) == 0)
                wrong("a unit test includes \"" target "\"; expected one of proto/, gateway/ or tests/unit/")
            else if (target ~ /\.c$/)
                wrong("a unit test includes the source \"" target "\"; link the library of its layer")
        }
        function check_layer(target,    from, to) {
            if (index(target, "/") == 0) {
                if (target == "config.h" || exists(folder(FILENAME) target))
                    return # made by configure, or of the own folder
                wrong("\"" target "\" is not in this folder; includes are written from the top")
                return
            }
            if (!exists(target)) {
                wrong("there is no \"" target "\"")
                return
            }
            from = row_of(FILENAME)
            to = row_of(target)
            if (from != to && index(allowed[from], " " to " ") == 0)
                wrong(from " may not include \"" target "\"; gateway/LAYERS allows:" \
                      (allowed[from] == " - " ? " its own folder only" : allowed[from]))
        }
        function check_system(target) {
            if (FILENAME ~ /^proto\// && index(" " proto_headers " ", " " target " ") == 0)
                wrong("proto/ may not include <" target ">; it may use: " proto_headers)
        }

        FILENAME == "gateway/LAYERS" {
            if ($1 !~ /^#/ && NF > 0) {
                list = " "
                for (i = 2; i <= NF; i++)
                    list = list $i " "
                allowed[$1] = list
            }
            next
        }
        FNR == 1 && FILENAME ~ /^(proto|gateway)\// {
            files++
            if (row_of(FILENAME) == "")
                wrong("no row of gateway/LAYERS covers this file")
        }
        /^[ \t]*#[ \t]*include[ \t]*["<]/ {
            includes++
            match($0, /["<][^">]*/)
            quote = substr($0, RSTART, 1)
            target = substr($0, RSTART + 1, RLENGTH - 1)
            if (quote == "<")
                check_system(target)
            else if (FILENAME ~ /^tests\//)
                check_test(target)
            else
                check_layer(target)
        }
        END {
            if (includes == 0) {
                print "no include found: is this the source tree?"
                bad++
            }
            printf "%d includes in %d files of the layers and in the unit tests checked, %d wrong\n", \
                includes, files, bad
            exit bad > 0
        }
    ' gateway/LAYERS $files || exit 1
    if [ -f tests/unit/include.am ] &&
        grep -n '_SOURCES' tests/unit/include.am | grep -E '[ =](proto|gateway)/'; then
        echo "tests/unit/include.am: a source of a layer is compiled into a test; link the library"
        exit 1
    fi
)

# Makes a small tree $1 that is right.
make_tree() {
    mkdir -p "$1/proto" "$1/gateway/base" "$1/gateway/net" "$1/gateway/tools/bench" "$1/tests/unit"
    cat >"$1/gateway/LAYERS" <<'EOF'
# folder             may include
proto/               -
gateway/base/        -
gateway/net/         proto/ gateway/base/
gateway/tools/       gateway/base/
gateway/tools/bench/ proto/
gateway/main.c       gateway/net/
EOF
    echo '#include <stdint.h>' >"$1/proto/a.h"
    echo '#include "gateway/base/t.h"' >"$1/gateway/base/b.h"
    echo '#include "t.h"' >"$1/gateway/base/u.h"
    : >"$1/gateway/base/t.h"
    printf '#include "config.h"\n#include "proto/a.h"\n  #  include "gateway/base/b.h"\n' \
        >"$1/gateway/net/n.h"
    echo '#include "gateway/base/b.h"' >"$1/gateway/tools/t.c"
    echo '#include "proto/a.h"' >"$1/gateway/tools/bench/m.c"
    echo '#include "gateway/net/n.h"' >"$1/gateway/main.c"
    printf '#include "gateway/net/n.h"\n#include <check.h>\n' >"$1/tests/unit/test_n.c"
    echo 'tests_unit_test_n_SOURCES = tests/unit/test_n.c' >"$1/tests/unit/include.am"
}

# Appends line $3 to file $2 of a fresh tree; the check must fail and say $4. Counts in $cases.
must_fail() {
    rm -rf "$scratch/tree"
    make_tree "$scratch/tree"
    mkdir -p "$(dirname "$scratch/tree/$2")"
    echo "$3" >>"$scratch/tree/$2"
    if check_tree "$scratch/tree" >"$scratch/out"; then
        echo "self test: $1 was not noticed"
        exit 1
    fi
    if ! grep -q -F "$4" "$scratch/out"; then
        echo "self test: $1 gave another message:"
        cat "$scratch/out"
        exit 1
    fi
    cases=$((cases + 1))
}

self_test() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    cases=0
    make_tree "$scratch/tree"
    if ! check_tree "$scratch/tree" >"$scratch/out"; then
        echo "self test: a tree that is right was refused"
        cat "$scratch/out"
        exit 1
    fi
    must_fail "a call upwards" gateway/base/b.h '#include "gateway/net/n.h"' \
        'gateway/base/b.h:2: gateway/base/ may not include "gateway/net/n.h"'
    must_fail "a layer below that is not allowed" gateway/tools/t.c '#include "proto/a.h"' \
        'gateway/tools/t.c:2: gateway/tools/ may not include "proto/a.h"'
    must_fail "a subfolder's own row" gateway/tools/bench/m.c '#include "gateway/base/b.h"' \
        'gateway/tools/bench/ may not include "gateway/base/b.h"'
    must_fail "main.c beyond its row" gateway/main.c '#include "gateway/base/b.h"' \
        'gateway/main.c may not include "gateway/base/b.h"'
    must_fail "a .def file" gateway/base/x.def '#include "proto/a.h"' \
        'gateway/base/x.def:1: gateway/base/ may not'
    must_fail "a folder without a row" gateway/hub/h.c '#include <stdio.h>' 'gateway/hub/h.c:1: no row'
    must_fail "a file that does not exist" gateway/net/n.h '#include "gateway/base/gone.h"' \
        'there is no "gateway/base/gone.h"'
    must_fail "a relative include" gateway/net/n.h '#include "b.h"' '"b.h" is not in this folder'
    for header in event2/event.h sys/socket.h time.h stdlib.h stdio.h; do
        must_fail "<$header> in proto/" proto/a.h "#include <$header>" \
            "proto/a.h:2: proto/ may not include <$header>"
    done
    must_fail "a source in a test" tests/unit/test_n.c '#include "gateway/net/n.c"' \
        'a unit test includes the source "gateway/net/n.c"'
    must_fail "a source linked into a test" \
        tests/unit/include.am 'x_SOURCES = tests/unit/x.c gateway/net/n.c' \
        'a source of a layer is compiled into a test'
    echo "self test: $cases violations noticed"
}

if [ $# -gt 0 ]; then
    check_tree "$1"
else
    self_test
    check_tree "${srcdir:-$(dirname "$0")/..}"
fi
