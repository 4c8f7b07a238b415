"""Other people's clients with sessions, QoS 1 and 2, retained messages and wills: mosquitto, paho for Python and C, mqtt.js;
both versions, plaintext and TLS. What they do with QoS 0 is in test_clients.py and test_tls_clients.py."""

import json
import os
import pathlib
import queue
import ssl
import subprocess
import threading

import pytest

from conftest import PATIENCE, node_environment, session, wait_for
from mqtt_raw import V5

VERSIONS = [4, 5]
COUNT = 100


class Server:
    """Where other people's clients connect: the address, and the CA's file with TLS."""

    def __init__(self, gateway, ca=None):
        self.gateway, self.ca = gateway, ca
        self.host, self.port = gateway.secure if ca else gateway.mqtt


@pytest.fixture(params=["plaintext", "tls"])
def server(request, start, start_tls, certs):
    if request.param == "tls":
        return Server(start_tls(workers=2), f"{certs}/ca.pem")
    return Server(start(workers=2))


def numbers(count=COUNT):
    return [str(i) for i in range(count)]


# ---- mosquitto

def mosquitto(kind, server, version, *arguments, **options):
    command = [f"mosquitto_{kind}", "-h", server.host, "-p", str(server.port), "-V", str(version).replace("4", "311"),
               *(["--cafile", server.ca] if server.ca else []), *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=40, **options)


def kept_session(version):
    """mosquitto's options for a session that outlives its connection."""
    return ["-c", "-x", "3600"] if version == 5 else ["-c"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_mosquitto_gets_what_it_missed(server, version, qos):
    sub = ["-i", "sub", *kept_session(version), "-q", qos, "-t", "t/+", "-W", 20]
    result = mosquitto("sub", server, version, *sub, "-E")
    assert result.returncode == 0, result
    for topic in ("t/a", "t/b"):
        result = mosquitto("pub", server, version, "-q", qos, "-t", topic, "-l", input="\n".join(numbers()) + "\n")
        assert result.returncode == 0, result
    result = mosquitto("sub", server, version, *sub, "-C", 2 * COUNT, "-F", "%t %q %p")
    assert result.stdout.splitlines() == [f"{t} {qos} {n}" for t in ("t/a", "t/b") for n in numbers()], result


@pytest.mark.parametrize("version", VERSIONS)
def test_mosquitto_retains_and_finds(server, version):
    for qos in (0, 1, 2):
        assert mosquitto("pub", server, version, "-r", "-q", qos, "-t", f"state/{qos}", "-m", f"on {qos}").returncode == 0
    result = mosquitto("sub", server, version, "-q", 2, "-t", "state/#", "--retained-only", "-C", 3, "-F", "%r %q %t %p",
                       "-W", 20)
    assert sorted(result.stdout.splitlines()) == [f"1 {q} state/{q} on {q}" for q in (0, 1, 2)], result
    mosquitto("sub", server, version, "-t", "state/#", "--remove-retained", "-W", 2)
    result = mosquitto("sub", server, version, "-t", "state/#", "-W", 1)
    assert result.stdout == "", result


@pytest.mark.parametrize("version", VERSIONS)
def test_mosquitto_leaves_a_will(server, version):
    with server.gateway.client("watcher", V5) as watcher:
        watcher.subscribe(("will", 2))
        host, port = server.host, server.port
        process = subprocess.Popen(["mosquitto_sub", "-h", host, "-p", str(port), "-V", str(version).replace("4", "311"),
                                    *(["--cafile", server.ca] if server.ca else []), "-i", "dying", "-t", "t",
                                    "--will-topic", "will", "--will-payload", "gone", "--will-qos", "2"])
        server.gateway.wait_registered(2)
        process.kill()
        process.wait()
        watcher.take("gone", qos=2)


def test_mosquitto_rr_asks_and_is_answered(server):
    with server.gateway.client("answers") as client:
        client.subscribe(("ask", 1))
        command = ["mosquitto_rr", "-h", server.host, "-p", str(server.port), "-V", "5", "-q", "1", "-t", "ask", "-e", "answer",
                   "-m", "2+2", "-W", "20", *(["--cafile", server.ca] if server.ca else [])]
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        question = client.take("2+2")
        client.publish_acked(question.props["response_topic"], "4", 1, props={
            k: v for k, v in question.props.items() if k == "correlation_data"})
        assert asking.communicate(timeout=25)[0].strip() == "4"


# ---- paho for Python

def paho_client(paho):
    """Its client, whose thread survives the end of a TLS connection in the middle of a write: the thread of 1.6 ends there,
    because an SSLError is no ConnectionError."""
    class Client(paho.Client):
        def loop_write(self, *arguments):
            try:
                return super().loop_write(*arguments)
            except ssl.SSLError:
                return paho.MQTT_ERR_CONN_LOST
    return Client


class Paho:
    """A paho client whose events can be waited for."""

    def __init__(self, server, client_id, version, kept=True, **options):
        paho = pytest.importorskip("paho.mqtt.client", reason="python3-paho-mqtt is not installed")
        packettypes = pytest.importorskip("paho.mqtt.packettypes")
        arguments = {"client_id": client_id, "protocol": version, **options}
        if version == 4:
            arguments["clean_session"] = not kept
        if hasattr(paho, "CallbackAPIVersion"):
            arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION1
        self.client = paho_client(paho)(**arguments)
        self.got, self.subscribed, self.connected = [], queue.Queue(), queue.Queue()
        self.published = 0
        self.client.on_publish = self.count
        self.client.on_message = lambda c, u, m: self.got.append((m.topic, m.payload.decode(), m.qos))
        self.client.on_subscribe = lambda c, u, mid, granted, *_: self.subscribed.put(list(granted))
        self.client.on_connect = lambda c, u, flags, *_: self.connected.put(flags["session present"])
        if server.ca:
            self.client.tls_set_context(ssl.create_default_context(cafile=server.ca))
        more = {}
        if version == 5:
            props = paho.Properties(packettypes.PacketTypes.CONNECT)
            props.SessionExpiryInterval = 3600 if kept else 0
            more = {"clean_start": not kept, "properties": props}
        self.version, self.paho = version, paho
        self.client.connect(server.host, server.port, keepalive=30, **more)
        self.client.loop_start()
        self.present = bool(self.connected.get(timeout=PATIENCE))

    def subscribe(self, *filters):
        options = (lambda q: q) if self.version == 4 else (lambda q: self.paho.SubscribeOptions(q))
        self.client.subscribe([(name, options(qos)) for name, qos in filters])
        granted = self.subscribed.get(timeout=PATIENCE)
        assert [int(getattr(g, "value", g)) for g in granted] == [qos for _, qos in filters]

    def publish(self, topic, payloads, qos):
        for info in [self.client.publish(topic, payload, qos=qos) for payload in payloads]:
            info.wait_for_publish()
            assert info.is_published()

    def count(self, *_):
        self.published += 1

    def wait(self, count):
        wait_for(lambda: len(self.got) >= count, f"{count} messages, {len(self.got)} have come")
        return self.got

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_paho_python_with_a_session_and_qos_2(server, version):
    with Paho(server, "sub", version) as sub:
        assert not sub.present
        sub.subscribe(("t/1", 1), ("t/2", 2))
        with Paho(server, "pub", version, kept=False) as pub:
            pub.publish("t/2", numbers(), 2)
        assert sub.wait(COUNT) == [("t/2", n, 2) for n in numbers()]
    with Paho(server, "pub", version, kept=False) as pub:
        pub.publish("t/1", numbers(), 2)
        pub.publish("t/2", numbers(), 1)
        pub.publish("t/2", numbers(), 2)
    with Paho(server, "sub", version) as sub:
        assert sub.present
        assert sub.wait(3 * COUNT) == [(t, n, 1) for t in ("t/1", "t/2") for n in numbers()] + \
            [("t/2", n, 2) for n in numbers()]


@pytest.mark.parametrize("version", VERSIONS)
def test_paho_python_survives_the_death_of_the_hub_and_the_workers(server, version):
    """It publishes on; it reconnects by itself; nothing of QoS 2 is lost or comes twice."""
    gateway = server.gateway
    with Paho(server, "sub", version) as sub, Paho(server, "pub", version) as pub:
        sub.client.reconnect_delay_set(1, 1)
        pub.client.reconnect_delay_set(1, 1)
        sub.subscribe(("t", 2))
        for i, name in enumerate(["hf-hub", "hf-worker-0", "hf-worker-1"]):
            for n in range(20):
                pub.client.publish("t", f"{i}-{n}", qos=2)
                if n == 10:
                    gateway.kill_child(name)
            wait_for(lambda: pub.published >= 20 * (i + 1), "all published", 30)
        wait_for(lambda: len(sub.got) >= 60, "60 messages", 30)
        assert sub.got == [("t", f"{i}-{n}", 2) for i in range(3) for n in range(20)]


# ---- mqtt.js

MQTT_JS = """
const mqtt = require('mqtt');
const fs = require('fs');
const o = JSON.parse(process.argv[2]);
const options = {host: o.host, port: o.port, protocol: o.ca ? 'mqtts' : 'mqtt', protocolVersion: o.version, clientId: o.id,
                 clean: false, reconnectPeriod: 0, resubscribe: false};
if (o.ca) { options.ca = fs.readFileSync(o.ca); options.servername = 'localhost'; }
if (o.version === 5) options.properties = {sessionExpiryInterval: 3600};
const client = mqtt.connect(options);
const got = [];
let present;
function end() {
    client.removeAllListeners('close');
    client.end(false, {}, () => { fs.writeFileSync(o.answer, JSON.stringify({present, got})); process.exit(0); });
}
client.on('error', e => { console.error(e); process.exit(1); });
client.on('close', () => { console.error('closed'); process.exit(2); });
client.on('message', (topic, payload, packet) => {
    got.push([topic, payload.toString(), packet.qos]);
    if (o.what === 'receive' && got.length === o.count) setTimeout(end, 300);
});
client.on('connect', connack => {
    present = connack.sessionPresent;
    if (o.what === 'subscribe')
        client.subscribe({'t/1': {qos: 1}, 't/2': {qos: 2}}, (e, granted) => {
            if (e || granted.map(g => g.qos).join() !== '1,2') { console.error(e, granted); process.exit(3); }
            end();
        });
    if (o.what === 'publish') {
        // It does not look at the Receive Maximum: with QoS 1 all at once, with QoS 2 what the gateway lets be unreleased.
        let open = 2 * o.count, next = 0;
        const done = e => {
            if (e) { console.error(e); process.exit(4); }
            if (--open === 0) end();
        };
        const more = e => {
            if (e) done(e);
            if (next++) done();
            if (next <= o.count) client.publish('t/2', String(next - 1), {qos: 2}, more);
        };
        for (let i = 0; i < o.count; i++) client.publish('t/1', String(i), {qos: 1}, done);
        if (o.count) more(); else end();
    }
});
"""


def mqtt_js(server, folder, version, client_id, what, count=0, env=None):
    script, answer = folder / "client.js", folder / "answer.json"
    script.write_text(MQTT_JS)
    options = {"host": server.host, "port": server.port, "ca": server.ca, "version": version, "id": client_id, "what": what,
               "count": count, "answer": str(answer)}
    result = subprocess.run(["node", str(script), json.dumps(options)], capture_output=True, text=True, timeout=40,
                            env=env or node_environment())
    assert result.returncode == 0, result
    return json.loads(answer.read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_mqtt_js_with_a_session_and_qos_2(server, version, folder, node_env):
    assert not mqtt_js(server, folder, version, "sub", "subscribe", env=node_env)["present"]
    mqtt_js(server, folder, version, "pub", "publish", COUNT, node_env)
    answer = mqtt_js(server, folder, version, "sub", "receive", 2 * COUNT, node_env)
    assert answer["present"]
    for qos in (1, 2):
        assert [m[1:] for m in answer["got"] if m[0] == f"t/{qos}"] == [[n, qos] for n in numbers()]


# ---- paho for C

@pytest.fixture(scope="session")
def paho_c(tmp_path_factory):
    """The program in interop_paho.c, built with the library that knows TLS."""
    program = tmp_path_factory.mktemp("paho") / "interop_paho"
    source = pathlib.Path(__file__).with_name("interop_paho.c")
    result = subprocess.run([os.environ.get("CC", "gcc"), "-Wall", "-o", program, source, "-lpaho-mqtt3cs"], text=True,
                            capture_output=True)
    if "MQTTClient.h" in result.stderr:
        pytest.skip("libpaho-mqtt-dev is not installed")
    assert result.returncode == 0, result.stderr
    return program


@pytest.mark.parametrize("version", VERSIONS)
def test_paho_c_with_a_session_and_qos_2(server, version, paho_c):
    scheme, host = ("ssl", "localhost") if server.ca else ("tcp", server.host)

    def run(client_id, *arguments):
        result = subprocess.run([paho_c, f"{scheme}://{host}:{server.port}", str(version), server.ca or "", client_id,
                                 *arguments], text=True, capture_output=True, timeout=40)
        assert result.returncode == 0, result
        return result.stdout.splitlines()

    assert run("sub", "subscribe", "t") == []
    assert run("pub", "publish", "t", str(COUNT)) == []
    lines = run("sub", "receive", "t", str(COUNT))
    assert version == 5 or lines[0] == "present"  # with MQTT 5 the library does not tell
    for qos in (1, 2):  # the library hands out a message of QoS 2 when it is released, so others overtake it
        assert [line for line in lines if line[-1] == str(qos)] == [f"t {n} {qos}" for n in range(COUNT) if 2 - n % 2 == qos]


# ---- all of them

def test_what_one_kind_publishes_every_other_gets(server, folder):
    """A raw session that sleeps hears of all."""
    gateway = server.gateway
    with gateway.client("raw", **session()) as raw:
        raw.subscribe(("t", 2), ("t/#", 2))
    assert mosquitto("pub", server, 5, "-q", 2, "-t", "t", "-m", "mosquitto").returncode == 0
    with Paho(server, "p", 4, kept=False) as pub:
        pub.publish("t", ["paho"], 2)
    mqtt_js(server, folder, 5, "js", "publish", 1)
    gateway.publish("t", "http", qos=2)
    with gateway.client("raw", **session()) as raw:
        assert [(m.topic, m.payload, m.qos) for m in raw.take_all(5)] == [
            ("t", b"mosquitto", 2), ("t", b"paho", 2), ("t/1", b"0", 1), ("t/2", b"0", 2), ("t", b"http", 2)]


def test_publishers_of_all_kinds_at_once(server, folder, paho_c):
    with server.gateway.client("raw", **session()) as raw:
        raw.subscribe(("t/#", 2))
        scheme, host = ("ssl", "localhost") if server.ca else ("tcp", server.host)
        jobs = [lambda: mosquitto("pub", server, 311, "-q", 2, "-t", "t/m", "-l", input="\n".join(numbers()) + "\n"),
                lambda: mqtt_js(server, folder, 4, "js", "publish", COUNT),
                lambda: subprocess.run([paho_c, f"{scheme}://{host}:{server.port}", "5", server.ca or "", "c", "publish", "t/c",
                                        str(COUNT)], check=True, timeout=40)]
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        got = raw.take_all(4 * COUNT, timeout=40)
        for thread in threads:
            thread.join()
        for topic in ("t/m", "t/c", "t/1", "t/2"):
            assert [m.payload.decode() for m in got if m.topic == topic] == numbers(), topic
        raw.expect_silence(0.1)
