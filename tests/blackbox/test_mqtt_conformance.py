"""What the standards demand and no other file of tests happens to show; see doc/mqtt-conformance.md."""

import contextlib
import string
import time

import pytest

import mqtt_raw as mqtt
from conftest import session
from mqtt_raw import CONNACK, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V311, V5, Client

VERSIONS = [V311, V5]
TOO_LARGE, PROTOCOL_ERROR, TAKEN_OVER = 0x95, 0x82, 0x8E
NEVER_OVER = {V311: {"clean": False}, V5: session()}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_byte_order_mark_is_a_character_like_any_other(gateway, version):
    with gateway.client("\ufeffme", version) as marked, gateway.client("me", version) as plain:
        assert marked.subscribe("\ufeffa", "b/\ufeff/c") == [0, 0]
        assert plain.subscribe("a", "b//c") == [0, 0]
        for topic in ("a", "b//c", "\ufeffa", "b/\ufeff/c"):
            marked.publish(topic, "\ufeffx")
        for client, topics in ((marked, ("\ufeffa", "b/\ufeff/c")), (plain, ("a", "b//c"))):
            for topic in topics:
                client.expect_publish("\ufeffx", topic)
            client.ping()


@pytest.mark.parametrize("version", VERSIONS)
def test_topics_are_not_made_alike(gateway, version):
    """Neither case, nor composition, nor empty levels, nor blanks are touched."""
    topics = ["a/b", "A/b", "a/b/", "/a/b", "a//b", "a/b ", " a/b", "\u00e4", "a\u0308", "a/./b", "a/../b", "a%2Fb", "\uff41/b"]
    with gateway.client("to", version) as to:
        for number, topic in enumerate(topics, 1):
            to.subscribe(topic, packet_id=number)
            for other in topics:
                to.publish(other, other)
            to.expect_publish(topic, topic)
            assert to.unsubscribe(topic, packet_id=number) in ([], [0])


@pytest.mark.parametrize("version", VERSIONS)
def test_client_ids_of_letters_and_digits_up_to_23_bytes_are_allowed(gateway, version):
    letters = string.digits + string.ascii_letters
    for client_id in [*letters, *(letters[i:i + 23] for i in range(0, len(letters), 20)), "0" * 23]:
        with gateway.client(client_id, version) as client:
            client.ping()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_follows_a_refused_connect_has_no_effect(gateway, version):
    with gateway.client("witness") as witness:
        witness.subscribe("#")
        refused = {V311: mqtt.connect(V311, "", clean=False), V5: mqtt.connect(V5, "c", props={"auth_method": "x"})}
        with Client(gateway.mqtt, "c", version, connect=False) as client:
            client.send(refused[version] + mqtt.publish(version, "t", "no") + mqtt.connect(version, "c") +
                        mqtt.publish(version, "t", "no", retain=True) + mqtt.PING)
            said = client.expect_closed()
            assert [p.type for p in said] == [CONNACK] and said[0].code, said
        witness.publish("t", "end")
        witness.expect_publish("end")
        with gateway.client("late") as late:
            late.subscribe("t")
            late.ping()


@pytest.mark.parametrize("version", VERSIONS)
def test_who_has_no_will_leaves_without_a_word(gateway, version):
    with gateway.client("watcher") as watcher:
        watcher.subscribe("#")
        gateway.client("c", version).abort()
        gateway.wait_metric("holdfast_sessions", 1)
        watcher.publish("t", "end")
        watcher.expect_publish("end")


def test_a_reason_string_never_makes_a_packet_too_large(gateway):
    """Whatever the client takes at most: with some sizes a reason fits, with others it does not."""
    with_reason = set()
    for limit in range(5, 60, 5):
        wrong = {"receive_max": 10, "maximum_packet_size": limit, "auth_method": "x" * 20}
        with Client(gateway.mqtt, "c", connect=False) as client:
            client.send(mqtt.connect(V5, "c", props=wrong))
            said = client.expect_closed()
            assert all(len(p.body) + 2 <= limit for p in said)
            with_reason |= {(p.type, "reason_string" in p.props) for p in said}
    for limit in range(20, 100, 5):
        with gateway.client("c", props={"maximum_packet_size": limit, "request_problem": 1}) as client:
            client.send(mqtt.subscribe(V5, [("/".join("x" * 200), 1)], 1) + mqtt.unsubscribe(V5, ["never"], 2) +
                        mqtt.ack(PUBREL, V5, 3) + mqtt.ack(PUBREC, V5, 4) +
                        mqtt.publish(V5, "t", "x", qos=1, packet_id=5) + mqtt.publish(V5, "t", "x", qos=2, packet_id=6) +
                        mqtt.publish(V5, "$SYS/x", "x", qos=1, packet_id=7) +
                        mqtt.publish(V5, "$SYS/x", "x", qos=2, packet_id=8) + mqtt.subscribe(V5, [], 9))
            said = client.expect_closed()
            assert said and all(len(p.body) + 2 <= limit for p in said), said
            with_reason |= {(p.type, "reason_string" in p.props) for p in said if getattr(p, "code", 0) >= 0x80}
    for kind in (mqtt.CONNACK, PUBACK, PUBREC, mqtt.DISCONNECT):
        assert {(kind, True), (kind, False)} <= with_reason, with_reason


def test_a_message_of_qos_0_never_has_dup(gateway):
    with gateway.client("to", **session()) as to:
        to.subscribe(("t", 0))
        with gateway.client("from") as sender:
            sender.publish("t", "1", qos=1, packet_id=1, dup=True)
            sender.publish("t", "2", qos=2, packet_id=2, dup=True)
            sender.publish("t", "3")
            for _ in range(3):
                message = to.expect_publish()
                assert message.qos == 0 and not message.dup, message
        to.abort()
    with gateway.client("to", **session()) as to:
        to.publish("t", "after")
        assert not to.expect_publish("after").dup


def test_nothing_comes_after_disconnect_and_it_carries_no_session_expiry(gateway):
    with gateway.client("from") as sender:
        for ending in ("protocol error", "takeover"):
            victim = gateway.client("victim", **session())
            victim.subscribe("t")
            for _ in range(100):
                sender.publish("t", "x" * 100)
            if ending == "takeover":
                gateway.client("victim").close()
            else:
                victim.send(mqtt.packet(mqtt.AUTH))
            for _ in range(100):
                sender.publish("t", "x" * 100)
            said = victim.expect_closed()
            assert [p.type for p in said].count(DISCONNECT) == 1 and said[-1].type == DISCONNECT, said[-3:]
            assert said[-1].code == (TAKEN_OVER if ending == "takeover" else PROTOCOL_ERROR)
            assert "session_expiry" not in said[-1].props


@pytest.mark.parametrize("version", VERSIONS)
def test_subscribing_again_interrupts_nothing(gateway, version):
    with gateway.client("to", version) as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        got = []
        for n in range(60):
            for i in (0, 1):
                to.send(mqtt.subscribe(version, [("t", 2)], 1 + 2 * n + i))
                sender.publish_acked("t", str(2 * n + i), 2)
            open_ids, subacks = 2, 2
            while open_ids or subacks:
                packet = to.recv()
                if packet.type == PUBLISH:
                    got.append(int(packet.payload))
                    to.ack(PUBREC, packet.packet_id)
                elif packet.type == PUBREL:
                    to.ack(PUBCOMP, packet.packet_id)
                    open_ids -= 1
                else:
                    assert packet.type == mqtt.SUBACK and packet.codes == [2], packet
                    subacks -= 1
        assert got == list(range(120))


@pytest.mark.parametrize("version", VERSIONS)
def test_unsubscribing_completes_what_was_begun_and_begins_nothing(gateway, version):
    with gateway.client("to", version, **NEVER_OVER[version]) as to:
        to.subscribe(("t", 2))
        for qos in (1, 2, 2):
            gateway.publish("t", str(qos), qos=qos)
        one, two, three = to.expect_publish("1"), to.expect_publish("2"), to.expect_publish("2")
        to.ack(PUBREC, three.packet_id)
        to.expect_ack(PUBREL, three.packet_id)
        to.unsubscribe("t", packet_id=9)
        gateway.publish("t", "later", qos=2)
        to.ack(PUBACK, one.packet_id)
        to.ack(PUBREC, two.packet_id)
        to.expect_ack(PUBREL, two.packet_id)
        to.ack(PUBCOMP, two.packet_id)
        to.ping()
        to.abort()
    with gateway.client("to", version, **NEVER_OVER[version]) as to:
        to.expect_ack(PUBREL, three.packet_id)
        to.ack(PUBCOMP, three.packet_id)
        to.ping()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_sent_before_unsubscribing_comes_again_at_the_reconnect(gateway, version, qos):
    with gateway.client("to", version, **NEVER_OVER[version]) as to:
        to.subscribe(("t", 2))
        gateway.publish("t", "begun", qos=qos)
        begun = to.expect_publish("begun")
        to.unsubscribe("t", packet_id=9)
    with gateway.client("to", version, **NEVER_OVER[version]) as to:
        again = to.take("begun", qos=qos, timeout=1)
        assert again.dup and again.packet_id == begun.packet_id


def test_filters_of_unsubscribe_are_compared_as_they_are(gateway):
    held = ["a/+", "a/b", "#", "A/b", "a/b/", "$SYS/#"]
    with gateway.client("c") as client:
        client.subscribe(*held)
        assert client.unsubscribe("a/#", "+/b", "+/+", "a/B", "a/b//", "/a/b", "$SYS/+", packet_id=2) == [0x11] * 7
        assert client.unsubscribe(*held, packet_id=3) == [0] * 6


def test_a_message_that_was_sent_does_not_expire_before_its_exchange_is_complete(gateway):
    with gateway.client("to", **session()) as to:
        to.subscribe(("t", 2))
        with gateway.client("from") as sender:
            sender.publish_acked("t", "m", 2, props={"message_expiry": 1})
        first = to.expect_publish("m")
        time.sleep(1.2)
        to.ack(PUBREC, first.packet_id)
        to.expect_ack(PUBREL, first.packet_id)
        to.ack(PUBCOMP, first.packet_id)
        to.ping()


def test_a_shared_message_that_its_member_refuses_goes_to_nobody_else(gateway):
    with gateway.client("one") as one, gateway.client("two") as two:
        for client in (one, two):
            client.subscribe(("$share/g/t", 1))
        for i in range(10):
            gateway.publish("t", str(i), qos=1)
        mine = [one.expect_publish() for _ in range(5)]
        for message in mine:
            one.ack(PUBACK, message.packet_id, 0x80)
        theirs = two.take_all(5)
        gateway.publish("t", "last", qos=1)
        gateway.publish("t", "last", qos=1)
        one.take("last"), two.take("last")
        assert sorted(int(m.payload) for m in mine + theirs) == list(range(10))


@pytest.mark.parametrize("version", [V311, V5])
def test_a_lower_qos_loses_nothing_that_came_before(start, version):
    """A client that is behind subscribes again, with QoS 0, and goes: it is owed what came before, and nothing else."""
    gateway = start(mqtt="max_inflight = 2")
    kept = session() if version == V5 else {"version": V311, "clean": False}
    with gateway.client("to", **kept) as to:
        to.subscribe(("t", 1))
        answer = gateway.http("POST", "/v1/publish", [{"topic": "t", "payload": str(i), "qos": 1} for i in range(10)])
        assert answer.status == 200
        assert [to.expect_publish().payload for _ in range(2)] == [b"0", b"1"]
        to.subscribe(("t", 0))
        gateway.publish("t", "10", qos=1)
        to.expect_publish("10")
    with gateway.client("to", **kept) as to:
        assert [(m.payload, m.qos) for m in to.take_all(10)] == [(str(i).encode(), 1) for i in range(10)]
        gateway.publish("t", "11", qos=1)
        assert to.take().qos == 0


def test_a_wide_subscription_takes_nothing_from_the_clients_own_channel(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("#", 0))
    gateway.publish("clients/c", "kept", qos=1)
    with gateway.client("c", **session()) as client:
        client.take("kept", "clients/c", qos=1)
        client.expect_silence(0.1)


@pytest.mark.parametrize("killed", ["hf-worker-0", "all"])
def test_what_is_published_after_a_crash_is_new(start, killed):
    """[MQTT-4.3.2-2], [MQTT-4.3.3-2]: only what may have been sent before has DUP."""
    def publish(first):
        answer = gateway.http("POST", "/v1/publish", [{"topic": "t", "payload": str(i), "qos": 2} for i in range(first, first + 5)])
        assert answer.status == 200

    gateway = start()
    for qos in (1, 2):
        with gateway.client(f"to-{qos}", **session()) as to:
            to.subscribe(("t", qos))
    with gateway.client("to-1", **session()) as one, gateway.client("to-2", **session()) as two:
        publish(0)
        assert not [m for to in (one, two) for m in [to.expect_publish() for _ in range(5)] if m.dup]
        if killed == "all":
            gateway.kill_all()
            gateway = start(data_dir=gateway.data_dir)
        else:
            gateway.wait_successor(killed, gateway.kill_child(killed))
    publish(5)
    for qos in (1, 2):
        with gateway.client(f"to-{qos}", **session()) as to:
            assert [(int(m.payload), m.dup) for m in [to.expect_publish() for _ in range(10)]] == [(i, i < 5) for i in range(10)]


def test_what_was_sent_before_a_crash_has_dup_though_the_client_left_in_order_meanwhile(start):
    gateway = start(mqtt="max_inflight = 10")
    count = 60
    with gateway.client("to", **session()) as to:
        to.subscribe(("t", 1))
        answer = gateway.http("POST", "/v1/publish", [{"topic": "t", "payload": str(i), "qos": 1} for i in range(count)])
        assert answer.status == 200
        seen = {m.payload for m in to.take_all(count)}
        gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
    again = []
    for _ in range(4):
        with gateway.client("to", **session()) as to:
            with contextlib.suppress(mqtt.Silence):
                for _ in range(15):
                    again.append(to.take(timeout=0.5))
            to.send(mqtt.disconnect())
            with contextlib.suppress(mqtt.Closed):
                while True:
                    to.recv()
    assert not [m for m in again if m.payload in seen and not m.dup]
