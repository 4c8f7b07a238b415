"""$SYS: figures under the names that monitoring tools read."""

import re

import pytest

import mqtt_raw as mqtt
from conftest import wait_for
from mqtt_raw import V311, V5

# What mosquitto's exporters, EMQX's and others' dashboards ask for.
TEXTS = ["version"]
NUMBERS = ["clients/connected", "clients/total", "clients/disconnected", "clients/maximum", "messages/received",
           "messages/sent", "messages/stored", "publish/messages/received", "publish/messages/sent",
           "publish/messages/dropped", "bytes/received", "bytes/sent", "subscriptions/count", "retained messages/count"]
WAIT = 30  # seconds: they are refreshed every so often


class Watcher:
    """A client that hears $SYS/broker/# and knows the newest value of each topic."""

    def __init__(self, client):
        self.client, self.values, self.retained = client, {}, {}
        client.subscribe(("$SYS/broker/#", 0))

    def __getitem__(self, name):
        return self.values.get("$SYS/broker/" + name)

    def listen(self, seconds=0.2):
        try:
            while True:
                message = self.client.expect_publish(timeout=seconds)
                self.retained.setdefault(message.topic, message.retain)
                self.values[message.topic] = message.payload.decode()
        except mqtt.Silence:
            return self.values

    def wait(self, name, good):
        """Waits until a figure is as it should be."""
        def look():
            self.listen()
            return self[name] is not None and good(float(self[name]))
        wait_for(look, f"$SYS/broker/{name}", WAIT)


@pytest.fixture
def watcher(gateway):
    with gateway.client("watcher", V311, keepalive=0) as client:
        yield Watcher(client)


def test_the_usual_names_are_there(watcher):
    def missing():
        watcher.listen()
        return [name for name in NUMBERS + TEXTS if watcher[name] is None]
    try:
        wait_for(lambda: not missing(), "all figures", WAIT)
    finally:
        print("missing:", missing())
    assert all(float(watcher[name]) >= 0 for name in NUMBERS)
    assert re.match(r"\d+( seconds)?$", watcher["uptime"])


def test_a_new_subscriber_has_them_at_once(gateway, watcher):
    wait_for(lambda: len(watcher.listen()) >= len(NUMBERS), "the first figures", WAIT)
    with gateway.client("late") as late:
        late.subscribe(("$SYS/broker/version", 0))
        message = late.expect_publish(topic="$SYS/broker/version")
        assert message.retain and message.payload.decode() == watcher["version"]
        late.expect_silence(0.1)


def test_loads_are_there_for_1_5_and_15_minutes(watcher):
    def look():
        watcher.listen()
        return all(watcher[f"load/messages/received/{n}min"] is not None for n in (1, 5, 15))
    wait_for(look, "load figures", WAIT)
    for what in ("messages/received", "messages/sent", "publish/received", "publish/sent", "bytes/received", "bytes/sent",
                 "connections", "sockets"):
        for minutes in (1, 5, 15):
            name = f"load/{what}/{minutes}min"
            assert watcher[name] is not None and float(watcher[name]) >= 0, f"{name}: {watcher.values}"


def test_the_figures_follow_what_happens(gateway, watcher):
    watcher.wait("clients/connected", lambda n: n == 1)
    with gateway.client("a") as a, gateway.client("b") as b:
        b.subscribe(("t", 1), ("u", 1))
        a.publish_acked("t", "state", 1, retain=True)
        b.take("state")
        watcher.wait("clients/connected", lambda n: n == 3)
        watcher.wait("subscriptions/count", lambda n: n >= 3)
        watcher.wait("publish/messages/received", lambda n: n >= 1)
        watcher.wait("bytes/received", lambda n: n > 0)
        watcher.wait("retained messages/count", lambda n: n >= 1)
    watcher.wait("clients/connected", lambda n: n == 1)


def test_clients_cannot_write_there(gateway, watcher):
    """A refusal of any kind will do: what counts is that nobody is lied to."""
    wait_for(lambda: watcher.listen() and watcher["version"], "the version", WAIT)
    version = watcher["version"]
    with gateway.client("liar") as liar:
        liar.publish("$SYS/broker/version", "mine", qos=1, retain=True)
        try:
            answer = liar.recv()
            assert answer.code >= 0x80, answer
        except mqtt.Closed:
            pass
    with gateway.client("late", V5) as late:
        late.subscribe(("$SYS/broker/version", 0))
        assert late.expect_publish(topic="$SYS/broker/version").payload.decode() == version


def test_a_wildcard_at_the_beginning_does_not_bring_them(gateway, watcher):
    wait_for(lambda: len(watcher.listen()) >= 5, "the first figures", WAIT)
    with gateway.client("all") as client:
        client.subscribe(("#", 0), ("+/broker/version", 0))
        client.expect_silence(0.5)
