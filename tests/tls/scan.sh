#!/bin/bash
# Runs testssl.sh and sslscan against a gateway with the default TLS profile, which it starts on free ports, keeps
# their reports in a folder and prints them. Any finding above LOW is a failure.
#
# testssl.sh knows no MQTT: checks of HTTP headers are left out; simulated browsers and GREASE run against a listener
# that ignores ALPN, since by default nobody is served who offers HTTP alone. The certificates are made for the scan as
# a public CA would issue them; what they name as CRL and OCSP responder leads nowhere and is not followed.
set -uo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)

usage() {
    cat <<END
usage: $0 HOLDFAST FOLDER

  HOLDFAST  the binary to scan
  FOLDER    where tls-testssl.txt and tls-sslscan.txt are put
END
}

case "${1:-}" in -h | --help) usage && exit 0 ;; esac
[ $# -eq 2 ] || { usage >&2 && exit 2; }
HOLDFAST=$(realpath "$1")
if [ ! -f "$HOLDFAST" ] || [ ! -x "$HOLDFAST" ]; then
    echo "$0: no program '$1'" >&2
    exit 2
fi
mkdir -p "$2" || exit 2
OUT=$(realpath "$2")

# shellcheck source=.ci/packages.sh
. "$ROOT/.ci/packages.sh"
install_packages "${SCAN_PACKAGES[@]}" || exit 1

WORK=$(mktemp -d)
GATEWAY=
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    [ -n "$GATEWAY" ] && kill "$GATEWAY" 2>/dev/null && wait "$GATEWAY"
    rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$WORK" || exit 1
chmod 755 .
export TMPDIR=$WORK

# ---- certificates

# Runs a command; what it says is shown only if it fails.
quiet() {
    "$@" >command.log 2>&1 || { cat command.log >&2 && echo "$0: failed: $*" >&2 && exit 1; }
}

# certificate NAME KEY-TYPE...: NAME.pem, NAME.key and the OCSP response NAME.ocsp.
certificate() {
    local name=$1 serial
    shift
    serial=5A$(openssl rand -hex 15 | tr a-f A-F)
    quiet openssl req -new -nodes -newkey "$@" -keyout "$name.key" -out "$name.csr" -subj /CN=localhost
    quiet openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -set_serial "0x$serial" -days 90 -sha256 \
        -extfile server.ext -out "$name.pem"
    printf 'V\t491231235959Z\t\t%s\tunknown\t/CN=localhost\n' "$serial" >index
    quiet openssl ocsp -index index -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert "$name.pem" \
        -ndays 7 -respout "$name.ocsp"
}

cat >server.ext <<END
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
crlDistributionPoints = URI:http://crl.test/ca.crl
authorityInfoAccess = OCSP;URI:http://ocsp.test/
END
quiet openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout ca.key -out ca.pem -days 90 \
    -subj '/CN=Holdfast scan CA'
certificate ecdsa ec -pkeyopt ec_paramgen_curve:P-256
certificate rsa rsa:2048

# ---- the gateway

FILES='certificate = {"ecdsa.pem", "rsa.pem"}  key = {"ecdsa.key", "rsa.key"}  ocsp = {"ecdsa.ocsp", "rsa.ocsp"}'
cat >holdfast.conf <<END
workers = 1
data_dir = "data"
listener "default" { bind = "127.0.0.1:0"  tls = "default" }
listener "any-alpn" { bind = "127.0.0.1:0"  tls = "any-alpn" }
tls "default" { $FILES }
tls "any-alpn" { $FILES  alpn = "" }
api { bind = "127.0.0.1:0" }
END
"$HOLDFAST" run -c holdfast.conf >gateway.log 2>&1 &
GATEWAY=$!
until grep -q ' ready ' gateway.log; do
    kill -0 "$GATEWAY" 2>/dev/null || { cat gateway.log >&2 && exit 1; }
    sleep 0.1
done
port_of() { sed -n "s/.* listening listener=$1 address=127.0.0.1:\([0-9]*\)$/\1/p" gateway.log; }
PORT=$(port_of default)
PORT_ANY_ALPN=$(port_of any-alpn)

# ---- the scans

# testssl_on PORT JSON-FILE OPTION...
testssl_on() {
    local port=$1 json=$2
    shift 2
    testssl --quiet --color 0 --warnings batch -n none --ip 127.0.0.1 --add-ca "$WORK/ca.pem" --jsonfile "$json" "$@" \
        "localhost:$port" </dev/null
}

# Leaves out what differs from run to run and from machine to machine. Resumption is among it: the client that testssl.sh
# uses closes at once, and whether it has got a ticket of TLS 1.3 by then is chance.
stable() {
    sed -E -e 's/\x1b\[[0-9;]*m//g' -e "s/\b($PORT|$PORT_ANY_ALPN)\b/8883/g" -e 's/ *\(20[0-9-]+ .* --> 20.*\)//' \
        -e '/^ *(Start|Done) 20[0-9]/d' -e '/^ *(A record via|rDNS|Fingerprints|Serial)[ :]/d' \
        -e '/^ *(SHA256 +)?[0-9A-F]{64}$/d' -e '/^ *SHA256 [0-9A-F ]+/d' -e '/censys/d' -e '/GOST support via/d' \
        -e '/^OpenSSL [0-9]/d' -e '/^ *(Not valid|Produced At|This Update|Next Update|Serial Number)/d' \
        -e '/^ *Issuer (Name|Key) Hash:/d' -e '/^ *Session Resumption /d' -e 's/[ \t]+$//' | cat -s
}

version_of() { dpkg-query -W -f='${Version}' "$1"; }

{
    printf 'testssl.sh %s, the default profile of a tls section\n\n' "$(version_of testssl.sh)"
    testssl_on "$PORT" default.json -p -s -f -P -S -U -e
    printf '\n The same but for alpn = "", with clients that offer HTTP alone\n\n'
    testssl_on "$PORT_ANY_ALPN" clients.json -c -g
} >testssl.out 2>&1
{
    printf 'sslscan %s, the default profile of a tls section\n\n' "$(version_of sslscan)"
    sslscan --no-colour --ocsp --show-sigs --xml=sslscan.xml "localhost:$PORT"
} >sslscan.out 2>&1
stable <testssl.out >"$OUT/tls-testssl.txt"
stable <sslscan.out >"$OUT/tls-sslscan.txt"
cat "$OUT/tls-testssl.txt" "$OUT/tls-sslscan.txt"

# ---- the verdict

# Prints what is not fine; its exit status says whether any of that is above LOW.
verdict() {
    /usr/bin/python3 - default.json clients.json sslscan.xml <<'END'
import json
import sys
import xml.etree.ElementTree as tree

# Warnings about the openssl program that testssl.sh uses, and about what it cannot find out with it, see stable().
IGNORED = ("engine_problem", "sessionresumption_ticket", "sessionresumption_ID")

bad, low, fine = [], [], 0
for path, expected in zip(sys.argv[1:3], (60, 20)):
    findings = json.load(open(path))
    if len(findings) < expected:
        bad.append(f"testssl.sh: {len(findings)} findings in {path}: it did not come to its end")
    for f in findings:
        text = f"testssl.sh: {f['severity']} {f['id']}: {f['finding']}"
        if f["severity"] in ("OK", "INFO") or f["id"] in IGNORED:
            fine += 1
        elif f["severity"] == "LOW":
            low.append(text)
        else:
            bad.append(text)

scan = tree.parse(sys.argv[3]).getroot()
ciphers = list(scan.iter("cipher"))
if not ciphers:
    bad.append("sslscan: no ciphers: it did not come to its end")
for p in scan.iter("protocol"):
    wanted = p.get("type") == "tls" and p.get("version") in ("1.2", "1.3")
    if (p.get("enabled") == "1") != wanted:
        bad.append(f"sslscan: {p.get('type')} {p.get('version')}: enabled={p.get('enabled')}")
for c in ciphers:
    if c.get("strength") not in ("strong", "acceptable") or int(c.get("bits")) < 128:
        bad.append(f"sslscan: cipher {c.get('cipher')} is {c.get('strength')}")
bad += [f"sslscan: heartbleed {e.get('sslversion')}" for e in scan.iter("heartbleed") if e.get("vulnerable") != "0"]
bad += ["sslscan: compression" for e in scan.iter("compression") if e.get("supported") == "1"]
bad += ["sslscan: insecure renegotiation" for e in scan.iter("renegotiation")
        if e.get("supported") == "1" and e.get("secure") != "1"]

for text in low + bad:
    print(text)
print(f"testssl.sh: {fine} fine, {len(low)} LOW; sslscan: {len(ciphers)} ciphers; above LOW: {len(bad)}")
sys.exit(bool(bad))
END
}

echo
verdict
STATUS=$?
if ! kill -0 "$GATEWAY" 2>/dev/null || grep ' process_died ' gateway.log; then
    echo "the gateway did not survive"
    STATUS=1
fi
exit "$STATUS"
