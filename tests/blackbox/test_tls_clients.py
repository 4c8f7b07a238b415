"""Other people's clients and another TLS stack against the real binary: gnutls-cli, mosquitto, paho, mqtt.js, curl.
openssl has a file of its own, test_tls_openssl.py."""

import json
import os
import random
import ssl
import subprocess
import threading

import pytest

import mqtt_raw as mqtt
import tls_raw as tls
from conftest import PATIENCE, tls_section, wait_for
from tls_raw import V12, V13

ASK = {"tlsv1.2": V12, "tlsv1.3": V13}
UNPARKED = "holdfast_tls_connections_unparked"


# ---- GnuTLS

GNUTLS = {name: f"NORMAL:-VERS-ALL:+VERS-TLS{version}:-CIPHER-ALL:+{cipher}" for name, version, cipher in [
    ("1.3 AES-128", "1.3", "AES-128-GCM"), ("1.3 AES-256", "1.3", "AES-256-GCM"),
    ("1.3 ChaCha20", "1.3", "CHACHA20-POLY1305"), ("1.2 AES-128", "1.2", "AES-128-GCM"),
    ("1.2 AES-256", "1.2", "AES-256-GCM"), ("1.2 ChaCha20", "1.2", "CHACHA20-POLY1305")]}
GNUTLS["1.2 RSA"] = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA"
GNUTLS["1.3 P-384"] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP384R1"


def gnutls(gateway, certs, priority="NORMAL", *options, client_id="c"):
    """An MQTT client that speaks through gnutls-cli. What that says about the connection is in `log` when it ends."""
    log = gateway.folder / "gnutls.log"
    program = tls.Program("gnutls-cli", f"--logfile={log}", f"--x509cafile={certs}/ca.pem", "--port", gateway.secure[1],
                          "--priority", priority, *options, "localhost")
    client = tls.Client(program, client_id)
    client.log = log
    return client


def ended(client):
    """Ends it in good order and returns what it said about the connection."""
    client.sock.finish()
    return client.log.read_text()


@pytest.mark.parametrize("name", GNUTLS)
def test_gnutls_talks_to_a_parked_connection(tls_gateway, certs, name):
    with gnutls(tls_gateway, certs, GNUTLS[name], "--alpn=mqtt") as client:
        client.subscribe("t")
        for size in (0, 1, 5000, 100_000):
            payload = random.Random(size).randbytes(size)
            client.publish("t", payload)
            client.expect_publish(payload)
            tls_gateway.publish("clients/c", f"pushed {size}")
            client.expect_publish(f"pushed {size}")
        assert tls_gateway.metric("holdfast_connections_parked") == 1
        said = ended(client)
        assert "The certificate is trusted" in said and "Application protocol: mqtt" in said, said
    tls_gateway.wait_event("client_closed", client="c", reason="peer_closed")


@pytest.mark.parametrize("suite,priority", [("ECDHE-RSA-AES128-SHA", "+AES-128-CBC:+SHA1"),
                                            ("AES128-GCM-SHA256", "+AES-128-GCM:-KX-ALL:+RSA")])
def test_gnutls_talks_to_an_unparked_connection(start_tls, certs, suite, priority):
    gateway = start_tls(f'ciphers = "{suite}"')
    with gnutls(gateway, certs, f"NORMAL:-VERS-ALL:+VERS-TLS1.2:{priority}") as client:
        client.subscribe("t")
        client.publish("t", "x" * 100_000)
        client.expect_publish("x" * 100_000)
        assert gateway.metric(UNPARKED) == 1


def command(client, word):
    """A command for gnutls-cli itself, which it takes only at the beginning of a line."""
    client.publish("line", "ends here\n")
    client.expect_publish("ends here\n")
    client.send(f"^{word}^\n".encode())


@pytest.mark.parametrize("word", ["rekey", "rekey1"])
def test_gnutls_updates_keys_in_the_middle_of_traffic(tls_gateway, certs, word):
    """rekey asks the gateway to do the same, rekey1 does not."""
    with gnutls(tls_gateway, certs, "NORMAL:-VERS-ALL:+VERS-TLS1.3", "--inline-commands") as client:
        client.subscribe("line")
        for i in range(1, 6):
            command(client, word)
            client.ping()
            tls_gateway.publish("clients/c", f"after {i}")
            client.expect_publish(f"after {i}")
        assert ended(client).count("Rekey was completed") == 5
    assert tls_gateway.metric("holdfast_tls_key_updates_total") == (10 if word == "rekey" else 5)


@pytest.mark.parametrize("parking", ["true", "false"])
def test_gnutls_is_told_that_there_is_no_renegotiation(start_tls, certs, parking):
    """It gives up then, as OpenSSL's client does; the gateway would have gone on."""
    gateway = start_tls(f"parking = {parking}")
    with tls.client(gateway, "witness") as witness, \
            gnutls(gateway, certs, "NORMAL:-VERS-ALL:+VERS-TLS1.2", "--inline-commands") as client:
        client.subscribe("line")
        command(client, "renegotiate")
        client.expect_closed()
        assert "Received alert [100]: No renegotiation is allowed" in ended(client)
        witness.ping()
    gateway.wait_event("client_closed", client="c", reason="tls_alert_received")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_gnutls_resumes(tls_gateway, certs, version):
    with gnutls(tls_gateway, certs, f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--resume", "--waitresumption") as client:
        client.subscribe("t")
        client.publish("t", "x" * 40_000)
        client.expect_publish("x" * 40_000)
        assert "*** This is a resumed session" in ended(client)
    assert tls_gateway.metric("holdfast_tls_handshakes_resumed_total") == 1


def test_gnutls_gets_the_staple_and_shows_its_certificate(start_tls, certs):
    gateway = start_tls(f'ocsp = {{"{certs}/ocsp.der", ""}}  client_certificate = required  ca = "{certs}/ca.pem"')
    own = [f"--x509certfile={certs}/client.pem", f"--x509keyfile={certs}/client.key"]
    with gnutls(gateway, certs, "NORMAL", "--ocsp", *own) as client:
        client.ping()
        assert "OCSP status request," in ended(client)
    with pytest.raises((mqtt.Closed, BrokenPipeError)):
        gnutls(gateway, certs)


# ---- mosquitto

ONLY_TLS_12 = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n"


def mosquitto(kind, gateway, certs, *arguments):
    host, port = gateway.secure
    return [f"mosquitto_{kind}", "-h", host, "-p", str(port), "--cafile", f"{certs}/ca.pem", *arguments]


@pytest.mark.parametrize("version,protocol", [("tlsv1.2", "mqttv311"), ("tlsv1.3", "mqttv5")])
def test_mosquitto_clients_hear_each_other_over_tls(tls_gateway, certs, folder, version, protocol):
    (folder / "openssl.cnf").write_text(ONLY_TLS_12)  # its own option sets the lowest version only
    env = {**os.environ, **({"OPENSSL_CONF": f"{folder}/openssl.cnf"} if version == "tlsv1.2" else {})}
    choose = ["--tls-version", version, "-V", protocol, "-t", "lines"]
    sub = subprocess.Popen(mosquitto("sub", tls_gateway, certs, *choose, "-C", "500", "-W", "20"),
                           stdout=subprocess.PIPE, text=True, env=env)
    tls_gateway.wait_metric("holdfast_subscriptions", 1)
    text = "".join(f"line {i} {'x' * (i * 7 % 900)}\n" for i in range(500))
    subprocess.run(mosquitto("pub", tls_gateway, certs, *choose, "-l", "--tls-alpn", "mqtt"), input=text, text=True,
                   timeout=20, check=True, env=env)
    out, _ = sub.communicate(timeout=25)
    assert out == text
    handshakes = {"tlsv1.2": "v12", "tlsv1.3": "v13"}[version]
    assert tls_gateway.metric(f"holdfast_tls_handshakes_{handshakes}_total") == 2


def test_mosquitto_with_a_client_certificate(start_tls, certs):
    gateway = start_tls(f'client_certificate = required  ca = "{certs}/ca.pem"  crl = "{certs}/crl.pem"')

    def publish(name):
        own = ["--cert", f"{certs}/{name}.pem", "--key", f"{certs}/{name}.key"] if name else []
        return subprocess.run(mosquitto("pub", gateway, certs, "-t", "t", "-m", "x", *own), capture_output=True,
                              text=True, timeout=20).returncode

    assert publish("client") == 0
    assert publish(None) != 0 and publish("client-revoked") != 0
    assert gateway.metric("holdfast_publishes_received_total") == 1


# ---- paho

@pytest.mark.parametrize("version", ASK)
def test_paho_subscribes_publishes_and_keeps_alive_over_tls(tls_gateway, certs, version):
    paho = pytest.importorskip("paho.mqtt.client", reason="python3-paho-mqtt is not installed")
    arguments = {"client_id": "paho"}
    if hasattr(paho, "CallbackAPIVersion"):
        arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION1
    client = paho.Client(**arguments)
    context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    context.minimum_version = context.maximum_version = ASK[version]
    client.tls_set_context(context)
    got, subscribed, disconnected = [], threading.Event(), threading.Event()
    client.on_message = lambda c, u, message: got.append((message.topic, message.payload))
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_disconnect = lambda *_: disconnected.set()
    client.connect(*tls_gateway.secure, keepalive=1)
    client.loop_start()
    try:
        client.subscribe("a/+")
        assert subscribed.wait(PATIENCE)
        for i in range(50):
            client.publish("a/x", f"{i}" * 1000)
        tls_gateway.publish("clients/paho", "direct")
        tls_gateway.publish("broadcast", "all")
        wait_for(lambda: len(got) == 52, f"52 messages, got {len(got)}")
        assert [p for t, p in got if t == "a/x"] == [(str(i) * 1000).encode() for i in range(50)]
        tls_gateway.wait_metric("holdfast_heartbeats_total", lambda n: n >= 1)
        assert not disconnected.is_set()
    finally:
        client.disconnect()
        client.loop_stop()
    tls_gateway.wait_event("client_closed", client="paho", reason="client_disconnect")


# ---- mqtt.js

MQTT_JS = """
const mqtt = require('mqtt');
const fs = require('fs');
const [port, ca, version, maxVersion, answer] = process.argv.slice(2);
const client = mqtt.connect({protocol: 'mqtts', host: 'localhost', port: Number(port), protocolVersion: Number(version),
                             clientId: 'js', keepalive: 1, reconnectPeriod: 0, ca: fs.readFileSync(ca),
                             minVersion: maxVersion, maxVersion, ALPNProtocols: ['mqtt']});
const got = [];
client.on('error', e => { console.error(e); process.exit(1); });
client.on('close', () => { console.error('closed'); process.exit(2); });
client.on('message', (topic, payload) => {
    got.push([topic, payload.toString()]);
    if (got.length === 3) {
        // A file, not a pipe: process.exit() does not wait for what a pipe has no room for.
        fs.writeFileSync(answer, JSON.stringify({got, protocol: client.stream.getProtocol(),
                                                 alpn: client.stream.alpnProtocol}));
        client.removeAllListeners('close');
        client.end(false, {}, () => process.exit(0));
    }
});
client.on('connect', () => client.subscribe(['js/+'], (e, granted) => {
    if (e || granted[0].qos !== 0) { console.error(e, granted); process.exit(3); }
    client.publish('js/a', 'x'.repeat(100000));
    client.publish('clients/js', 'two');
}));
client.on('packetreceive', p => { if (p.cmd === 'pingresp') client.publish('broadcast', 'three'); });
"""


@pytest.mark.parametrize("maximum,version", [("TLSv1.2", 4), ("TLSv1.3", 5)])
def test_mqtt_js_over_tls(tls_gateway, certs, folder, maximum, version, node_env):
    script = folder / "client.js"
    script.write_text(MQTT_JS)
    told = folder / "answer.json"
    result = subprocess.run(["node", str(script), str(tls_gateway.secure[1]), f"{certs}/ca.pem", str(version), maximum,
                             str(told)],
                            capture_output=True, text=True, timeout=30, env=node_env)
    assert result.returncode == 0, result
    answer = json.loads(told.read_text())
    assert answer["got"] == [["js/a", "x" * 100_000], ["clients/js", "two"], ["broadcast", "three"]]
    assert (answer["protocol"], answer["alpn"]) == (maximum, "mqtt")


# ---- curl

def curl(*arguments):
    return subprocess.run(["curl", "-sS", *map(str, arguments)], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("version", [["--tls-max", "1.2"], ["--tlsv1.3"]])
def test_curl_is_told_that_this_is_not_http(tls_gateway, certs, version):
    url = f"https://localhost:{tls_gateway.secure[1]}/"
    result = curl(*version, "--no-alpn", "-i", "--cacert", certs / "ca.pem", url)
    assert result.returncode == 0, result
    assert result.stdout.startswith("HTTP/1.1 400 ") and "This port speaks MQTT" in result.stdout
    result = curl(*version, "--cacert", certs / "ca.pem", url)  # it offers ALPN h2 and http/1.1
    assert result.returncode == 35 and "alert" in result.stderr, result


def test_what_curl_publishes_in_plaintext_is_heard_over_tls(tls_gateway):
    with tls.client(tls_gateway, "c") as client:
        client.subscribe("t")
        result = curl("-d", "hello", f"mqtt://{tls_gateway.mqtt[0]}:{tls_gateway.mqtt[1]}/t")
        assert result.returncode == 0, result
        client.expect_publish("hello")


# ---- everybody at once

def bytes_until(sock, received, end):
    while not received.endswith(end):
        data = sock.recv(65536)
        assert data, "closed"
        received += data
    return received


def test_a_broadcast_is_the_same_for_every_kind_of_client(start_tls, certs):
    more = 'listener "kept" { bind = "127.0.0.1:0"  tls = "kept" }\n' + tls_section(certs, "parking = false", "kept")
    gateway = start_tls(workers=2, more=more)
    kept = gateway.listening["kept"]
    clients = {"plaintext": gateway.client("plaintext"),
               "1.2": tls.client(gateway, "1.2", tls.context(V12)),
               "1.2 RSA ChaCha": tls.client(gateway, "rsa", tls.context(V12, "ECDHE-RSA-CHACHA20-POLY1305")),
               "1.3": tls.client(gateway, "1.3", tls.context(V13)),
               "gnutls": gnutls(gateway, certs, client_id="gnutls"),
               "unparked 1.2": tls.Client(tls.TlsSocket(kept, tls.context(V12)), "u12"),
               "unparked 1.3": tls.Client(tls.TlsSocket(kept, tls.context(V13)), "u13")}
    assert gateway.metric(UNPARKED) == 2
    gateway.wait_registered(len(clients))
    payloads = ["x", "", "y" * 16_384, "z" * 100_000] + [f"message {i} " * (i % 40) for i in range(300)] + ["the end"]
    for payload in payloads:
        gateway.publish("broadcast", payload)
    streams = {name: bytes_until(client.sock, bytes(client.buffer), b"the end") for name, client in clients.items()}
    expected = b"".join(mqtt.publish(mqtt.V5, "broadcast", p) for p in payloads)
    for name, stream in streams.items():
        assert stream == expected, name
    for client in clients.values():
        client.buffer.clear()
        client.ping()
        client.close()


def test_as_many_handshakes_as_messages(tls_gateway):
    """Clients come and go, resumed and not, while others hear everything."""
    context = tls.context()
    with tls.client(tls_gateway, "witness") as witness:
        witness.subscribe("coming")
        session = None
        for i in range(60):
            with tls.client(tls_gateway, f"guest-{i}", context, session=session) as guest:
                guest.publish("coming", f"{i}")
                witness.expect_publish(f"{i}")
                session = guest.sock.session if i % 3 else None
        tls_gateway.wait_metric("holdfast_tls_connections", 1)
    assert tls_gateway.metric("holdfast_tls_handshakes_resumed_total") == 39
