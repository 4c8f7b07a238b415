"""QoS 1 and 2 in both directions: exchanges, packet identifiers, windows, order, and what is sent again when."""

import itertools

import pytest

import mqtt_raw as mqtt
from conftest import session, wait_for
from mqtt_raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V311, V5

VERSIONS = [V311, V5]
NOT_FOUND, RECEIVE_MAXIMUM_EXCEEDED = 0x92, 0x93


def kept(version):
    """Options of a client whose session outlives its connection."""
    return session() if version == V5 else {"clean": False}


# ---- publishes of a client

@pytest.mark.parametrize("version", VERSIONS)
def test_a_publish_with_qos_1_is_answered_with_puback(gateway, version):
    with gateway.client("to", version) as to, gateway.client("from", version) as sender:
        assert to.subscribe(("t", 1)) == [1]
        for packet_id in (1, 2, 1, 65535):  # an identifier is free again as soon as it was answered
            sender.publish_acked("t", f"m{packet_id}", 1, packet_id)
            message = to.take(f"m{packet_id}", "t", qos=1)
            assert not message.dup and not message.retain and message.packet_id
        sender.expect_silence()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_publish_with_qos_2_goes_through_its_four_packets(gateway, version):
    with gateway.client("to", version) as to, gateway.client("from", version) as sender:
        assert to.subscribe(("t", 2)) == [2]
        for packet_id in (1, 65535, 1):
            sender.publish("t", f"m{packet_id}", qos=2, packet_id=packet_id)
            sender.expect_ack(PUBREC, packet_id)
            sender.expect_silence(0.05)
            sender.ack(PUBREL, packet_id)
            sender.expect_ack(PUBCOMP, packet_id, 0)
            message = to.expect_publish(f"m{packet_id}", "t")
            assert message.qos == 2 and not message.dup
            to.ack(PUBREC, message.packet_id)
            to.expect_ack(PUBREL, message.packet_id, 0)
            to.ack(PUBCOMP, message.packet_id)
            to.expect_silence(0.05)


def test_a_publish_without_subscribers_is_a_success_all_the_same(gateway):
    with gateway.client("from") as sender:
        assert sender.publish_acked("nobody/listens", "x", 1).code in (0, 0x10)
        assert sender.publish_acked("nobody/listens", "x", 2).code in (0, 0x10)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_qos_2_publish_sent_again_is_delivered_once(gateway, version):
    with gateway.client("to") as to, gateway.client("from", version) as sender:
        to.subscribe(("t", 2))
        sender.publish("t", "once", qos=2, packet_id=7)
        sender.expect_ack(PUBREC, 7)
        for _ in range(3):
            sender.publish("t", "once", qos=2, packet_id=7, dup=True)
            sender.expect_ack(PUBREC, 7)
        sender.ack(PUBREL, 7)
        sender.expect_ack(PUBCOMP, 7, 0)
        sender.publish("t", "new message, old identifier", qos=2, packet_id=7)
        sender.expect_ack(PUBREC, 7)
        to.take("once")
        to.take("new message, old identifier")
        to.expect_silence()


def test_identifiers_of_qos_2_publishes_are_independent_of_each_other(gateway):
    with gateway.client("to") as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        for packet_id in range(1, 11):
            sender.publish("t", f"m{packet_id}", qos=2, packet_id=packet_id)
        for packet_id in range(1, 11):
            sender.expect_ack(PUBREC, packet_id)
        for packet_id in (10, 1, 5):
            sender.ack(PUBREL, packet_id)
            sender.expect_ack(PUBCOMP, packet_id, 0)
        sender.publish("t", "m2", qos=2, packet_id=2, dup=True)  # this one is still open
        sender.expect_ack(PUBREC, 2)
        sender.publish("t", "again 5", qos=2, packet_id=5)  # and this one is not
        sender.expect_ack(PUBREC, 5)
        got = to.take_all(11)
        assert [m.payload.decode() for m in got] == [f"m{i}" for i in range(1, 11)] + ["again 5"]
        to.expect_silence()


@pytest.mark.parametrize("qos", [1, 2])
def test_the_dup_flag_of_a_publisher_is_not_passed_on(gateway, qos):
    with gateway.client("to") as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        sender.publish_acked("t", "x", qos, 3, dup=True)
        assert not to.take("x", qos=qos).dup


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pubrel_for_an_unknown_identifier_is_answered(gateway, version):
    """A server that has forgotten must complete all the same, or the client would ask for ever."""
    with gateway.client("from", version) as sender:
        sender.ack(PUBREL, 99)
        assert sender.expect(PUBCOMP).packet_id == 99
        sender.publish_acked("t", "x", 2, 5)
        sender.ack(PUBREL, 5)
        again = sender.expect(PUBCOMP)
        assert again.packet_id == 5 and again.code in (0, NOT_FOUND)


def test_a_pubrel_for_an_unknown_identifier_has_its_reason_code(gateway):
    with gateway.client("from") as sender:
        sender.ack(PUBREL, 99)
        sender.expect_ack(PUBCOMP, 99, NOT_FOUND)


@pytest.mark.parametrize("version", VERSIONS)
def test_acknowledgements_of_what_was_never_sent_harm_nobody(gateway, version):
    with gateway.client("odd", version) as odd:
        odd.subscribe(("t", 2))
        odd.ack(PUBACK, 4711)
        odd.ack(PUBCOMP, 4711)
        odd.ping()
        odd.ack(PUBREC, 4711)
        odd.expect_ack(PUBREL, 4711, NOT_FOUND if version == V5 else 0)
        odd.ack(PUBCOMP, 4711)
        odd.publish_acked("other", "x", 1)
        gateway.publish("t", "still here")
        odd.take("still here")


def test_many_publishes_in_flight_are_all_answered_in_order(gateway):
    with gateway.client("to") as to, gateway.client("from") as sender:
        to.subscribe(("t", 1))
        room = min(100, sender.connack.props.get("receive_max", 65535))
        for base in range(1, 1001, room):
            ids = range(base, min(base + room, 1001))
            sender.send(b"".join(mqtt.publish(V5, "t", str(i), qos=1, packet_id=i) for i in ids))
            for i in ids:
                sender.expect_ack(PUBACK, i)
        assert [m.payload.decode() for m in to.take_all(1000)] == [str(i) for i in range(1, 1001)]


def test_pubrecs_come_in_the_order_of_the_publishes(gateway):
    """So do PUBRELs in the other direction: they follow the PUBRECs of the client."""
    with gateway.client("to") as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        sender.send(b"".join(mqtt.publish(V5, "t", str(i), qos=2, packet_id=i) for i in range(1, 11)))
        for i in range(1, 11):
            sender.expect_ack(PUBREC, i)
        sender.send(b"".join(mqtt.ack(PUBREL, V5, i) for i in range(1, 11)))
        for i in range(1, 11):
            sender.expect_ack(PUBCOMP, i, 0)
        got = [to.expect_publish(str(i)) for i in range(1, 11)]
        to.send(b"".join(mqtt.ack(PUBREC, V5, m.packet_id) for m in got))
        for m in got:
            to.expect_ack(PUBREL, m.packet_id, 0)


def test_a_large_message_with_qos_2_arrives_whole(gateway):
    payload = bytes(range(256)) * 3000
    with gateway.client("to", V311) as to, gateway.client("from") as sender:
        to.subscribe(("big", 2))
        sender.publish_acked("big", payload, 2)
        to.take(payload, qos=2)


# ---- what a client may have in flight towards the gateway

def test_the_gateway_announces_its_receive_maximum_and_ends_who_exceeds_it(start):
    gateway = start(mqtt="receive_maximum = 5")
    with gateway.client("from") as sender:
        assert sender.connack.props["receive_max"] == 5
        for packet_id in range(1, 6):
            sender.publish("t", "x", qos=2, packet_id=packet_id)
        for packet_id in range(1, 6):
            sender.expect_ack(PUBREC, packet_id)
        sender.ack(PUBREL, 1)
        sender.expect_ack(PUBCOMP, 1, 0)
        sender.publish("t", "x", qos=2, packet_id=6)
        sender.expect_ack(PUBREC, 6)
        sender.publish("t", "x", qos=0)  # does not count
        sender.ping()
        sender.publish("t", "one too many", qos=2, packet_id=7)
        sender.expect_disconnect(RECEIVE_MAXIMUM_EXCEEDED)


def test_publishes_of_qos_1_do_not_fill_the_receive_maximum_for_good(start):
    gateway = start(mqtt="receive_maximum = 2")
    with gateway.client("from") as sender:
        for packet_id in range(1, 50):
            sender.publish_acked("t", "x", 1, packet_id)


def test_a_burst_of_a_5_0_client_that_does_not_look_at_the_receive_maximum_is_kept(start):
    """As of mqtt.js: 500 at once. What is not answered yet is not held against it."""
    gateway = start(mqtt="receive_maximum = 5")
    with gateway.client("to", V5) as to, gateway.client("from", V5) as sender:
        to.subscribe(("t", 1))
        sender.send(b"".join(mqtt.publish(V5, "t", str(i), qos=1, packet_id=i) for i in range(1, 501)))
        for i in range(1, 501):
            sender.expect_ack(PUBACK, i)
        assert [m.payload.decode() for m in to.take_all(500)] == [str(i) for i in range(1, 501)]


def test_a_v311_client_that_cannot_know_the_receive_maximum_is_served_all_the_same(start):
    gateway = start(mqtt="receive_maximum = 5")
    with gateway.client("to") as to, gateway.client("from", V311) as sender:
        to.subscribe(("t", 2))
        sender.send(b"".join(mqtt.publish(V311, "t", str(i), qos=2, packet_id=i) for i in range(1, 21)))
        for i in range(1, 21):
            sender.expect_ack(PUBREC, i)
        sender.send(b"".join(mqtt.ack(PUBREL, V311, i) for i in range(1, 21)))
        for i in range(1, 21):
            sender.expect_ack(PUBCOMP, i)
        assert [m.payload.decode() for m in to.take_all(20)] == [str(i) for i in range(1, 21)]


# ---- deliveries to a client

@pytest.mark.parametrize("published, granted", itertools.product((0, 1, 2), (0, 1, 2)))
def test_a_message_comes_with_the_lower_of_both_qos(gateway, published, granted):
    with gateway.client("five") as five, gateway.client("three", V311) as three, gateway.client("from") as sender:
        for client in (five, three):
            assert client.subscribe(("t", granted)) == [granted]
        sender.publish_acked("t", "x", published) if published else sender.publish("t", "x")
        for client in (five, three):
            client.take("x", "t", qos=min(published, granted))
            client.expect_silence(0.05)


def test_of_overlapping_subscriptions_the_highest_qos_counts(gateway):
    with gateway.client("to") as to, gateway.client("from") as sender:
        assert to.subscribe(("a/b", 0), ("a/+", 2), ("a/#", 1)) == [0, 2, 1]
        sender.publish_acked("a/b", "x", 2)
        to.take("x", qos=2)
        to.unsubscribe("a/+")
        sender.publish_acked("a/b", "y", 2)
        to.take("y", qos=1)
        to.expect_silence()


def test_subscribing_again_changes_the_qos(gateway):
    with gateway.client("to") as to, gateway.client("from") as sender:
        for qos in (0, 2, 1, 0):
            assert to.subscribe(("t", qos)) == [qos]
            sender.publish_acked("t", "x", 2)
            to.take("x", qos=qos)
        to.expect_silence(0.05)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_the_window_of_a_client_bounds_what_it_is_sent(start, version, qos):
    """Its Receive Maximum, and for 3.1.1, which has none, max_inflight."""
    gateway = start(mqtt="" if version == V5 else "max_inflight = 3")
    options = {"props": {"receive_max": 3}} if version == V5 else {}
    with gateway.client("to", version, **options) as to, gateway.client("from") as sender:
        to.subscribe(("t", qos), ("q0", 0))
        for i in range(10):
            sender.publish_acked("t", str(i), 2, 1 + i)
        got = [to.expect_publish(str(i)) for i in range(3)]
        assert len({m.packet_id for m in got}) == 3
        to.expect_silence()
        to.ping()  # nothing but publishes is held back
        assert to.subscribe(("other", 1)) == [1]
        for i in range(3, 10):
            first = got.pop(0)
            to.acknowledge(first)
            got.append(to.expect_publish(str(i)))
            to.expect_silence(0.05)
        for message in got:
            to.acknowledge(message)
        to.expect_silence()


def test_of_receive_maximum_and_max_inflight_the_lower_counts(start):
    gateway = start(mqtt="max_inflight = 4")
    with gateway.client("to", props={"receive_max": 100}) as to, gateway.client("from") as sender:
        to.subscribe(("t", 1))
        for i in range(10):
            sender.publish_acked("t", str(i), 1, 1 + i)
        got = [to.expect_publish(str(i)) for i in range(4)]
        to.expect_silence()
        for message in got:
            to.acknowledge(message)
        to.take_all(6)


def test_a_slot_of_qos_2_is_free_after_pubcomp_and_not_before(gateway):
    with gateway.client("to", props={"receive_max": 1}) as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        sender.publish_acked("t", "first", 2, 1)
        sender.publish_acked("t", "second", 2, 2)
        first = to.expect_publish("first")
        to.expect_silence(0.1)
        to.ack(PUBREC, first.packet_id)
        to.expect_ack(PUBREL, first.packet_id, 0)
        to.expect_silence()
        to.ack(PUBCOMP, first.packet_id)
        to.take("second")


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97, 0x99])
def test_a_pubrec_with_an_error_ends_the_exchange_and_frees_the_slot(gateway, code):
    with gateway.client("to", **session(receive_max=1)) as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        sender.publish_acked("t", "refused", 2, 1)
        sender.publish_acked("t", "welcome", 2, 2)
        refused = to.expect_publish("refused")
        to.ack(PUBREC, refused.packet_id, code)
        to.take("welcome")  # and no PUBREL before it
        to.expect_silence(0.1)
    with gateway.client("to", **session()) as to:
        assert to.connack.session_present == 1
        to.expect_silence()  # nor is it sent again


def test_a_puback_with_an_error_ends_the_exchange_too(gateway):
    with gateway.client("to", **session(receive_max=1)) as to, gateway.client("from") as sender:
        to.subscribe(("t", 1))
        sender.publish_acked("t", "refused", 1, 1)
        sender.publish_acked("t", "welcome", 1, 2)
        to.ack(PUBACK, to.expect_publish("refused").packet_id, 0x99)
        to.take("welcome")
        to.expect_silence(0.1)


def test_properties_in_acknowledgements_are_understood(gateway):
    props = {"reason_string": "as you wish", "user": [("k", "v")]}
    with gateway.client("to", props={"receive_max": 1}) as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        for i in range(3):
            sender.publish("t", str(i), qos=2, packet_id=9, props={"user": [("a", "b")]})
            sender.expect_ack(PUBREC, 9)
            sender.ack(PUBREL, 9, 0, props)
            sender.expect_ack(PUBCOMP, 9, 0)
            message = to.expect_publish(str(i))
            to.ack(PUBREC, message.packet_id, 0x10, props)
            to.expect_ack(PUBREL, message.packet_id, 0)
            to.ack(PUBCOMP, message.packet_id, 0, props)


def test_identifiers_of_both_directions_have_nothing_to_do_with_each_other(gateway):
    with gateway.client("echo") as client:
        client.subscribe(("t", 2))
        gateway.publish("t", "from the gateway", qos=2)
        message = client.expect_publish("from the gateway")
        assert message.qos == 2
        same = message.packet_id
        client.publish("elsewhere", "from the client", qos=2, packet_id=same)
        client.expect_ack(PUBREC, same)
        client.ack(PUBREC, same)
        client.expect_ack(PUBREL, same, 0)
        client.ack(PUBREL, same)
        client.expect_ack(PUBCOMP, same, 0)
        assert client.subscribe(("more", 1), packet_id=same) == [1]
        client.ack(PUBCOMP, same)
        client.ping()


def test_identifiers_in_flight_differ_and_are_not_zero(gateway):
    with gateway.client("to", props={"receive_max": 65535}) as to, gateway.client("from") as sender:
        to.subscribe(("t/#", 2))
        for i in range(60):
            sender.publish_acked(f"t/{i % 7}", str(i), 1 + i % 2, 1 + i)
        got = []
        while len(got) < 15:
            got.append(to.expect_publish())
        ids = [m.packet_id for m in got]
        assert len(set(ids)) == len(ids) and 0 not in ids


def test_a_subscriber_that_does_not_acknowledge_holds_nobody_else_up(gateway):
    with gateway.client("lazy", props={"receive_max": 2}) as lazy, gateway.client("eager") as eager, \
            gateway.client("from") as sender:
        lazy.subscribe(("t", 1))
        eager.subscribe(("t", 1))
        for i in range(200):
            sender.publish_acked("t", str(i), 1, 1 + i)
        assert len(eager.take_all(200)) == 200
        assert [m.payload for m in lazy.take_all(200)] == [str(i).encode() for i in range(200)]


# ---- order

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_order_is_kept_per_topic(gateway, version, qos):
    with gateway.client("to", version) as to, gateway.client("from") as sender:
        to.subscribe(("t/+", qos))
        count = 300
        sent = {0: [], 1: [], 2: []}
        for base in range(0, count, 20):
            numbers = range(base, base + 20)
            sender.send(b"".join(mqtt.publish(V5, f"t/{i % 3}", str(i), qos=qos, packet_id=1 + i) for i in numbers))
            for i in numbers:
                sent[i % 3].append(str(i).encode())
                sender.expect_ack(PUBACK if qos == 1 else PUBREC, 1 + i)
            if qos == 2:
                sender.send(b"".join(mqtt.ack(PUBREL, V5, 1 + i) for i in numbers))
                for i in numbers:
                    sender.expect_ack(PUBCOMP, 1 + i, 0)
        got = to.take_all(count)
        for n, payloads in sent.items():
            assert [m.payload for m in got if m.topic == f"t/{n}"] == payloads


def test_messages_of_one_publisher_come_in_order_to_all_workers(start):
    gateway = start(workers=2)
    subscribers = [gateway.client_on(n, f"to-{n}") for n in range(2)]
    for client in subscribers:
        client.subscribe(("t", 1))
    with gateway.client_on(0, "from") as sender:
        for i in range(200):
            sender.publish_acked("t", str(i), 1, 1 + i)
    for client in subscribers:
        assert [m.payload.decode() for m in client.take_all(200)] == [str(i) for i in range(200)]
        client.close()


# ---- what is sent again

@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_sent_again_while_the_connection_lasts(gateway, version):
    with gateway.client("to", version) as to, gateway.client("from") as sender:
        to.subscribe(("t", 2))
        sender.publish_acked("t", "one", 1, 1)
        sender.publish_acked("t", "two", 2, 2)
        to.expect_publish("one")
        two = to.expect_publish("two")
        to.expect_silence(2)
        to.ack(PUBREC, two.packet_id)
        to.expect_ack(PUBREL, two.packet_id)
        to.expect_silence(2)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_what_was_not_acknowledged_comes_again_with_dup_at_the_reconnect(gateway, version, how):
    with gateway.client("from") as sender:
        to = gateway.client("to", version, **kept(version))
        to.subscribe(("t", 2))
        for i, qos in enumerate((1, 2, 1, 2)):
            sender.publish_acked("t", str(i), qos, 1 + i)
        first = [to.expect_publish(str(i)) for i in range(4)]
        assert not any(m.dup for m in first)
        getattr(to, how)()
        with gateway.client("to", version, **kept(version)) as to:
            assert to.connack.session_present == 1
            again = [to.expect_publish(str(i)) for i in range(4)]  # in the order of the first time
            assert [(m.packet_id, m.qos, m.dup) for m in again] == [(m.packet_id, m.qos, True) for m in first]
            sender.publish_acked("t", "new", 1, 9)
            assert not to.expect_publish("new").dup


@pytest.mark.parametrize("version", VERSIONS)
def test_after_pubrec_the_pubrel_comes_again_and_not_the_message(gateway, version):
    with gateway.client("from") as sender:
        to = gateway.client("to", version, **kept(version))
        to.subscribe(("t", 2))
        sender.publish_acked("t", "received", 2, 1)
        sender.publish_acked("t", "not yet", 2, 2)
        received, not_yet = to.expect_publish("received"), to.expect_publish("not yet")
        to.ack(PUBREC, received.packet_id)
        to.expect_ack(PUBREL, received.packet_id, 0)
        to.close()
        for _ in range(2):
            with gateway.client("to", version, **kept(version)) as to:
                both = sorted((to.recv() for _ in range(2)), key=lambda p: p.type)
                assert [p.type for p in both] == [PUBLISH, PUBREL]
                assert both[0].payload == b"not yet" and both[0].dup and both[0].packet_id == not_yet.packet_id
                assert both[1].packet_id == received.packet_id
                to.expect_silence(0.1)
        with gateway.client("to", version, **kept(version)) as to:
            for packet_ in [to.recv() for _ in range(2)]:
                if packet_.type == PUBREL:
                    to.ack(PUBCOMP, packet_.packet_id)
                else:
                    to.acknowledge(packet_)
            to.ping()
        with gateway.client("to", version, **kept(version)) as to:
            to.expect_silence()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_acknowledged_out_of_order_does_not_come_again(gateway, version):
    with gateway.client("from") as sender:
        to = gateway.client("to", version, **kept(version))
        to.subscribe(("t", 1))
        for i in range(6):
            sender.publish_acked("t", str(i), 1, 1 + i)
        got = [to.expect_publish(str(i)) for i in range(6)]
        for i in (5, 1, 3):
            to.acknowledge(got[i])
        to.leave()
        with gateway.client("to", version, **kept(version)) as to:
            again = to.take_all(3)
            assert [m.payload for m in again] == [b"0", b"2", b"4"] and all(m.dup for m in again)
            to.expect_silence(0.1)


def test_a_window_smaller_than_before_is_respected_at_the_reconnect(gateway):
    with gateway.client("from") as sender:
        to = gateway.client("to", **session(receive_max=10))
        to.subscribe(("t", 1))
        for i in range(8):
            sender.publish_acked("t", str(i), 1, 1 + i)
        first = [to.expect_publish(str(i)) for i in range(8)]
        to.close()
        with gateway.client("to", **session(receive_max=2)) as to:
            for i in range(0, 8, 2):
                pair = [to.expect_publish(str(n)) for n in (i, i + 1)]
                assert [m.packet_id for m in pair] == [m.packet_id for m in first[i:i + 2]]
                to.expect_silence(0.05)
                for message in pair:
                    to.acknowledge(message)
            to.expect_silence()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_publisher_that_comes_back_completes_its_exchange(gateway, version):
    with gateway.client("to") as to:
        to.subscribe(("t", 2))
        sender = gateway.client("from", version, **kept(version))
        sender.publish("t", "once", qos=2, packet_id=11)
        sender.expect_ack(PUBREC, 11)
        sender.close()
        with gateway.client("from", version, **kept(version)) as sender:
            assert sender.connack.session_present == 1
            sender.publish("t", "once", qos=2, packet_id=11, dup=True)
            sender.expect_ack(PUBREC, 11)
            sender.ack(PUBREL, 11)
            sender.expect_ack(PUBCOMP, 11, 0)
        to.take("once")
        to.expect_silence()


def test_with_a_clean_start_open_identifiers_are_forgotten(gateway):
    with gateway.client("to") as to:
        to.subscribe(("t", 2))
        sender = gateway.client("from", **session())
        sender.publish("t", "first", qos=2, packet_id=11)
        sender.expect_ack(PUBREC, 11)
        sender.close()
        with gateway.client("from", V5, clean=True) as sender:
            assert sender.connack.session_present == 0
            sender.publish("t", "second", qos=2, packet_id=11)
            sender.expect_ack(PUBREC, 11)
        to.take("first")
        to.take("second")


# ---- HTTP

def test_a_push_over_http_with_qos_is_acknowledged_by_the_client(gateway):
    with gateway.client("to") as to:
        to.subscribe(("t", 2))
        for qos in (0, 1, 2):
            gateway.publish("t", f"q{qos}", qos=qos)
            to.take(f"q{qos}", qos=qos)


def test_pushes_over_http_have_growing_numbers(gateway):
    numbers = [gateway.publish("t", "x", qos=qos)["seq"] for qos in (1, 0, 2, 1)]
    assert numbers == sorted(set(numbers))


def test_in_flight_is_shown_and_goes_back_to_nothing(gateway):
    with gateway.client("to") as to:
        to.subscribe(("t", 1))
        gateway.publish("t", "x", qos=1)
        message = to.expect_publish("x")
        wait_for(lambda: gateway.http("GET", "/v1/clients/to").json.get("inflight") == 1, "one message in flight")
        to.acknowledge(message)
        wait_for(lambda: gateway.http("GET", "/v1/clients/to").json.get("inflight") == 0, "nothing in flight")
