"""Packets that must not be: each ends its own connection with the right reason code, and nobody else's."""

import os
import random
import struct

import pytest

import mqtt_raw as mqtt
from mqtt_raw import V311, V5, Client

MALFORMED, PROTOCOL_ERROR, TOPIC_FILTER, TOPIC_NAME, TOO_LARGE = 0x81, 0x82, 0x8F, 0x90, 0x95

# What an established client sends, and the reason codes that the standard leaves to choose from.
BAD_V5 = {
    "reserved packet type": (mqtt.packet(0), [MALFORMED]),
    "remaining length of five bytes": (b"\x30\xff\xff\xff\xff\x01", [MALFORMED]),
    "PINGREQ with flags": (mqtt.packet(mqtt.PINGREQ, 1), [MALFORMED]),
    "PINGREQ with a body": (mqtt.packet(mqtt.PINGREQ, 0, b"x"), [MALFORMED]),
    "SUBSCRIBE with flags 0": (mqtt.packet(mqtt.SUBSCRIBE, 0, b"\0\1\0\0\1a\0"), [MALFORMED]),
    "SUBSCRIBE without a filter": (mqtt.subscribe(V5, []), [PROTOCOL_ERROR]),
    "SUBSCRIBE with packet id 0": (mqtt.subscribe(V5, ["a"], 0), [PROTOCOL_ERROR, MALFORMED]),
    "SUBSCRIBE with QoS 3": (mqtt.subscribe(V5, [("a", 3)]), [PROTOCOL_ERROR, MALFORMED]),
    "SUBSCRIBE with reserved option bits": (mqtt.subscribe(V5, [("a", 0xC0)]), [PROTOCOL_ERROR, MALFORMED]),
    "SUBSCRIBE with retain handling 3": (mqtt.subscribe(V5, [("a", 0x30)]), [PROTOCOL_ERROR]),
    "SUBSCRIBE with subscription identifier 0": (mqtt.subscribe(V5, ["a"], 1, {"subscription_id": 0}),
                                                 [PROTOCOL_ERROR]),
    "SUBSCRIBE cut short": (mqtt.packet(mqtt.SUBSCRIBE, 2, b"\0\1\0\0\5ab"), [MALFORMED]),
    "filter with # inside": (mqtt.subscribe(V5, ["a/#/b"]), [MALFORMED, TOPIC_FILTER]),
    "filter with + in a level": (mqtt.subscribe(V5, ["a/b+"]), [MALFORMED, TOPIC_FILTER]),
    "empty filter": (mqtt.subscribe(V5, [""]), [MALFORMED, TOPIC_FILTER, PROTOCOL_ERROR]),
    "filter that is not UTF-8": (mqtt.subscribe(V5, [b"a\xff"]), [MALFORMED]),
    "UNSUBSCRIBE without a filter": (mqtt.unsubscribe(V5, []), [PROTOCOL_ERROR]),
    "PUBLISH with QoS 3": (mqtt.packet(mqtt.PUBLISH, 6, b"\0\1a\0\1\0"), [MALFORMED]),
    "PUBLISH with DUP at QoS 0": (mqtt.packet(mqtt.PUBLISH, 8, b"\0\1a\0"), [MALFORMED, PROTOCOL_ERROR]),
    "PUBLISH to a filter": (mqtt.publish(V5, "a/+", "x"), [TOPIC_NAME, MALFORMED]),
    "PUBLISH without a topic": (mqtt.publish(V5, "", "x"), [PROTOCOL_ERROR, TOPIC_NAME]),
    "PUBLISH to a topic with a zero byte": (mqtt.publish(V5, b"a\0b", "x"), [MALFORMED, TOPIC_NAME]),
    "PUBLISH to a topic that is not UTF-8": (mqtt.publish(V5, b"\xc0\x80", "x"), [MALFORMED, TOPIC_NAME]),
    "PUBLISH to a topic with a surrogate": (mqtt.publish(V5, b"\xed\xa0\x80", "x"), [MALFORMED, TOPIC_NAME]),
    "PUBLISH shorter than its topic": (mqtt.packet(mqtt.PUBLISH, 0, b"\0\x09abc"), [MALFORMED]),
    "PUBLISH with an unknown property": (mqtt.packet(mqtt.PUBLISH, 0, b"\0\1a\2\x7f\0x"), [MALFORMED]),
    "PUBLISH with a property of CONNECT": (mqtt.publish(V5, "a", "x", props={"session_expiry": 1}),
                                           [PROTOCOL_ERROR, MALFORMED]),
    "PUBLISH with a property twice": (mqtt.publish(V5, "a", "x", props={"content_type": ["a", "b"]}),
                                      [PROTOCOL_ERROR]),
    "PUBLISH with payload format 2": (mqtt.publish(V5, "a", "x", props={"payload_format": 2}),
                                      [PROTOCOL_ERROR, MALFORMED]),
    "PUBLISH with a wildcard in the response topic": (mqtt.publish(V5, "a", "x", props={"response_topic": "a/#"}),
                                                      [PROTOCOL_ERROR, MALFORMED, TOPIC_NAME]),
    "PUBLISH with a subscription identifier": (mqtt.publish(V5, "a", "x", props={"subscription_id": 1}),
                                               [PROTOCOL_ERROR, MALFORMED]),
    "PUBLISH with a topic alias above the maximum": (mqtt.publish(V5, "a", "x", props={"topic_alias": 65535}), [0x94]),
    "PUBLISH with a topic alias that was not set": (mqtt.publish(V5, "", "x", props={"topic_alias": 1}),
                                                    [0x94, PROTOCOL_ERROR]),
    "PUBLISH with topic alias 0": (mqtt.publish(V5, "a", "x", props={"topic_alias": 0}), [0x94]),
    "PUBLISH with QoS 1 and packet id 0": (mqtt.publish(V5, "a", "x", qos=1, packet_id=0), [PROTOCOL_ERROR, MALFORMED]),
    "PUBLISH with QoS 2 and packet id 0": (mqtt.publish(V5, "a", "x", qos=2, packet_id=0), [PROTOCOL_ERROR, MALFORMED]),
    "UNSUBSCRIBE with packet id 0": (mqtt.unsubscribe(V5, ["a"], 0), [PROTOCOL_ERROR, MALFORMED]),
    "UNSUBSCRIBE with flags 0": (mqtt.packet(mqtt.UNSUBSCRIBE, 0, b"\0\1\0\0\1a"), [MALFORMED]),
    "PUBACK with flags": (mqtt.ack(mqtt.PUBACK, V5, 1, flags=2), [MALFORMED]),
    "PUBREC with flags": (mqtt.ack(mqtt.PUBREC, V5, 1, flags=1), [MALFORMED]),
    "PUBREL without flags": (mqtt.ack(mqtt.PUBREL, V5, 1, flags=0), [MALFORMED]),
    "PUBCOMP with flags": (mqtt.ack(mqtt.PUBCOMP, V5, 1, flags=8), [MALFORMED]),
    "PUBACK with packet id 0": (mqtt.ack(mqtt.PUBACK, V5, 0), [PROTOCOL_ERROR, MALFORMED]),
    "PUBACK without a packet id": (mqtt.packet(mqtt.PUBACK), [MALFORMED]),
    "PUBACK with a reason code that it cannot have": (mqtt.ack(mqtt.PUBACK, V5, 1, 0x92), [PROTOCOL_ERROR, MALFORMED]),
    "PUBREL with a reason code that it cannot have": (mqtt.ack(mqtt.PUBREL, V5, 1, 0x10), [PROTOCOL_ERROR, MALFORMED]),
    "PUBACK with a property of PUBLISH": (mqtt.ack(mqtt.PUBACK, V5, 1, 0, {"topic_alias": 1}),
                                          [PROTOCOL_ERROR, MALFORMED]),
    "PUBREC with its reason string twice": (mqtt.ack(mqtt.PUBREC, V5, 1, 0, {"reason_string": ["a", "b"]}),
                                            [PROTOCOL_ERROR]),
    "AUTH without a method": (mqtt.packet(mqtt.AUTH), [PROTOCOL_ERROR]),
    "AUTH with flags": (mqtt.packet(mqtt.AUTH, 1), [MALFORMED]),
    "CONNACK from a client": (mqtt.packet(mqtt.CONNACK, 0, b"\0\0\0"), [PROTOCOL_ERROR]),
    "SUBACK from a client": (mqtt.packet(mqtt.SUBACK, 0, b"\0\1\0\0"), [PROTOCOL_ERROR]),
    "PINGRESP from a client": (mqtt.packet(mqtt.PINGRESP), [PROTOCOL_ERROR]),
    "DISCONNECT with flags": (mqtt.packet(mqtt.DISCONNECT, 1), [MALFORMED]),
    "a packet above max_packet_size": (b"\x30" + mqtt.varint(2 << 20) + b"\0\1a\0", [TOO_LARGE]),
}
BAD_V311 = {
    "reserved packet type": mqtt.packet(0),
    "AUTH": mqtt.packet(mqtt.AUTH),
    "remaining length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "SUBSCRIBE with flags 0": mqtt.packet(mqtt.SUBSCRIBE, 0, b"\0\1\0\1a\0"),
    "SUBSCRIBE with option bits": mqtt.subscribe(V311, [("a", 4)]),
    "SUBSCRIBE without a filter": mqtt.subscribe(V311, []),
    "PUBLISH with QoS 1 and packet id 0": mqtt.publish(V311, "a", "x", qos=1, packet_id=0),
    "PUBACK with a reason code": mqtt.packet(mqtt.PUBACK, 0, b"\0\1\0"),
    "PUBREL without flags": mqtt.ack(mqtt.PUBREL, V311, 1, flags=0),
    "UNSUBSCRIBE with flags 0": mqtt.packet(mqtt.UNSUBSCRIBE, 0, b"\0\1\0\1a"),
    "UNSUBSCRIBE without a filter": mqtt.unsubscribe(V311, []),
    "PUBLISH with QoS 3": mqtt.packet(mqtt.PUBLISH, 6, b"\0\1a\0\1"),
    "PUBLISH to a filter": mqtt.publish(V311, "a/#", "x"),
    "DISCONNECT with a body": mqtt.packet(mqtt.DISCONNECT, 0, b"\0"),
    "a packet above max_packet_size": b"\x30" + mqtt.varint(2 << 20) + b"\0\1a",
}


def test_each_bad_v5_packet_is_answered_with_its_reason_code(gateway):
    with gateway.client("witness") as witness:
        witness.subscribe("#")
        wrong = []
        for what, (data, codes) in BAD_V5.items():
            with gateway.client("bad") as client:
                client.send(data)
                try:
                    said = client.expect_closed(5)
                except mqtt.Silence:
                    wrong.append(f"{what}: the connection stays open")
                    continue
                if [p.type for p in said] != [mqtt.DISCONNECT] or said[0].code not in codes:
                    wrong.append(f"{what}: {said}, expected DISCONNECT with {[hex(c) for c in codes]}")
        assert not wrong, "\n".join(wrong)
        witness.ping()  # and nothing of the bad packets was published


def test_each_bad_v311_packet_closes_without_a_word(gateway):
    with gateway.client("witness", V311) as witness:
        witness.subscribe("#")
        for what, data in BAD_V311.items():
            with gateway.client("bad", V311) as client:
                client.send(data)
                assert client.expect_closed() == [], what
        witness.ping()


def test_packets_before_a_bad_one_in_the_same_segment_count_and_those_after_do_not(gateway):
    with gateway.client("witness") as witness, gateway.client("bad") as bad:
        witness.subscribe("t")
        bad.send(mqtt.publish(V5, "t", "before") + mqtt.packet(0) + mqtt.publish(V5, "t", "after"))
        bad.expect_disconnect(MALFORMED)
        witness.expect_publish("before")
        witness.expect_silence()


def test_a_bad_packet_has_its_reason_counted(gateway):
    with gateway.client("bad") as client:
        client.send(mqtt.packet(0))
        client.expect_disconnect(MALFORMED)
    gateway.wait_metric("holdfast_connections_closed_total", 1, reason="malformed_packet")


def test_an_incomplete_packet_holds_nobody_up(gateway):
    with gateway.client("stuck") as stuck, gateway.client("other") as other:
        stuck.send(mqtt.publish(V5, "t", "x" * 1000)[:500])
        other.subscribe("t")
        other.publish("t", "y")
        other.expect_publish("y")


def test_a_trickled_packet_is_cut_off(start):
    gateway = start(mqtt='packet_timeout = "1s"')
    with gateway.client("slow") as slow, gateway.client("idle") as idle:
        slow.send(mqtt.publish(V5, "t", "x" * 1000)[:500])
        slow.expect_closed()
        idle.ping()


def test_random_bytes_harm_nobody(gateway):
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    dice = random.Random(seed)
    with gateway.client("witness") as witness:
        for round_ in range(200):
            version = dice.choice((V311, V5))
            client = Client(gateway.mqtt, f"r{round_}", version, connect=dice.random() < 0.7)
            kind = dice.randrange(3)
            if kind == 0:
                data = dice.randbytes(dice.randrange(1, 300))
            elif kind == 1:
                body = dice.randbytes(dice.randrange(0, 60))
                data = bytes([dice.randrange(256)]) + mqtt.varint(len(body)) + body
            else:
                data = bytearray(mqtt.publish(V5, "a/b", "payload", props={"user": [("k", "v")]}))
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            try:
                client.send(bytes(data))
            except mqtt.Closed:
                pass
            client.close()
            if round_ % 50 == 0:
                witness.ping()
        witness.ping()
    gateway.wait_metric("holdfast_connections", 0)
    assert not gateway.events("process_died")


@pytest.mark.parametrize("ending", ["FIN", "RST"])
def test_a_vanished_client_leaves_nothing_behind(gateway, ending):
    for part in (b"", mqtt.connect(V5, "x")[:5], mqtt.connect(V5, "x"),
                 mqtt.connect(V5, "x") + mqtt.subscribe(V5, ["a"]) + mqtt.publish(V5, "t", "y" * 5000)[:2000]):
        client = Client(gateway.mqtt, connect=False)
        client.send(part)
        client.abort() if ending == "RST" else client.close()
    gateway.wait_metric("holdfast_connections_accepted_total", 4)
    for gauge in ("connections", "sessions", "connections_active", "connections_parked", "subscriptions"):
        gateway.wait_metric(f"holdfast_{gauge}", 0)


def test_a_packet_length_is_not_believed_before_the_bytes_are_there(gateway):
    """Eighty clients announce a megabyte each and send ten bytes: no memory may follow the announcement."""
    worker = gateway.worker_pids()[0]

    def memory():
        for line in open(f"/proc/{worker}/status"):
            if line.startswith("RssAnon"):
                return int(line.split()[1])

    before = memory()
    clients = [gateway.client(f"c{i}") for i in range(80)]
    for client in clients:
        client.send(b"\x30" + mqtt.varint((1 << 20) - 10) + struct.pack("!H", 1) + b"a\0" + b"123456")
    gateway.wait_metric("holdfast_connections_active", 80)
    assert memory() - before < 8 * 1024
    for client in clients:
        client.close()
