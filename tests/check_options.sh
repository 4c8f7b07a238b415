#!/bin/sh
# The sample configuration and the manual are what the table of options makes, nothing is missing in them, the
# sample is accepted, wrong files are refused with file, line and what was expected, and the command line
# answers as it should.
set -eu

holdfast=${HOLDFAST:-./holdfast}
src=${srcdir:-$(dirname "$0")/..}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
checks=0
failures=0

fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

# same WHAT FILE FILE
same() {
    checks=$((checks + 1))
    if ! diff -u "$2" "$3" >"$scratch/diff"; then
        fail "$1"
        head -n 20 "$scratch/diff"
    fi
}

# has FILE TEXT: some line of the file is, or contains, the text.
has() {
    checks=$((checks + 1))
    if ! grep -q -F -e "$2" "$1"; then
        fail "no \"$2\" in $1:"
        cat "$1"
    fi
}

# status WANTED COMMAND...: the exit status; output goes to $scratch/out and $scratch/err.
status() {
    wanted=$1
    shift
    checks=$((checks + 1))
    got=0
    "$@" >"$scratch/out" 2>"$scratch/err" || got=$?
    [ "$got" -eq "$wanted" ] || fail "$* exits with $got, expected $wanted: $(cat "$scratch/err")"
}

# refuses EXPECTED: the file $scratch/bad.conf, with this text about it.
refuses() {
    status 1 "$holdfast" check -c "$scratch/bad.conf"
    has "$scratch/err" "$scratch/bad.conf:$1"
    [ ! -s "$scratch/out" ] || fail "a refused file is printed all the same"
}

# -- made from the table --
"$holdfast" options --sample >"$scratch/sample"
same 'conf/holdfast.conf is not what the table makes; run "make regenerate"' \
    "$src/conf/holdfast.conf" "$scratch/sample"
"$holdfast" options --mdoc >"$scratch/mdoc"
sed -n '/^\.\\" BEGIN made/,/^\.\\" END made/p' "$src/doc/holdfast.conf.5" | sed '1d;$d' >"$scratch/man"
same 'OPTIONS of doc/holdfast.conf.5 is not what the table makes; run "make regenerate"' \
    "$scratch/man" "$scratch/mdoc"

# -- nothing missing: every row of the source is in both --
rows=$(sed -n 's/.*\.section = "\([a-z]*\)", \.name = "\([a-z_]*\)".*/\1.\2/p' "$src/gateway/base/options.c")
[ "$(echo "$rows" | wc -l)" -ge 30 ] || fail "only these rows found in the table: $rows"
for row in $rows; do
    checks=$((checks + 1))
    awk -v section="${row%%.*}" -v name="${row#*.}" '
        { sub(/^#/, "") } # a section that is an example
        /^[a-z].*\{$/ { now = $1 }
        /^\}/ { now = "" }
        now == section && $1 == name && $2 == "=" { found = 1 }
        END { exit !found }' "$src/conf/holdfast.conf" || fail "$row is not in conf/holdfast.conf"
    awk -v section="${row%%.*}" -v name="${row#*.}" '
        $1 == ".Ss" { now = $2 == "Section" ? $3 : "" }
        now == section && $1 == ".It" && $3 == name { found = 1 }
        END { exit !found }' "$src/doc/holdfast.conf.5" || fail "$row is not in doc/holdfast.conf.5"
done

# -- right files --
status 0 "$holdfast" check
cp "$scratch/out" "$scratch/defaults"
has "$scratch/defaults" '# What would run:'
has "$scratch/defaults" '# listener clients: MQTT on 127.0.0.1:1883'
status 0 "$holdfast" check -c "$src/conf/holdfast.conf"
same "the sample is not the embedded defaults" "$scratch/out" "$scratch/defaults"
status 0 "$holdfast" check -c "$scratch/defaults"
same "what check prints is read back differently" "$scratch/out" "$scratch/defaults"
printf 'workers = 3\nmax_connections = 900\nuser = ""\nlistener "a" { bind = "127.0.0.1:0" }\n' >"$scratch/good.conf"
status 0 "$holdfast" check -c "$scratch/good.conf"
has "$scratch/out" 'workers = 3'
has "$scratch/out" '# 3 workers (as configured), each for up to 900 connections'

# -- TLS files --
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=a.example \
        -keyout "$scratch/a.key" -out "$scratch/a.crt" 2>/dev/null
    cat >"$scratch/good.conf" <<END
listener "a" { bind = "127.0.0.1:0" tls = "main" }
tls "main" { certificate = "$scratch/a.crt" key = "$scratch/a.key" }
END
    status 0 "$holdfast" check -c "$scratch/good.conf"
    has "$scratch/out" '# listener a: MQTT over TLS on 127.0.0.1:0'
    has "$scratch/out" "#   tls \"main\": $scratch/a.crt: a.example, ECDSA P-256, expires 2"
    cp "$scratch/out" "$scratch/printed"
    status 0 "$holdfast" check -c "$scratch/printed"
    same "what check prints with tls is read back differently" "$scratch/out" "$scratch/printed"
fi
printf 'listener "a" { }\ntls "t" { certificate = "%s/none" key = "k" }\n' "$scratch" >"$scratch/good.conf"
status 1 "$holdfast" check -c "$scratch/good.conf"
has "$scratch/err" "tls.certificate $scratch/none: No such file or directory"
[ ! -s "$scratch/out" ] || fail "a configuration whose files are wrong is printed all the same"
status 1 "$holdfast" reload -d "$scratch"
has "$scratch/err" "no gateway runs on data_dir '"

# -- wrong files --
printf 'listener "a" { }\n\nworker = 3\n' >"$scratch/bad.conf"
refuses '3: worker: unknown option, expected perhaps workers'
printf 'listener "a" { }\nmqtt {\n    max_packet_size = 17M\n    connect_timeout = 10\n}\n' >"$scratch/bad.conf"
refuses '3: mqtt.max_packet_size: "17M" is wrong, expected a size from 128 to 16M'
refuses '4: mqtt.connect_timeout: "10" is wrong, expected a duration from 100ms to 5m'
printf '/* a\n comment */ workers = 1\n' >"$scratch/bad.conf"
refuses '2: no listener, expected at least one'
printf 'listener "a" { bind = "0.0.0.0:1883" }\nlistener "b" { bind = "0.0.0.0:1883" }\n' >"$scratch/bad.conf"
refuses '2: listener.bind: 0.0.0.0:1883 is also bound by listener "a"'
printf 'listener "a" { }\napi {\n bind = "0.0.0.0:8080"\n}\n' >"$scratch/bad.conf"
refuses '3: api.bind: 0.0.0.0:8080 can be reached from other machines and api.token_file is empty'
printf 'listener "a" {\n nodelay = maybe\n' >"$scratch/bad.conf"
refuses '1: this { is not closed, expected }'
printf 'listener "a" { }\nworkers 3\n' >"$scratch/bad.conf"
refuses "2: missing equal sign after option 'workers'"
status 1 "$holdfast" check -c "$scratch/missing.conf"
has "$scratch/err" "$scratch/missing.conf: cannot be read: No such file"
status 1 "$holdfast" run -c "$scratch/bad.conf"
has "$scratch/err" "$scratch/bad.conf:2: missing equal sign"

# -- the command line --
status 0 "$holdfast" version
has "$scratch/out" 'holdfast '
status 0 "$holdfast" --version
status 0 "$holdfast" --help
cp "$scratch/out" "$scratch/help"
status 0 "$holdfast" help run
has "$scratch/out" 'usage: holdfast run'
status 0 "$holdfast" run --help
has "$scratch/out" 'usage: holdfast run'
status 2 "$holdfast"
has "$scratch/err" 'usage: holdfast COMMAND'
status 2 "$holdfast" chekc
has "$scratch/err" "unknown command 'chekc', did you mean 'check'?"
status 2 "$holdfast" help chekc
status 2 "$holdfast" zzz
for wrong in 'check -x' 'check extra' 'check -c' 'run extra' 'run -d' 'reload extra' 'reload -d' 'version extra' 'options' 'options --all'; do
    # shellcheck disable=SC2086 # these are words
    status 2 "$holdfast" $wrong
    has "$scratch/err" "usage: holdfast ${wrong%% *}"
done
commands=$(sed -n 's/^  \([a-z]*\) .*/\1/p' "$scratch/help")
[ -n "$commands" ] || fail "no command found in the help"
for command in $commands; do
    has "$src/doc/holdfast.8" ".It Cm $command"
done

# -- the manual's form --
if command -v mandoc >/dev/null; then
    for page in "$src"/doc/*.[0-9]; do
        checks=$((checks + 1))
        mandoc -Tlint -Wwarning "$page" >"$scratch/lint" 2>&1 || fail "$(cat "$scratch/lint")"
    done
fi

echo "$checks checks, $failures failed"
[ "$failures" -eq 0 ]
