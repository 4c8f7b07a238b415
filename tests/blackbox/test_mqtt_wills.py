"""Wills: when they are published, when not, and with what."""

import signal
import time

import pytest

import mqtt_raw as mqtt
from conftest import session
from mqtt_raw import V311, V5, Client

VERSIONS = [V311, V5]


@pytest.fixture
def watcher(gateway):
    """Hears all wills, with the retain flag as it was published."""
    with gateway.client("watcher") as client:
        client.subscribe(("wills/#", 2 | mqtt.RETAIN_AS_PUBLISHED))
        yield client


def test_the_watcher_of_this_file_hears_what_it_should(gateway, watcher):
    gateway.publish("wills/x", "y", qos=1)
    watcher.take("y", "wills/x", qos=1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_will_is_published_with_its_qos_when_the_connection_breaks(gateway, watcher, version, qos, how):
    client = gateway.client("c", version, will=("wills/c", b"gone \x00\xff", qos, False, None))
    client.ping()
    getattr(client, how)()
    message = watcher.take(b"gone \x00\xff", "wills/c", qos=qos)
    assert not message.retain
    watcher.expect_silence(0.1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_dropped_by_disconnect(gateway, watcher, version):
    gateway.client("c", version, will=("wills/c", "gone", 1, False, None)).leave()
    watcher.expect_silence()
    gateway.client("c", version).close()  # and the next connection without a will has none
    watcher.expect_silence()


@pytest.mark.parametrize("code", [0x04, 0x80, 0x82, 0x83, 0x97])
def test_disconnect_with_any_other_reason_than_0_publishes_the_will(gateway, watcher, code):
    client = gateway.client("c", will=("wills/c", "gone", 1, False, None))
    client.leave(code)
    watcher.take("gone")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_protocol_error_publishes_the_will(gateway, watcher, version):
    client = gateway.client("c", version, will=("wills/c", "gone", 1, False, None))
    client.send(mqtt.connect(version, "c"))
    client.expect_disconnect(0x82)
    watcher.take("gone")


@pytest.mark.parametrize("version", VERSIONS)
def test_silence_beyond_the_keepalive_publishes_the_will(gateway, watcher, version):
    client = gateway.client("c", version, keepalive=1, will=("wills/c", "silent", 1, False, None))
    watcher.take("silent", timeout=10)
    client.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_may_be_retained(gateway, watcher, version, qos):
    client = gateway.client("c", version, will=("wills/c", "gone", qos, True, None))
    client.abort()
    assert watcher.take("gone", qos=qos).retain
    with gateway.client("late") as late:
        late.subscribe(("wills/c", 2))
        message = late.take("gone", qos=qos)
        assert message.retain


def test_an_empty_retained_will_clears(gateway, watcher):
    gateway.publish("wills/c", "state", qos=1, retain=True)
    watcher.take("state")
    gateway.client("c", will=("wills/c", "", 1, True, None)).abort()
    watcher.take("")
    with gateway.client("late") as late:
        late.subscribe(("wills/c", 1))
        late.expect_silence()


def test_the_properties_of_a_will_are_published_with_it(gateway, watcher):
    props = {"payload_format": 1, "content_type": "text/plain", "response_topic": "answers", "correlation_data": b"\0\1",
             "user": [("b", "1"), ("a", "2"), ("b", "3")]}
    with gateway.client("old", V311) as old:
        old.subscribe(("wills/c", 1))
        gateway.client("c", will=("wills/c", "gone", 1, False, {**props, "message_expiry": 100, "will_delay": 0})).abort()
        found = watcher.take("gone").props
        assert 95 <= found.pop("message_expiry") <= 100
        assert found == props
        old.take("gone")


def test_wills_of_clients_of_a_stopped_gateway_are_published(start):
    """DISCONNECT 0x8B is the server's; the client has not taken its will back."""
    gateway = start()
    with gateway.client("watcher", **session()) as client:
        client.subscribe(("wills/#", 1))
    client = gateway.client("c", will=("wills/c", "gone", 1, False, None))
    gateway.stop(sig=signal.SIGTERM)
    client.close()
    gateway = start(data_dir=gateway.data_dir)
    with gateway.client("watcher", **session()) as client:
        assert client.connack.session_present == 1
        client.take("gone")


@pytest.mark.parametrize("version", VERSIONS)
def test_takeover_publishes_the_will_of_the_old_connection(gateway, watcher, version):
    old = gateway.client("c", version, will=("wills/c", "old", 1, False, None))
    new = gateway.client("c", version, will=("wills/c", "new", 1, False, None))
    old.expect_disconnect(0x8E)
    watcher.take("old")
    watcher.expect_silence(0.2)
    new.abort()
    watcher.take("new")


def test_a_will_goes_out_while_its_session_stays(gateway, watcher):
    client = gateway.client("c", **session(), will=("wills/c", "gone", 1, False, None))
    client.subscribe(("t", 1))
    client.abort()
    watcher.take("gone")
    gateway.publish("t", "x", qos=1)
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 1
        client.take("x")
    watcher.expect_silence(0.2)  # the new connection had no will


@pytest.mark.parametrize("version", VERSIONS)
def test_a_kept_session_without_delay_publishes_its_will_at_once_in_311_too(gateway, watcher, version):
    options = session() if version == V5 else {"clean": False}
    gateway.client("c", version, **options, will=("wills/c", "gone", 1, False, None)).abort()
    watcher.take("gone")


# ---- delay

def delayed(seconds, payload="late", topic="wills/c", **props):
    return (topic, payload, 1, False, {"will_delay": seconds, **props})


def test_a_delayed_will_waits(gateway, watcher):
    begin = time.monotonic()
    gateway.client("c", **session(), will=delayed(2)).abort()
    watcher.expect_silence(1)
    watcher.take("late", timeout=10)
    assert time.monotonic() - begin >= 1.9


def test_a_reconnect_in_time_cancels_a_delayed_will(gateway, watcher):
    gateway.client("c", **session(), will=delayed(2)).abort()
    watcher.expect_silence(0.5)
    client = gateway.client("c", **session(), will=delayed(1, "the second one's"))
    assert client.connack.session_present == 1
    watcher.expect_silence(3)
    client.abort()
    watcher.take("the second one's", timeout=10)


def test_a_takeover_in_time_cancels_a_delayed_will(gateway, watcher):
    old = gateway.client("c", **session(), will=delayed(1))
    new = gateway.client("c", **session())
    old.expect_disconnect(0x8E)
    watcher.expect_silence(2.5)
    new.leave()
    watcher.expect_silence(0.3)


def test_the_end_of_the_session_publishes_a_delayed_will(gateway, watcher):
    """A clean start, an expiry interval of 0, and expiry before the delay is over: whatever is first."""
    gateway.client("c", **session(), will=delayed(100, "clean start")).abort()
    watcher.expect_silence(0.3)
    with gateway.client("c", clean=True):
        watcher.take("clean start")
    gateway.client("c", clean=True, will=delayed(100, "no session")).abort()
    watcher.take("no session")
    gateway.client("c", **session(1), will=delayed(100, "expired")).abort()
    watcher.expect_silence(0.3)
    watcher.take("expired", timeout=10)
    watcher.expect_silence(0.1)


def test_disconnect_drops_a_delayed_will(gateway, watcher):
    gateway.client("c", **session(), will=delayed(1)).leave()
    watcher.expect_silence(2.5)


def test_disconnect_with_will_message_delays_it_too(gateway, watcher):
    gateway.client("c", **session(), will=delayed(1)).leave(0x04)
    watcher.expect_silence(0.5)
    watcher.take("late", timeout=10)


def test_the_expiry_of_a_delayed_will_runs_from_its_publication(gateway, watcher):
    gateway.client("c", **session(), will=delayed(2, message_expiry=1)).abort()
    assert watcher.take("late", timeout=10).props["message_expiry"] == 1


@pytest.mark.parametrize("death", ["worker", "hub", "stop", "kill"])
def test_a_delayed_will_survives(gateway, start, death):
    with gateway.client("watcher", **session()) as watcher:
        watcher.subscribe(("wills/#", 1))
    gateway.client("c", **session(), will=delayed(3)).abort()
    gateway.wait_metric("holdfast_connections", 0)
    # The hub has it as soon as the next connection of another client has been answered.
    gateway.client("other", **session()).leave()
    if death in ("hub", "worker"):
        name = "hf-hub" if death == "hub" else "hf-worker-0"
        gateway.wait_successor(name, gateway.kill_child(name))
    else:
        gateway.stop() if death == "stop" else gateway.kill_all()
        gateway = start(data_dir=gateway.data_dir)
    with gateway.client("watcher", **session()) as watcher:
        watcher.take("late", timeout=15)
        watcher.expect_silence(0.2)


@pytest.mark.parametrize("hub_dies", [False, True], ids=["worker", "hub-then-worker"])
def test_wills_of_a_killed_workers_clients_are_published(gateway, hub_dies):
    """[MQTT-3.1.2-8]: the hub has been told of them, also one that came later."""
    with gateway.client("watcher", **session()) as watcher:
        watcher.subscribe(("wills/#", 1))
    clients = [gateway.client("clean", V311, will=("wills/clean", "gone", 0, False, None)),
               gateway.client("kept", **session(), will=("wills/kept", "gone", 1, False, None)),
               gateway.client("waits", **session(), will=delayed(2, topic="wills/waits")),
               gateway.client("returns", **session(), will=delayed(2, topic="wills/returns")),
               gateway.client("left", V311, will=("wills/left", "gone", 1, False, None))]
    clients.pop().leave()
    gateway.wait_metric("holdfast_hub_wills", 4)
    if hub_dies:
        gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
        gateway.wait_metric("holdfast_hub_wills", 4)
    gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
    clients.append(gateway.client("returns", **session()))
    with gateway.client("watcher", **session()) as watcher:
        assert [m.topic for m in watcher.take_all(2)] == ["wills/kept", "wills/waits"]
        watcher.expect_silence(1.5)
    gateway.wait_metric("holdfast_wills_left_total", 4)
    gateway.wait_metric("holdfast_hub_wills", 0)
    for client in clients:
        client.close()


def test_a_clean_clients_will_is_heard_when_its_worker_is_killed(start):
    gateway = start(workers=2)
    with gateway.client_on(0, "watcher") as watcher, gateway.client_on(1, "c", will=("wills/c", "gone", 0, False, None)):
        watcher.subscribe(("wills/#", 0))
        gateway.wait_metric("holdfast_hub_wills", 1)
        gateway.kill_child("hf-worker-1")
        watcher.take("gone", "wills/c")
        watcher.expect_silence(0.2)


def test_a_delayed_will_is_cancelled_after_a_restart_too(gateway, start):
    gateway.client("c", **session(), will=delayed(3)).abort()
    gateway.wait_metric("holdfast_connections", 0)
    gateway.client("other", **session()).leave()
    gateway.kill_all()
    gateway = start(data_dir=gateway.data_dir)
    with gateway.client("watcher") as watcher, gateway.client("c", **session()) as client:
        watcher.subscribe(("wills/#", 1))
        assert client.connack.session_present == 1
        watcher.expect_silence(4.5)


# ---- what may not be

@pytest.mark.parametrize("topic", ["wills/#", "wills/+", ""])
def test_a_will_to_something_that_is_no_topic_is_refused(gateway, topic):
    with Client(gateway.mqtt, "c", connect=False) as client:
        client.send(mqtt.connect(V5, "c", will=(topic, "x", 0, False, None)))
        said = client.expect_closed()
        assert [p.type for p in said] == [mqtt.CONNACK] and said[0].code in (0x81, 0x82, 0x90)
    with Client(gateway.mqtt, "c", V311, connect=False) as client:
        client.send(mqtt.connect(V311, "c", will=(topic, "x", 0, False, None)))
        assert all(p.type == mqtt.CONNACK and p.code for p in client.expect_closed())


def test_no_local_does_not_hide_a_clients_will_from_its_next_connection(gateway):
    """A will is published by the server on behalf of a connection that is gone; the session was subscribed all the time."""
    client = gateway.client("c", **session(), will=("wills/c", "gone", 1, False, None))
    client.subscribe(("wills/#", 1))
    client.abort()
    with gateway.client("c", **session()) as client:
        client.take("gone")
