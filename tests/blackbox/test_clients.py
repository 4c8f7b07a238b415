"""Other people's clients against the real binary: mosquitto, paho, mqtt.js, curl."""

import json
import subprocess
import threading

import pytest

from conftest import PATIENCE, wait_for

VERSIONS = ["mqttv311", "mqttv5"]


def mosquitto_sub(gateway, *arguments, version="mqttv311", count=1):
    """Starts mosquitto_sub, which ends after `count` messages; waits until it has subscribed."""
    host, port = gateway.mqtt
    process = subprocess.Popen(["mosquitto_sub", "-h", host, "-p", str(port), "-V", version, "-C", str(count), "-W",
                                "20", *arguments], stdout=subprocess.PIPE, text=True)
    return process


def mosquitto_pub(gateway, *arguments, version="mqttv311"):
    host, port = gateway.mqtt
    return subprocess.run(["mosquitto_pub", "-h", host, "-p", str(port), "-V", version, *arguments], text=True,
                          capture_output=True, timeout=20)


def wait_subscribed(gateway, count):
    """The subscriptions gauge is refreshed once a second."""
    gateway.wait_metric("holdfast_subscriptions", lambda n: n >= count)


@pytest.mark.parametrize("publisher", VERSIONS)
@pytest.mark.parametrize("subscriber", VERSIONS)
def test_mosquitto_clients_hear_each_other(gateway, publisher, subscriber):
    sub = mosquitto_sub(gateway, "-t", "sport/+/score", "-v", version=subscriber, count=2)
    wait_subscribed(gateway, 1)
    assert mosquitto_pub(gateway, "-t", "sport/tennis/score", "-m", "6:4", version=publisher).returncode == 0
    assert mosquitto_pub(gateway, "-t", "sport/golf/score", "-m", "72", version=publisher).returncode == 0
    out, _ = sub.communicate(timeout=25)
    assert sorted(out.splitlines()) == ["sport/golf/score 72", "sport/tennis/score 6:4"]


def test_mosquitto_sub_hears_a_push_by_curl_on_its_private_channel(gateway):
    sub = mosquitto_sub(gateway, "-i", "alice", "-t", "unrelated", "-v")
    wait_subscribed(gateway, 1)
    result = subprocess.run(["curl", "-sS", "--fail-with-body", "--json", '{"payload": "hello from curl"}',
                             f"{gateway.url}/v1/clients/alice/publish"], capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result
    assert json.loads(result.stdout)["workers"] == 1
    out, _ = sub.communicate(timeout=25)
    assert out == "clients/alice hello from curl\n"


def test_mosquitto_properties_survive_the_way(gateway):
    sub = mosquitto_sub(gateway, "-t", "t", "-F", "%t|%C|%P|%p", version="mqttv5")
    wait_subscribed(gateway, 1)
    assert mosquitto_pub(gateway, "-t", "t", "-m", "{}", "-D", "publish", "content-type", "application/json", "-D",
                         "publish", "user-property", "trace", "42", version="mqttv5").returncode == 0
    out, _ = sub.communicate(timeout=25)
    assert out.strip() == "t|application/json|trace:42|{}"


def test_mosquitto_pub_sends_a_file_line_by_line(gateway):
    sub = mosquitto_sub(gateway, "-t", "lines", count=500)
    wait_subscribed(gateway, 1)
    host, port = gateway.mqtt
    text = "".join(f"line {i}\n" for i in range(500))
    subprocess.run(["mosquitto_pub", "-h", host, "-p", str(port), "-t", "lines", "-l"], input=text, text=True,
                   timeout=20, check=True)
    out, _ = sub.communicate(timeout=25)
    assert out == text


@pytest.mark.parametrize("version", [4, 5])
def test_paho_subscribes_publishes_and_keeps_alive(gateway, version):
    paho = pytest.importorskip("paho.mqtt.client", reason="python3-paho-mqtt is not installed")
    arguments = {"client_id": "paho", "protocol": version}
    if hasattr(paho, "CallbackAPIVersion"):
        arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION1
    client = paho.Client(**arguments)
    got, subscribed, disconnected = [], threading.Event(), threading.Event()
    client.on_message = lambda c, u, message: got.append((message.topic, message.payload))
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_disconnect = lambda *_: disconnected.set()
    client.connect(*gateway.mqtt, keepalive=1)
    client.loop_start()
    try:
        options = 0 if version == 4 else paho.SubscribeOptions(0)
        client.subscribe([("a/+", options), ("b/#", options)])
        assert subscribed.wait(PATIENCE)
        for i in range(50):
            client.publish("a/x", f"{i}")
        gateway.publish("b/c/d", "by http")
        gateway.publish("clients/paho", "direct")
        gateway.publish("broadcast", "all")
        wait_for(lambda: len(got) == 53, f"53 messages, got {len(got)}")
        assert [p for t, p in got if t == "a/x"] == [str(i).encode() for i in range(50)]
        assert {t for t, _ in got} == {"a/x", "b/c/d", "clients/paho", "broadcast"}
        assert not disconnected.wait(3.5), "it pinged in time, and was closed all the same"
        assert gateway.metric("holdfast_heartbeats_total") >= 2
    finally:
        client.disconnect()
        client.loop_stop()
    gateway.wait_event("client_closed", client="paho", reason="client_disconnect")


def test_paho_reconnects_by_itself_when_its_worker_is_killed(gateway):
    paho = pytest.importorskip("paho.mqtt.client", reason="python3-paho-mqtt is not installed")
    arguments = {"client_id": "paho"}
    if hasattr(paho, "CallbackAPIVersion"):
        arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION1
    client = paho.Client(**arguments)
    client.reconnect_delay_set(1, 1)
    got = []
    client.on_message = lambda c, u, message: got.append(message.payload)
    client.connect(*gateway.mqtt, keepalive=30)
    client.loop_start()
    try:
        gateway.wait_event("client_connected", client="paho")
        gateway.kill_child("hf-worker-0")
        gateway.wait_event("client_connected", count=2, client="paho")
        gateway.publish("clients/paho", "again")
        wait_for(lambda: got == [b"again"], "the message after the reconnect")
    finally:
        client.disconnect()
        client.loop_stop()


MQTT_JS = """
const mqtt = require('mqtt');
const [host, port, version] = process.argv.slice(2);
const client = mqtt.connect({host, port: Number(port), protocolVersion: Number(version), clientId: 'js-' + version,
                             keepalive: 1, reconnectPeriod: 0});
const got = [];
client.on('error', e => { console.error(e); process.exit(1); });
client.on('close', () => { console.error('closed'); process.exit(2); });
client.on('message', (topic, payload, packet) => {
    got.push([topic, payload.toString(), (packet.properties || {}).contentType || null]);
    if (got.length === 3) {
        console.log(JSON.stringify(got));
        client.removeAllListeners('close');
        client.end(false, {}, () => process.exit(0));
    }
});
client.on('connect', () => client.subscribe(['js/+'], (e, granted) => {
    if (e || granted[0].qos !== 0) { console.error(e, granted); process.exit(3); }
    client.publish('js/a', 'one', Number(version) === 5 ? {properties: {contentType: 'text/plain'}} : {});
    // Long enough for two heartbeats; the gateway must not close meanwhile.
    setTimeout(() => client.publish('clients/js-' + version, 'two'), 2500);
    setTimeout(() => client.publish('broadcast', 'three'), 2600);
}));
"""


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_js_subscribes_publishes_and_keeps_alive(gateway, version, folder, node_env):
    script = folder / "client.js"
    script.write_text(MQTT_JS)
    host, port = gateway.mqtt
    result = subprocess.run(["node", str(script), host, str(port), str(version)], capture_output=True, text=True,
                            timeout=30, env=node_env)
    assert result.returncode == 0, result
    assert json.loads(result.stdout) == [["js/a", "one", "text/plain" if version == 5 else None],
                                         [f"clients/js-{version}", "two", None], ["broadcast", "three", None]]


def test_curl_publishes_and_reads_metrics_and_health(gateway):
    with gateway.client("c") as client:
        client.subscribe("news")

        def curl(*arguments):
            result = subprocess.run(["curl", "-sS", "--fail-with-body", *arguments], capture_output=True, text=True,
                                    timeout=20)
            assert result.returncode == 0, result
            return result.stdout

        answer = json.loads(curl("--json", '{"topic": "news", "payload": "hello"}', f"{gateway.url}/v1/publish"))
        assert answer["seq"] > 0 and answer["workers"] == 1
        client.expect_publish("hello", "news")
        assert "holdfast_connections 1" in curl(f"{gateway.url}/metrics") or \
            "holdfast_connections{" in curl(f"{gateway.url}/metrics")
        curl(f"{gateway.url}/healthz")
        curl(f"{gateway.url}/readyz")
