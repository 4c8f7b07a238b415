"""What is logged: one line per connection event at most, readable by programs."""

import json

import mqtt_raw as mqtt
from mqtt_raw import V311, V5, Client

KEYS = ["time", "level", "process", "event"]


def test_json_lines_all_parse_and_have_the_same_head(start):
    gateway = start(log_format="json", log_level="debug", workers=2)
    with gateway.client('quo"te\\ \t é') as client, gateway.client("b", V311):
        client.subscribe("t")
        client.publish("t", "x")
        client.expect_publish("x")
    with gateway.client("bad") as client:
        client.send(mqtt.packet(0))
        client.expect_disconnect(0x81)
    with Client(gateway.mqtt, connect=False) as client:
        client.send(b"\xff\xfe\x00")
        client.expect_closed()
    gateway.stop()
    assert len(gateway.lines) > 10
    for line in gateway.lines:
        event = json.loads(line)
        assert list(event)[:4] == KEYS, line
        assert event["level"] in ("error", "warning", "notice", "info", "debug"), line
    assert gateway.events("client_connected", client='quo"te\\ \t é')
    assert gateway.events("listening")[0]["address"].startswith("127.0.0.1:")


def test_a_connection_is_two_lines_at_most(start):
    gateway = start(log_format="json")
    names = []
    for i in range(10):
        client = gateway.client(f"c{i}", V5 if i % 2 else V311, keepalive=30)
        client.subscribe("t")
        client.ping()
        client.publish("t", "x")
        client.expect_publish("x")
        names.append(f"c{i}")
        client.send(mqtt.disconnect(client.version))
        client.expect_closed()
    gateway.stop()
    for name in names:
        lines = [json.loads(line) for line in gateway.lines if f'"{name}"' in line]
        assert [e["event"] for e in lines] == ["client_connected", "client_closed"], lines
        connected, closed = lines
        assert connected["keepalive"] == 30 and connected["listener"] == "clients"
        assert connected["address"].startswith("127.0.0.1:")
        assert closed["reason"] == "client_disconnect"


def test_the_close_reason_is_in_the_line(start):
    gateway = start(mqtt="max_packet_size = 1024 retain = false max_topic_alias = 3")
    cases = {"malformed_packet": mqtt.packet(0), "packet_too_large": mqtt.publish(V5, "t", "x" * 2000),
             "topic_alias_invalid": mqtt.publish(V5, "t", "x", props={"topic_alias": 4}),
             "retain_not_supported": mqtt.publish(V5, "t", "x", retain=True)}
    for reason, data in cases.items():
        with gateway.client(reason) as client:
            client.send(data)
            client.expect_closed()
        gateway.wait_event("client_closed", client=reason, reason=reason)
        assert gateway.metric("holdfast_connections_closed_total", reason=reason) == 1


def test_less_is_logged_when_less_is_asked_for(start):
    gateway = start(log_level="notice")
    with gateway.client("c") as client:
        client.ping()
    gateway.stop()
    assert not gateway.events("client_connected") and not gateway.events("client_closed")
