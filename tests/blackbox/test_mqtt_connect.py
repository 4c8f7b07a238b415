"""CONNECT and CONNACK: what is granted, what is refused, and with which code."""

import pytest

import mqtt_raw as mqtt
from mqtt_raw import CONNACK, V311, V5, Client


@pytest.fixture(scope="module")
def refusals():
    """CONNECT packets that must be refused: (packet, CONNACK code or None for none), by what is wrong with them."""
    c = mqtt.connect
    return {
        "level 3 of MQTT 3.1": (c(V311, "x", protocol=b"MQIsdp", level=3), 1),
        "level 6 that does not exist yet": (c(V5, "x", level=6), 0x84),
        "another protocol's name": (c(V311, "x", protocol=b"MQTX"), (None, 1)),
        "reserved connect flag, 3.1.1": (c(V311, "x", flags=0x03), None),
        "reserved connect flag, 5": (c(V5, "x", flags=0x03), 0x81),
        "password without user name, 3.1.1": (c(V311, "x", password="secret"), None),
        "empty client id without clean session": (c(V311, "", clean=False), 2),
        "client id too long, 3.1.1": (c(V311, "x" * 300), 2),
        "client id too long, 5": (c(V5, "x" * 300), 0x85),
        "extended authentication": (c(V5, "x", props={"auth_method": "SCRAM-SHA-1"}), 0x8C),
        "authentication data without method": (c(V5, "x", props={"auth_data": b"x"}), 0x82),
        "receive maximum 0": (c(V5, "x", props={"receive_max": 0}), 0x82),
        "maximum packet size 0": (c(V5, "x", props={"maximum_packet_size": 0}), 0x82),
        "a property twice": (c(V5, "x", props={"receive_max": [10, 20]}), 0x82),
        "a property that belongs elsewhere": (c(V5, "x", props={"content_type": "text"}), (0x81, 0x82)),
        "will with QoS 3": (c(V311, "x", flags=0x02 | 0x04 | 0x18, will=("t", "m")), None),
        "will QoS without will": (c(V311, "x", flags=0x02 | 0x08), None),
        "will retain without will": (c(V311, "x", flags=0x02 | 0x20), None),
        "will QoS without will, 5": (c(V5, "x", flags=0x02 | 0x10), 0x81),
        "a will property that a will cannot have": (c(V5, "x", will=("t", "m", 0, False, {"topic_alias": 1})),
                                                    (0x81, 0x82)),
        "session expiry twice": (c(V5, "x", props={"session_expiry": [1, 2]}), 0x82),
        "client id with a zero byte": (c(V311, b"a\0b"), None),
        "client id that is not UTF-8": (c(V5, b"\xff\xfe"), 0x81),
    }


def level_of(data):
    """The protocol level in a CONNECT packet."""
    reader = mqtt.Reader(data[1:])
    reader.varint()
    reader.binary()
    return reader.number(1)


def test_a_v311_client_is_accepted(gateway):
    with gateway.client("plain", V311) as client:
        assert client.connack.code == 0 and client.connack.session_present == 0
        client.ping()


def test_a_v5_client_is_told_only_what_it_cannot_know(gateway):
    with gateway.client("five", V5, props={"session_expiry": 3600, "receive_max": 10}) as client:
        props = client.connack.props
        assert client.connack.session_present == 0
        assert "maximum_qos" not in props
        for name in ("retain_available", "subscription_id_available", "wildcard_available"):
            assert props.get(name, 1) == 1, name
        assert props.get("session_expiry", 3600) == 3600
        assert props["maximum_packet_size"] == 1 << 20
        assert "assigned_client_id" not in props and "server_keep_alive" not in props


def test_a_v5_client_without_an_id_is_given_one_and_hears_its_channel(gateway):
    with gateway.client("") as one, gateway.client("") as two:
        ids = [c.connack.props["assigned_client_id"] for c in (one, two)]
        assert ids[0] != ids[1] and all(ids)
        gateway.publish(f"clients/{ids[0]}", "for one")
        one.expect_publish("for one", f"clients/{ids[0]}")
        two.expect_silence()


def test_v311_clients_without_an_id_do_not_take_each_other_over(gateway):
    with gateway.client("", V311) as one, gateway.client("", V311) as two:
        one.ping()
        two.ping()


def test_server_keep_alive_is_sent_when_the_keepalive_is_capped(start):
    gateway = start(mqtt='max_keepalive = "30s"')
    for keepalive, expected in ((0, 30), (31, 30), (65535, 30), (30, None), (1, None)):
        with gateway.client(f"k{keepalive}", keepalive=keepalive) as client:
            assert client.connack.props.get("server_keep_alive") == expected, keepalive


def test_a_refused_connect_is_told_why_and_closed(gateway, refusals):
    for what, (data, code) in refusals.items():
        with Client(gateway.mqtt, connect=False, version=V5 if level_of(data) >= 5 else V311) as client:
            client.send(data)
            said = client.expect_closed()
            allowed = code if isinstance(code, tuple) else (code,)
            if not said:
                assert None in allowed, f"{what}: closed without a word"
                continue
            assert len(said) == 1 and said[0].type == CONNACK, f"{what}: {said}"
            assert said[0].code in allowed and said[0].session_present == 0, f"{what}: {said}"
    assert gateway.metric("holdfast_connections") == 0
    assert gateway.metric("holdfast_sessions") == 0


def test_user_name_and_password_are_accepted_from_anonymous_clients(gateway):
    for version in (V311, V5):
        with gateway.client("user", version, username="somebody", password="secret") as client:
            client.ping()


def test_a_second_connect_is_a_protocol_error(gateway):
    for version in (V311, V5):
        with gateway.client("twice", version) as client:
            client.send(mqtt.connect(version, "twice"))
            client.expect_disconnect(0x82)


def test_another_packet_before_connect_closes(gateway):
    for data in (mqtt.PING, mqtt.subscribe(V5, ["a"]), mqtt.publish(V311, "a", "x"), mqtt.disconnect()):
        with Client(gateway.mqtt, connect=False) as client:
            client.send(data)
            assert client.expect_closed() == []


def test_a_browser_on_the_mqtt_port_is_told_so(gateway):
    with Client(gateway.mqtt, connect=False) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.sock.settimeout(mqtt.PATIENCE)
        answer = b""
        while chunk := client.sock.recv(4096):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 400 ") and b"MQTT" in answer


def test_connect_and_what_follows_may_come_in_one_segment(gateway):
    for version in (V311, V5):
        with Client(gateway.mqtt, "burst", version, connect=False) as client:
            client.send(mqtt.connect(version, "burst") + mqtt.subscribe(version, ["a/b"], 7) + mqtt.PING +
                        mqtt.publish(version, "a/b", "hello") + mqtt.PING)
            assert client.expect(CONNACK).code == 0
            assert client.expect(mqtt.SUBACK).packet_id == 7
            kinds = sorted(client.recv().type for _ in range(3))
            assert kinds == [mqtt.PUBLISH, mqtt.PINGRESP, mqtt.PINGRESP]


def test_packets_may_arrive_byte_by_byte(gateway):
    for version in (V311, V5):
        with Client(gateway.mqtt, "drip", version, connect=False) as client:
            data = mqtt.connect(version, "drip", will=("gone", "w")) + mqtt.subscribe(version, ["a/+"]) + \
                mqtt.publish(version, "a/b", "slowly") + mqtt.PING
            for byte in data:
                client.send(bytes([byte]))
            kinds = sorted(client.recv().type for _ in range(4))
            assert kinds == sorted([CONNACK, mqtt.SUBACK, mqtt.PUBLISH, mqtt.PINGRESP])
            client.send(mqtt.disconnect(version))
            client.expect_closed()
    gateway.wait_metric("holdfast_connections_active", 0)


def test_a_connect_larger_than_max_connect_size_is_refused_before_it_is_read(start):
    gateway = start(mqtt='max_connect_size = "1K"')
    with Client(gateway.mqtt, connect=False) as client:
        client.send(bytes([0x10]) + mqtt.varint(200 << 20))
        client.expect_closed()
    with Client(gateway.mqtt, connect=False) as client:
        client.send(mqtt.connect(V5, "big", username="u" * 2000))
        client.expect_closed()
    with gateway.client("small") as client:
        client.ping()


def test_disconnect_ends_the_session_at_once(gateway):
    for version in (V311, V5):
        client = gateway.client("leaving", version)
        client.send(mqtt.disconnect(version))
        assert client.expect_closed() == []
        gateway.wait_metric("holdfast_sessions", 0)


def test_the_will_is_published_when_the_connection_breaks_and_only_then(gateway):
    with gateway.client("watcher") as watcher:
        watcher.subscribe("wills/#")
        client = gateway.client("a", V5, will=("wills/a", "broken", 0, False, {"content_type": "text/plain"}))
        client.abort()
        will = watcher.expect_publish("broken", "wills/a")
        assert will.props["content_type"] == "text/plain"

        client = gateway.client("b", V311, will=("wills/b", "not this"))
        client.send(mqtt.disconnect(V311))
        client.expect_closed()
        client = gateway.client("c", V5, will=("wills/c", "asked for"))
        client.send(mqtt.disconnect(V5, 0x04))
        client.expect_closed()
        watcher.expect_publish("asked for", "wills/c")
