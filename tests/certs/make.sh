#!/bin/sh
# Makes the certificates that the black-box tests and the bench need, in folder DIR (made if it is not there). Each
# NAME.pem has its key in NAME.key.
#
#   ca              signs all of the following but what is said otherwise
#   ecdsa, rsa      servers: localhost, 127.0.0.1, ::1; P-256 and RSA-2048
#   sni             server: sni.test
#   wildcard        server: *.wild.test
#   chain           server: chain.test, by an intermediate CA that is in the file
#   expired         server: expired.test, since 2020
#   client          client: CN "client", SAN email:client@test, DNS:client.test
#   client-expired, client-revoked
#   other-ca, client-other    another CA, and a client of it
#   crl.pem         of ca: client-revoked; crl-old.pem: the same, outdated since 2020; crl-more.pem: client too
#   ocsp.der        of ca: ecdsa is good; ocsp-more.der: the same, for longer
#   tickets.keys    two session ticket keys of 80 bytes
#
# usage: make.sh DIR
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
umask 077
mkdir -p "$1"
cd "$1"

# Runs openssl quietly; what it says is shown only if it fails.
quiet() {
    openssl "$@" >openssl.log 2>&1 || { cat openssl.log >&2; echo "$0: openssl $* failed" >&2; exit 1; }
}

# A new key and a request: NAME SUBJECT KEY_TYPE...
request() {
    name=$1 subject=$2
    shift 2
    quiet req -new -config ca.cnf -nodes -newkey "$@" -keyout "$name.key" -out "$name.csr" -subj "/CN=$subject"
}
ec_request() { request "$1" "$2" ec -pkeyopt ec_paramgen_curve:P-256; }

# The certificate for NAME.csr: CA NAME EXTENSIONS SAN [option of openssl ca...]
sign() {
    ca=$1 name=$2 extensions=$3 san=$4
    shift 4
    SAN=$san quiet ca -config ca.cnf -batch -notext -name "$ca" -extensions "$extensions" -in "$name.csr" \
        -out "$name.pem" "$@"
}

# Text of the configuration for one CA, which keeps its records under its own name.
ca_section() {
    : >"$1.index"
    echo 1000 >"$1.serial"
    echo 01 >"$1.crlnumber"
    cat <<END
[$1]
database = $1.index
serial = $1.serial
crlnumber = $1.crlnumber
certificate = $1.pem
private_key = $1.key
new_certs_dir = .
default_md = sha256
default_days = 365
default_crl_days = 365
policy = any
unique_subject = no
END
}

{
    ca_section ca
    ca_section middle-ca
    ca_section other-ca
    cat <<'END'
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
keyUsage = digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $ENV::SAN
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $ENV::SAN
END
} >ca.cnf
export SAN=DNS:localhost # $ENV::SAN must be something whenever the file is read

for ca in ca other-ca; do
    quiet req -new -x509 -config ca.cnf -extensions authority -days 365 -nodes -newkey ec \
        -pkeyopt ec_paramgen_curve:P-256 -keyout "$ca.key" -out "$ca.pem" -subj "/CN=Holdfast test $ca"
done
ec_request middle-ca "Holdfast test middle-ca"
sign ca middle-ca authority DNS:unused

local_names=DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1
ec_request ecdsa localhost
sign ca ecdsa server "$local_names"
request rsa localhost rsa:2048
sign ca rsa server "$local_names"
ec_request sni sni.test
sign ca sni server DNS:sni.test
ec_request wildcard wild.test
sign ca wildcard server 'DNS:*.wild.test'
ec_request chain chain.test
sign middle-ca chain server DNS:chain.test
cat middle-ca.pem >>chain.pem
ec_request expired expired.test
sign ca expired server DNS:expired.test -startdate 20200101000000Z -enddate 20200201000000Z

ec_request client client
sign ca client client email:client@test,DNS:client.test
ec_request client-expired client-expired
sign ca client-expired client DNS:expired.test -startdate 20200101000000Z -enddate 20200201000000Z
ec_request client-revoked client-revoked
sign ca client-revoked client DNS:revoked.test
ec_request client-other client-other
sign other-ca client-other client DNS:other.test

quiet ca -config ca.cnf -name ca -revoke client-revoked.pem
quiet ca -config ca.cnf -name ca -gencrl -out crl.pem
quiet ca -config ca.cnf -name ca -gencrl -out crl-old.pem -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z
quiet ocsp -index ca.index -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert ecdsa.pem -ndays 30 \
    -respout ocsp.der
quiet ocsp -index ca.index -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert ecdsa.pem -ndays 300 \
    -respout ocsp-more.der
quiet ca -config ca.cnf -name ca -revoke client.pem
quiet ca -config ca.cnf -name ca -gencrl -out crl-more.pem
quiet rand -out tickets.keys 160

# What nobody needs any more.
rm -f ./*.csr ./*.index* ./*.serial* ./*.crlnumber* ./*.attr ./[0-9A-F][0-9A-F]*.pem ca.cnf openssl.log
