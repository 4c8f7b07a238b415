"""SUBSCRIBE, UNSUBSCRIBE and PUBLISH: who gets what, in which form."""

import itertools

import pytest

import mqtt_raw as mqtt
from mqtt_raw import V311, V5

PAIRS = list(itertools.product((V311, V5), repeat=2))


def last_of(client, sentinel_topic, send):
    """All publishes that come before the sentinel, which `send` publishes after them."""
    send(sentinel_topic, "sentinel")
    found = []
    while (message := client.expect_publish()).topic != sentinel_topic:
        found.append(message)
    return found


@pytest.mark.parametrize("sender, receiver", PAIRS)
def test_a_publish_reaches_a_subscriber_of_either_version(gateway, sender, receiver):
    with gateway.client("from", sender) as a, gateway.client("to", receiver) as b:
        assert b.subscribe("news") == [0]
        a.publish("news", b"\x00\xff any bytes")
        message = b.expect_publish(b"\x00\xff any bytes", "news")
        assert (message.qos, message.retain, message.dup) == (0, False, False)
        assert message.props == {}
        a.publish("news", b"")
        b.expect_publish(b"", "news")
        a.expect_silence()


def test_every_qos_is_granted(gateway):
    for version in (V311, V5):
        with gateway.client("s", version) as client:
            assert client.subscribe(("a", 0), ("b", 1), ("c/#", 2), packet_id=65535) == [0, 1, 2]


def test_wildcards_match_as_the_standard_says(gateway):
    cases = {
        "a/+/c": (["a/b/c", "a//c"], ["a/b/b/c", "a/c", "a/b/c/d"]),
        "a/#": (["a", "a/b", "a/b/c", "a/"], ["b/a", "ab"]),
        "+": (["a", "b"], ["a/b", "/a", "$a"]),
        "+/+": (["/a", "a/b"], ["a", "a/b/c", "$a/b"]),
        "/+": (["/a"], ["a"]),
        "#": (["a", "/", "a/b/c"], ["$SYS/x", "$a"]),
        "$a/#": (["$a/b", "$a"], ["a/b"]),
        "exact/topic": (["exact/topic"], ["exact/topic/", "exact"]),
    }
    with gateway.client("pub") as sender:
        for number, (topic_filter, (matching, others)) in enumerate(cases.items()):
            with gateway.client(f"sub-{number}", V5 if number % 2 else V311) as client:
                assert client.subscribe(topic_filter) == [0]
                for topic in others + matching:
                    sender.publish(topic, topic)
                got = last_of(client, f"clients/sub-{number}", sender.publish)
                assert [m.topic for m in got] == matching, topic_filter


def test_overlapping_subscriptions_deliver_once(gateway):
    with gateway.client("one") as client:
        assert client.subscribe("a/b", "a/+", "a/#", "#", "a/b") == [0] * 5
        client.subscribe("a/+")
        gateway.publish("a/b", "once")
        got = last_of(client, "clients/one", gateway.publish)
        assert [m.payload for m in got] == [b"once"]


def test_unsubscribe_answers_for_each_filter(gateway):
    with gateway.client("five") as client:
        client.subscribe("a", "b/+")
        assert client.unsubscribe("a", "never", "b/+", "b/+", packet_id=9) == [0, 0x11, 0, 0x11]
        gateway.publish("a", "no")
        gateway.publish("b/c", "no")
        assert last_of(client, "clients/five", gateway.publish) == []
    with gateway.client("three", V311) as client:
        client.subscribe("a")
        assert client.unsubscribe("a", "never") == []
        gateway.publish("a", "no")
        assert last_of(client, "clients/three", gateway.publish) == []


def test_properties_are_forwarded_between_v5_clients_unchanged(gateway):
    props = {"payload_format": 1, "content_type": "application/json", "response_topic": "answers/here",
             "correlation_data": b"\x00\x01\x02", "user": [("b", "2"), ("a", "1"), ("b", "2 again"), ("", "")]}
    with gateway.client("from") as a, gateway.client("to") as b, gateway.client("old", V311) as old:
        b.subscribe("t")
        old.subscribe("t")
        a.publish("t", '{"x": 1}', props=props)
        assert b.expect_publish('{"x": 1}').props == props
        old.expect_publish('{"x": 1}')


def test_the_message_expiry_interval_is_forwarded_less_the_time_waited(gateway):
    with gateway.client("from") as a, gateway.client("to") as b:
        b.subscribe("t")
        a.publish("t", "x", props={"message_expiry": 100})
        assert 95 <= b.expect_publish("x").props["message_expiry"] <= 100


def test_no_local_keeps_a_client_from_hearing_itself(gateway):
    with gateway.client("me") as me, gateway.client("you") as you:
        me.subscribe(("chat", 0x04))
        you.subscribe(("chat", 0x04))
        me.publish("chat", "from me")
        you.publish("chat", "from you")
        you.expect_publish("from me")
        me.expect_publish("from you")
        you.expect_silence()
        me.expect_silence()


def test_a_client_hears_itself_without_no_local(gateway):
    for version in (V311, V5):
        with gateway.client("echo", version) as client:
            client.subscribe("chat")
            client.publish("chat", "hello")
            client.expect_publish("hello", "chat")


def test_subscriptions_of_a_session_are_bounded(start):
    gateway = start(mqtt="max_subscriptions = 3 max_topic_levels = 4")
    with gateway.client("five") as client:
        assert client.subscribe("a", "b", "c", "d") == [0, 0, 0, 0x97]
        assert client.subscribe("a/b/c/d/e") == [0x8F]
        client.unsubscribe("a")
        assert client.subscribe("e") == [0]
    with gateway.client("three", V311) as client:
        assert client.subscribe("a", "b", "c", "d") == [0, 0, 0, 0x80]


def test_many_filters_in_one_subscribe(gateway):
    names = [f"topic/{i}" for i in range(900)]
    with gateway.client("many") as client:
        assert client.subscribe(*names) == [0] * 900
        gateway.publish("topic/899", "last")
        client.expect_publish("last", "topic/899")
        assert client.unsubscribe(*names) == [0] * 900
    gateway.wait_metric("holdfast_subscriptions", 0)
    gateway.wait_metric("holdfast_topics", 0)


def test_order_is_kept_per_topic(gateway):
    with gateway.client("from") as a, gateway.client("to") as b:
        b.subscribe("count")
        a.send(b"".join(mqtt.publish(V5, "count", str(i)) for i in range(1000)))
        for i in range(1000):
            b.expect_publish(str(i), "count")


def test_a_large_payload_arrives_whole(gateway):
    payload = bytes(range(256)) * 3000
    with gateway.client("from") as a, gateway.client("to", V311) as b:
        b.subscribe("big")
        a.publish("big", payload)
        b.expect_publish(payload, "big")


def test_a_message_above_the_clients_maximum_packet_size_is_left_out(gateway):
    with gateway.client("small", props={"maximum_packet_size": 100}) as small, gateway.client("any") as other:
        small.subscribe("t")
        other.subscribe("t")
        gateway.publish("t", "x" * 200)
        gateway.publish("t", "short")
        small.expect_publish("short")
        other.expect_publish("x" * 200)
        gateway.wait_metric("holdfast_deliveries_too_large_total", 1)


def test_the_private_channel_of_a_client_needs_no_subscription(gateway):
    with gateway.client("alice") as alice, gateway.client("bob", V311) as bob:
        gateway.publish("clients/alice", "for alice")
        gateway.publish("clients/bob", "for bob")
        alice.expect_publish("for alice", "clients/alice")
        bob.expect_publish("for bob", "clients/bob")
        bob.publish("clients/alice", "from bob")
        alice.expect_publish("from bob", "clients/alice")
        gateway.publish("clients/alice/x", "nobody")
        gateway.publish("clients/", "nobody")
        alice.expect_silence()
        bob.expect_silence(0.05)


def test_everybody_hears_broadcast_once(gateway):
    with gateway.client("a") as a, gateway.client("b", V311) as b:
        b.subscribe("broadcast", "#")
        gateway.publish("broadcast", "to all")
        a.expect_publish("to all", "broadcast")
        b.expect_publish("to all", "broadcast")
        gateway.publish("clients/b", "next")
        b.expect_publish("next")


def test_the_implicit_channels_can_be_renamed_and_switched_off(start):
    gateway = start(mqtt='clients_prefix = "to/" broadcast_topic = ""')
    with gateway.client("a") as a:
        gateway.publish("broadcast", "nobody")
        gateway.publish("clients/a", "nobody")
        gateway.publish("to/a", "me")
        a.expect_publish("me", "to/a")


def test_clients_of_all_workers_hear_each_other(start):
    gateway = start(workers=3)
    clients = [gateway.client_on(n, version=V5 if n else V311) for n in range(3)]
    for n, client in enumerate(clients):
        client.subscribe("all")
    for n, client in enumerate(clients):
        client.publish("all", f"from {n}")
        for other in clients:
            other.expect_publish(f"from {n}", "all")
    gateway.publish("broadcast", "b")
    for client in clients:
        client.expect_publish("b", "broadcast")
        client.close()
