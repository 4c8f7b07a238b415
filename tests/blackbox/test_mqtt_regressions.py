"""Mistakes that were made once, each with the smallest test that shows it."""

import contextlib
import time

import pytest

import mqtt_raw as mqtt
from conftest import session, wait_for
from mqtt_raw import PUBACK, PUBLISH, PUBREC, SUBACK, V311, V5, Closed, Silence

VERSIONS = [V311, V5]


def everything(client, seconds=0.5):
    """All packets that come until nothing does for a while."""
    found = []
    with contextlib.suppress(Silence, Closed):
        while True:
            found.append(client.recv(seconds))
    return found


def fill_log(gateway):
    """Publishes until all is refused for longer than it takes the gateway to look for room again."""
    for size in (200000, 20000):
        refused_since = []

        def fill(n=size, since=refused_since):
            if gateway.http("POST", "/v1/publish", {"topic": "fill", "payload": "x" * n, "qos": 1}).status == 200:
                since.clear()
            elif not since:
                since.append(time.monotonic())
            return since and time.monotonic() - since[0] > 2.5
        wait_for(fill, "publishes that are refused", 60)


# ---- publishes that are refused

@pytest.mark.parametrize("version", VERSIONS)
def test_a_publish_of_qos_2_that_was_refused_is_not_taken_for_a_duplicate(start, version):
    """The answers come when the connection has ended: because of the first of them, or since the client has left."""
    gateway = start(top="log { max_file = 16M  max_size = 0  reserve = 1M }")
    kept = session() if version == V5 else {"clean": False}
    fill_log(gateway)
    client = gateway.client("c", version, **kept)
    client.send(b"".join(mqtt.publish(version, "t", b"%d" % i * 100000, qos=2, packet_id=i) for i in range(1, 6)) +
                (mqtt.disconnect() if version == V5 else b""))
    said = client.expect_closed()  # some may be answered before the end
    assert version == V5 or not said
    assert all((a.type, a.code) == (PUBREC, 0x97) for a in said), said
    for i in range(1, 6):
        with gateway.client("c", version, **kept) as again:
            again.publish("t", b"%d" % i * 100000, qos=2, packet_id=i, dup=True)
            answers = everything(again)
            assert [(a.type, a.code) for a in answers] == ([(PUBREC, 0x97)] if version == V5 else []), answers


# ---- wills

def test_the_expiry_of_a_will_runs_from_its_publication(gateway):
    with gateway.client("watcher") as watcher:
        watcher.subscribe(("wills/#", 1))
        client = gateway.client("c", will=("wills/c", "gone", 1, False, {"message_expiry": 1}))
        time.sleep(1.5)
        client.abort()
        watcher.expect_publish("gone")


# ---- what is in flight

def test_a_retained_message_in_flight_beside_others_is_sent_again(gateway):
    gateway.publish("r", "retained", qos=1, retain=True)
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    gateway.publish("t", "first", qos=1)
    client.expect_publish("first")
    gateway.publish("r", "newer", qos=1, retain=True)
    client.subscribe(("r", 1), packet_id=2)
    client.expect_publish("newer")
    client.abort()
    again = gateway.client("c", **session())
    assert sorted(p.payload for p in everything(again)) == [b"first", b"newer"]


def test_a_retained_message_in_flight_without_a_subscription_any_more_is_given_up(gateway):
    gateway.publish("r", "retained", qos=1, retain=True)
    client = gateway.client("c", **session())
    client.subscribe(("r", 1))
    client.expect_publish("retained")
    client.unsubscribe("r")
    client.abort()
    with gateway.client("c", **session()) as again:
        assert everything(again) == []
        wait_for(lambda: gateway.http("GET", "/v1/clients/c").json.get("inflight", 0) == 0, "nothing in flight")


def test_a_subscription_made_again_and_again_brings_its_retained_messages_once_more(gateway):
    """The client takes no more of them meanwhile, so that all of that waits."""
    for i in range(3):
        gateway.publish(f"r/{i}", "x", qos=1, retain=True)
    with gateway.client("c", props={"receive_max": 1}) as client:
        client.send(b"".join(mqtt.subscribe(V5, [("r/#", 1)], packet_id=i) for i in range(1, 101)))
        got = everything(client)
        assert [p.packet_id for p in got if p.type == SUBACK] == list(range(1, 101))
        topics = []
        for message in [p for p in got if p.type == PUBLISH]:
            while message:
                topics.append(message.topic)
                client.ack(PUBACK, message.packet_id)
                message = next(iter(everything(client, 0.2)), None)
        assert topics[-3:] == ["r/0", "r/1", "r/2"] and len(topics) <= 6, topics


# ---- sync = interval

def test_a_session_is_resumed_long_before_the_log_is_written(start):
    gateway = start(top='log { sync = "interval"  sync_interval = 10m }')
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    gateway.publish("t", "x", qos=1)
    with gateway.client("c", **session()) as again:
        assert again.connack.session_present
        again.expect_publish("x")
