"""Retained messages: set, replaced, cleared, and given to those who subscribe, each in the way they asked for."""

import signal
import time

import pytest

import mqtt_raw as mqtt
from conftest import session
from mqtt_raw import NO_LOCAL, RETAIN_AS_PUBLISHED, RETAINED_IF_NEW, RETAINED_NEVER, V311, V5

VERSIONS = [V311, V5]


def retain(gateway, topic, payload, qos=1, **options):
    """Publishes with RETAIN; it is kept when this returns."""
    with gateway.client("", V5) as sender:
        if qos:
            sender.publish_acked(topic, payload, qos, retain=True, **options)
        else:
            sender.publish(topic, payload, retain=True, **options)
            sender.publish_acked("sync", "", 1)  # follows it through the same hands


def retained(gateway, *filters, version=V5, count=None, **options):
    """What a new subscriber of these filters is given, as {topic: message}."""
    with gateway.client("", version) as client:
        codes = client.subscribe(*filters, **options)
        assert all(code < 0x80 for code in codes), codes
        if count is None:
            found = {}
            while True:
                try:
                    message = client.acknowledge(client.expect_publish(timeout=0.4))
                except mqtt.Silence:
                    return found
                assert message.topic not in found, f"{message} twice"
                found[message.topic] = message
        got = {m.topic: m for m in client.take_all(count)}
        client.expect_silence(0.1)
        assert len(got) == count
        return got


@pytest.mark.parametrize("publisher", VERSIONS)
@pytest.mark.parametrize("subscriber", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_new_subscriber_gets_the_retained_message(gateway, publisher, subscriber, qos):
    with gateway.client("from", publisher) as sender:
        if qos:
            sender.publish_acked("t", b"state \x00\xff", qos, retain=True)
        else:
            sender.publish("t", b"state \x00\xff", retain=True)
            sender.publish_acked("sync", "", 1)
    with gateway.client("to", subscriber) as to:
        to.subscribe(("t", 2))
        message = to.take(b"state \x00\xff", "t", qos=qos)
        assert message.retain and not message.dup
        to.expect_silence(0.1)


def test_suback_comes_before_the_retained_messages_or_not_but_once(gateway):
    retain(gateway, "t", "x")
    with gateway.client("to") as to:
        to.send(mqtt.subscribe(V5, [("t", 1)], 5))
        kinds = [to.recv().type for _ in range(2)]
        assert sorted(kinds) == [mqtt.PUBLISH, mqtt.SUBACK]
        to.expect_silence(0.1)


def test_the_last_message_replaces_the_one_before(gateway):
    for i, qos in enumerate((1, 0, 2, 1)):
        retain(gateway, "t", str(i), qos)
        message = retained(gateway, ("t", 2), count=1)["t"]
        assert message.payload == str(i).encode() and message.qos == qos


def test_a_message_without_retain_changes_nothing(gateway):
    retain(gateway, "t", "state")
    with gateway.client("from") as sender:
        sender.publish_acked("t", "event", 1)
        sender.publish_acked("t", "", 1)
    assert retained(gateway, "t", count=1)["t"].payload == b"state"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_message_clears_and_is_delivered_itself(gateway, version, qos):
    retain(gateway, "t", "state")
    retain(gateway, "other", "stays")
    with gateway.client("live") as live, gateway.client("from", version) as sender:
        live.subscribe(("t", 2 | RETAINED_NEVER))
        if qos:
            sender.publish_acked("t", "", qos, retain=True)
        else:
            sender.publish("t", "", retain=True)
            sender.publish_acked("sync", "", 1)
        message = live.take("", "t", qos=qos)
        assert not message.retain
    assert list(retained(gateway, "#")) == ["other"]
    retain(gateway, "t", "")  # nothing is there to be cleared
    retain(gateway, "t", "new")
    assert retained(gateway, "t", count=1)["t"].payload == b"new"


def test_a_live_subscriber_gets_it_without_the_flag(gateway):
    with gateway.client("five") as five, gateway.client("three", V311) as three:
        five.subscribe(("t", 1))
        three.subscribe(("t", 1))
        retain(gateway, "t", "x")
        assert not five.take("x").retain
        assert not three.take("x").retain


def test_with_retain_as_published_the_flag_is_the_publishers(gateway):
    with gateway.client("to") as to, gateway.client("from") as sender:
        to.subscribe(("t", 1 | RETAIN_AS_PUBLISHED))
        for flag in (True, False, True):
            sender.publish_acked("t", str(flag), 1, retain=flag)
            assert to.take(str(flag)).retain == flag
        sender.publish("t", "q0", retain=True)
        assert to.take("q0", qos=0).retain


def test_with_overlapping_subscriptions_one_that_asks_for_the_flag_has_it(gateway):
    with gateway.client("to") as to:
        to.subscribe(("t", 1), ("#", 1 | RETAIN_AS_PUBLISHED))
        retain(gateway, "t", "x")
        assert to.take("x").retain
        to.expect_silence(0.1)


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_retained_messages_come_with_the_lower_qos(gateway, granted):
    for qos in (0, 1, 2):
        retain(gateway, f"t/{qos}", "x", qos)
    got = retained(gateway, ("t/+", granted), count=3)
    assert {m.qos for m in got.values()} == {min(granted, q) for q in (0, 1, 2)}
    assert all(m.qos == min(granted, int(topic[-1])) and m.retain for topic, m in got.items())


def test_wildcards_find_what_the_standard_says(gateway):
    topics = ["a", "a/", "a/b", "a/b/c", "/a", "/", "b", "$x/y", "$a/b", "ä/ö"]
    for topic in topics:
        retain(gateway, topic, topic)
    cases = {"a": ["a"], "a/#": ["a", "a/", "a/b", "a/b/c"], "+": ["a", "b"], "+/+": ["a/", "a/b", "/a", "/", "ä/ö"],
             "a/+": ["a/", "a/b"], "/+": ["/a", "/"], "#": [t for t in topics if t[0] != "$"], "$a/#": ["$a/b"],
             "+/b/#": ["a/b", "a/b/c"], "none/#": [], "a/+/+": ["a/b/c"]}
    for topic_filter, expected in cases.items():
        assert sorted(retained(gateway, topic_filter)) == sorted(expected), topic_filter


def retain_many(gateway, count):
    with gateway.client("from") as sender:
        for base in range(0, count, 10):
            ids = range(base, base + 10)
            sender.send(b"".join(mqtt.publish(V5, f"many/{i % 7}/{i}", str(i), qos=1, packet_id=1 + i, retain=True)
                                 for i in ids))
            for i in ids:
                sender.expect_ack(mqtt.PUBACK, 1 + i)


def test_many_retained_messages_come_all_once(gateway):
    count = 3000
    retain_many(gateway, count)
    with gateway.client("to", props={"receive_max": 7}) as to:
        to.subscribe(("#", 1))
        got = to.take_all(count, timeout=60)
        assert len({m.topic for m in got}) == count
        assert all(m.topic.endswith("/" + m.payload.decode()) and m.retain for m in got)
        to.expect_silence(0.1)
    with gateway.client("q0") as to:
        to.subscribe(("many/3/#", 0))
        assert len({m.topic for m in to.take_all(len(range(3, count, 7)))}) == len(range(3, count, 7))


def test_several_filters_in_one_subscribe_bring_what_each_finds(gateway):
    for topic in ("a", "b", "c"):
        retain(gateway, topic, topic)
    got = retained(gateway, ("a", 1), ("b", 1), ("none", 1), count=2)
    assert sorted(got) == ["a", "b"]


def test_subscribing_again_brings_it_again(gateway):
    retain(gateway, "t", "x")
    for version in VERSIONS:
        with gateway.client("to", version) as to:
            for packet_id in (1, 2, 3):
                to.subscribe(("t", 1), packet_id=packet_id)
                assert to.take("x").retain


def test_retain_handling(gateway):
    retain(gateway, "t", "x")
    with gateway.client("to", **session()) as to:
        to.subscribe(("t", 1 | RETAINED_NEVER))
        to.expect_silence(0.2)
        to.subscribe(("t", 1 | RETAINED_IF_NEW))  # exists already
        to.expect_silence(0.2)
        to.subscribe(("t", 1))
        assert to.take("x").retain
        to.unsubscribe("t")
        to.subscribe(("t", 1 | RETAINED_IF_NEW))
        assert to.take("x").retain
        to.subscribe(("t", 2 | RETAINED_IF_NEW))  # another QoS: still the same subscription
        to.expect_silence(0.2)
    with gateway.client("to", **session()) as to:
        assert to.connack.session_present == 1
        to.subscribe(("t", 1 | RETAINED_IF_NEW))  # exists since the last connection
        to.expect_silence(0.2)
        to.subscribe(("t", 1))
        assert to.take("x").retain


def test_each_filter_has_its_own_retain_handling(gateway):
    for topic in ("a", "b", "c"):
        retain(gateway, topic, topic)
    with gateway.client("to") as to:
        to.subscribe(("a", 1), ("b", 1 | RETAINED_NEVER), ("c", 1 | RETAINED_IF_NEW))
        assert sorted(m.topic for m in to.take_all(2)) == ["a", "c"]
        to.expect_silence(0.2)


def test_a_resumed_session_is_not_given_retained_messages_again(gateway):
    with gateway.client("to", **session()) as to:
        to.subscribe(("t", 1))
    retain(gateway, "t", "new")
    with gateway.client("to", **session()) as to:
        assert not to.take("new").retain  # as a message that was missed, once
        to.expect_silence(0.2)


def test_retained_messages_carry_their_properties_and_the_identifier(gateway):
    props = {"payload_format": 1, "content_type": "text/plain", "response_topic": "r", "correlation_data": b"\1",
             "user": [("b", "1"), ("a", "2"), ("b", "3")]}
    retain(gateway, "t", "x", props=props)
    message = retained(gateway, ("t", 1), count=1, props={"subscription_id": 7})["t"]
    assert message.props == {**props, "subscription_id": [7]}


def test_the_publishers_own_retained_message_comes_in_spite_of_no_local_or_not_at_all(gateway):
    """The standard leaves open what No Local says about retained messages; it must not hide other people's."""
    retain(gateway, "theirs", "x")
    with gateway.client("me") as me:
        me.publish_acked("mine", "x", 1, retain=True)
        me.subscribe(("#", 1 | NO_LOCAL))
        got = {me.take("x").topic}
        try:
            got.add(me.take("x", timeout=0.3).topic)
        except mqtt.Silence:
            pass
        assert got in ({"theirs"}, {"theirs", "mine"})


def test_a_retained_message_expires(gateway):
    retain(gateway, "short", "x", props={"message_expiry": 1})
    retain(gateway, "long", "x", props={"message_expiry": 100})
    time.sleep(2.2)
    got = retained(gateway, ("#", 1), count=1)
    assert 90 <= got["long"].props["message_expiry"] <= 98


def test_retained_messages_with_qos_are_acknowledged_within_the_window(gateway):
    for i in range(6):
        retain(gateway, f"t/{i}", "x", qos=2)
    with gateway.client("to", props={"receive_max": 2}) as to:
        to.subscribe(("t/#", 2))
        first = [to.expect_publish(), to.expect_publish()]
        to.expect_silence(0.2)
        to.acknowledge(first[0])
        third = to.expect_publish()
        to.expect_silence(0.1)
        for message in (first[1], third):
            to.ack(mqtt.PUBREC, message.packet_id)
            to.expect_ack(mqtt.PUBREL, message.packet_id)
        for message in (first[1], third):
            to.ack(mqtt.PUBCOMP, message.packet_id)
        assert len({m.topic for m in [*first, third, *to.take_all(3)]}) == 6


def test_a_retained_message_that_was_not_acknowledged_comes_again(gateway):
    retain(gateway, "t", "x", qos=1)
    to = gateway.client("to", **session())
    to.subscribe(("t", 1))
    first = to.expect_publish("x")
    to.close()
    with gateway.client("to", **session()) as to:
        again = to.take("x")
        assert again.dup and again.packet_id == first.packet_id
        to.ping()
    with gateway.client("to", **session()) as to:
        to.expect_silence(0.2)


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_that_were_not_sent_yet_come_after_a_reset(gateway, version):
    count, acknowledged = 3000, []
    options = session() if version == V5 else {"clean": False}
    retain_many(gateway, count)
    to = gateway.client("to", version, **options)
    to.subscribe(("many/#", 1))
    for n in (500, 0, 800):
        acknowledged += [to.acknowledge(to.expect_publish()).topic for _ in range(n)]
        to.send(mqtt.PING)
        while to.recv().type != mqtt.PINGRESP:
            pass  # what comes before it is not acknowledged any more
        to.abort()
        to = gateway.client("to", version, **options)
        assert to.connack.session_present == 1
    acknowledged += [m.topic for m in to.take_all(count - len(acknowledged), timeout=60)]
    assert len(acknowledged) == len(set(acknowledged)) == count
    to.expect_silence(0.2)
    to.close()
    with gateway.client("to", version, **options) as to:
        to.expect_silence(0.2)


def test_subscribers_in_all_workers_find_what_any_worker_took(start):
    gateway = start(workers=2)
    for n in range(2):
        with gateway.client_on(n, f"from-{n}") as sender:
            sender.publish_acked(f"t/{n}", "x", 1, retain=True)
    for n in range(2):
        with gateway.client_on(n, f"to-{n}") as to:
            to.subscribe(("t/#", 1))
            assert sorted(m.topic for m in to.take_all(2)) == ["t/0", "t/1"]


def test_pushes_over_http_may_be_retained(gateway):
    gateway.publish("t", "state", qos=1, retain=True)
    gateway.publish("u", "state", qos=0, retain=True)
    got = retained(gateway, ("#", 1), count=2)
    assert got["t"].qos == 1 and got["u"].qos == 0 and all(m.retain for m in got.values())
    gateway.publish("t", "", qos=1, retain=True)
    assert list(retained(gateway, "#", count=1)) == ["u"]


@pytest.mark.parametrize("death", ["hub", "worker", "stop", "kill"])
def test_retained_messages_survive(start, gateway, death):
    for qos in (0, 1, 2):
        retain(gateway, f"t/{qos}", "old", qos)
        retain(gateway, f"t/{qos}", f"new {qos}", qos)
    retain(gateway, "cleared", "x")
    retain(gateway, "cleared", "")
    retain(gateway, "end", "x")
    if death in ("hub", "worker"):
        name = "hf-hub" if death == "hub" else "hf-worker-0"
        gateway.wait_successor(name, gateway.kill_child(name))
    else:
        gateway.stop(sig=signal.SIGTERM) if death == "stop" else gateway.kill_all()
        gateway = start(data_dir=gateway.data_dir)
    got = retained(gateway, ("#", 2), count=4)
    assert {t: (m.payload.decode(), m.qos) for t, m in got.items()} == {
        "t/0": ("new 0", 0), "t/1": ("new 1", 1), "t/2": ("new 2", 2), "end": ("x", 1)}


def test_retained_messages_can_be_switched_off(start):
    gateway = start(mqtt="retain = false")
    with gateway.client("five") as five:
        assert five.connack.props["retain_available"] == 0
        five.publish("t", "x", retain=True)
        five.expect_disconnect(0x9A)
    with mqtt.Client(gateway.mqtt, "will", connect=False) as client:
        client.send(mqtt.connect(V5, "will", will=("t", "m", 0, True, None)))
        said = client.expect_closed()
        assert [p.code for p in said] == [0x9A]
    with gateway.client("three", V311) as three, gateway.client("to", V311) as to:
        to.subscribe(("t", 1))
        three.publish_acked("t", "x", 1, retain=True)
        assert not to.take("x").retain
    with gateway.client("late") as late:
        late.subscribe("#")
        late.expect_silence()
