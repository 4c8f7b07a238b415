# shellcheck shell=sh disable=SC2154
# Sourced by the scripts of tests/bench and tests/load, which set `here` to their own folder: prints where a binary of
# the build is, in the current folder or in build/.
find_binary() {
    for dir in . build build/test "$here/../../build" "$here/../../build/test"; do
        if [ -x "$dir/$1" ]; then
            echo "$dir/$1"
            return
        fi
    done
    echo "${0##*/}: $1 is not built; run make, or name it in the environment" >&2
    exit 2
}
