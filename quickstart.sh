#!/bin/bash
# Builds Holdfast on Debian 12 and runs it in the foreground, with three lines to try.
set -euo pipefail
cd "$(dirname "$0")"

PORT=1883
API_PORT=8080

usage() {
    cat <<END
usage: ./quickstart.sh [--port PORT] [--api-port PORT]

Installs what is missing (Debian packages, as root or with sudo), builds in ./build, and runs the gateway on its
embedded defaults: MQTT on 127.0.0.1:1883, HTTP API on 127.0.0.1:8080, anonymous, data in ./holdfast-data.
Ctrl-C stops it.

  --port PORT       MQTT on another port
  --api-port PORT   HTTP API on another port
  --help            this text
END
}

die() {
    echo "quickstart: $*" >&2
    exit 1
}

# A port number from 1 to 65535.
port_number() {
    if ! [[ "${2:-}" =~ ^[1-9][0-9]{0,4}$ ]] || [ "$2" -gt 65535 ]; then
        die "$1 wants a port from 1 to 65535"
    fi
}

while [ $# -gt 0 ]; do
    case "$1" in
    --port) port_number "$1" "${2:-}" && PORT=$2 && shift 2 ;;
    --api-port) port_number "$1" "${2:-}" && API_PORT=$2 && shift 2 ;;
    --port=*) port_number --port "${1#*=}" && PORT=${1#*=} && shift ;;
    --api-port=*) port_number --api-port "${1#*=}" && API_PORT=${1#*=} && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done
[ "$PORT" != "$API_PORT" ] || die "--port and --api-port must differ"

# Says what to do when somebody listens there already.
must_be_free() {
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
        die "port $1 is taken by another program; stop it, or use: ./quickstart.sh $2 $(($1 + 1))"
    fi
}
must_be_free "$PORT" --port
must_be_free "$API_PORT" --api-port

# shellcheck source=.ci/packages.sh
. .ci/packages.sh
install_packages "${BUILD_PACKAGES[@]}" "${TRY_PACKAGES[@]}"

if [ ! -x configure ] || [ ! -f Makefile.in ] || [ configure.ac -nt configure ]; then
    autoreconf --install
fi
mkdir -p build
echo "building in ./build"
[ -f build/Makefile ] || (cd build && ../configure --quiet >/dev/null)
make -C build --no-print-directory -s -j"$(nproc)" holdfast >/dev/null

ARGS=(run)
if [ "$PORT" != 1883 ] || [ "$API_PORT" != 8080 ]; then
    cat >build/quickstart.conf <<END
# Written by quickstart.sh: the embedded defaults on other ports.
data_dir = "./holdfast-data"
listener "clients" { bind = "127.0.0.1:$PORT" }
api { bind = "127.0.0.1:$API_PORT" }
END
    ARGS+=(-c build/quickstart.conf)
fi

# Waits for the gateway, which is about to take this shell's place, and tells how to try it.
tell_when_ready() {
    local port="" api="http://127.0.0.1:$API_PORT"
    [ "$PORT" = 1883 ] || port=" -p $PORT"
    for _ in $(seq 300); do
        if curl -fs --noproxy '*' -o /dev/null --max-time 2 "$api/readyz" 2>/dev/null; then
            cat <<END

Holdfast is ready. In other terminals, try:

  mosquitto_sub -h 127.0.0.1$port -i alice -t news -v
  curl --json '{"topic": "news", "payload": "hello"}' $api/v1/publish
  curl $api/metrics

Ctrl-C stops it.

END
            return
        fi
        kill -0 $$ 2>/dev/null || return
        sleep 0.1
    done
    echo "quickstart: the gateway is not ready after 30 seconds; its log above says why" >&2
}
tell_when_ready </dev/null &

exec build/holdfast "${ARGS[@]}" </dev/null
