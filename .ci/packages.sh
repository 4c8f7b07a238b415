# shellcheck shell=bash
# The one list of Debian packages, and how to get those that are missing. Sourced by quickstart.sh and test.sh.

# To build and run.
BUILD_PACKAGES=(gcc libc6-dev make autoconf automake pkgconf libevent-dev libconfuse-dev libjansson-dev libsystemd-dev
    libssl-dev liblmdb-dev)
# To try it by hand.
TRY_PACKAGES=(curl mosquitto-clients)
# To test: unit tests, black-box tests with other people's clients, checks of scripts and manual pages, tarballs.
# Read by test.sh.
# shellcheck disable=SC2034
TEST_PACKAGES=("${BUILD_PACKAGES[@]}" "${TRY_PACKAGES[@]}" check python3 python3-pytest python3-paho-mqtt node-mqtt
    libpaho-mqtt-dev openssl gnutls-bin gdb procps shellcheck mandoc clang-format git xz-utils)
# To scan a TLS listener. Read by tests/tls/scan.sh.
# shellcheck disable=SC2034
SCAN_PACKAGES=(openssl testssl.sh sslscan python3)

# Prints those of the named packages that are not installed. A package counts as there when another provides it
# under its own command (pkgconf and pkg-config).
missing_packages() {
    local p
    for p in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] && continue
        [ "$p" = pkgconf ] && command -v pkg-config >/dev/null && continue
        [ "$p" = clang-format ] && command -v clang-format >/dev/null && continue
        printf '%s\n' "$p"
    done
}

# Installs what is missing of the named packages. Package lists are fetched when there are none yet, as in a new
# container, or when apt-get cannot do with those there are.
install_packages() {
    local -a missing sudo=()
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "missing packages: ${missing[*]}" >&2
            echo "neither root nor sudo: as root, run: apt-get install ${missing[*]}" >&2
            return 1
        fi
        sudo=(sudo)
    fi
    echo "installing: ${missing[*]}"
    local -a apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || "${apt[@]}" update </dev/null
    if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null; then
        echo "trying again with fresh package lists"
        "${apt[@]}" update </dev/null
        "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
    fi
}
