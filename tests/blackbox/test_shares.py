"""Shared subscriptions over what dies: the hub, a worker, everything; and who gets how much."""

import collections
import signal
import threading

import pytest

import mqtt_raw as mqtt
from conftest import session, wait_for
from mqtt_raw import V311, V5

GROUP = "$share/g/t"


def publish_all(gateway, payloads, topic="t", qos=1):
    with gateway.client("") as sender:
        for i, payload in enumerate(payloads):
            sender.publish_acked(topic, str(payload), qos, 1 + i % 60000)


def numbers(messages):
    return sorted(int(m.payload) for m in messages)


def drain(client, found, wanted, seconds=0.1):
    """Takes what comes until all `wanted` payloads have been seen."""
    def one_round():
        try:
            while True:
                found.append(client.take(timeout=seconds))
        except mqtt.Silence:
            return wanted <= {int(m.payload) for m in found}
    wait_for(one_round, f"{len(wanted)} messages")


def kill_hub(gateway):
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
    wait_for(lambda: gateway.http("GET", "/readyz").status == 200, "the next hub")


class Reader(threading.Thread):
    """A member that takes whatever comes."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.found, self.stopping = client, [], False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                self.found.append(self.client.take(timeout=0.2))
            except mqtt.Silence:
                pass

    def stop(self):
        self.stopping = True
        self.join()
        return self.found


def test_members_that_take_what_comes_get_the_same_number(start):
    gateway = start(workers=2)
    clients = [gateway.client_on(n % 2, f"member-{n}") for n in range(4)]
    for client in clients:
        client.subscribe((GROUP, 1))
    readers = [Reader(client) for client in clients]
    publish_all(gateway, range(400))
    wait_for(lambda: sum(len(r.found) for r in readers) == 400, "all messages")
    shares = [len(r.stop()) for r in readers]
    assert sum(shares) == 400 and all(80 <= n <= 120 for n in shares), shares
    assert numbers(m for r in readers for m in r.found) == list(range(400))


@pytest.mark.parametrize("version", [V311, V5])
def test_a_member_gets_its_messages_in_order(gateway, version):
    with gateway.client("c", version) as client:
        client.subscribe((GROUP, 1))
        publish_all(gateway, range(200))
        assert [int(m.payload) for m in client.take_all(200)] == list(range(200))


def test_a_new_hub_gives_again_what_was_not_acknowledged(gateway):
    with gateway.client("c") as client:
        client.subscribe((GROUP, 1))
        publish_all(gateway, range(100))
        first = [client.take() for _ in range(10)]
        kill_hub(gateway)
        publish_all(gateway, range(100, 120))
        drain(client, first, set(range(120)))


def test_who_had_a_message_gets_it_again_with_dup(gateway):
    """MQTT-3.3.1-1, MQTT-4.3.2-2: a repetition for who had it, a new message for another member."""
    client = gateway.client("c", **session())
    client.subscribe((GROUP, 1))
    publish_all(gateway, ["again", "given away"])
    had = [client.expect_publish() for _ in range(2)]
    assert [m.dup for m in had] == [0, 0]
    client.close()
    with gateway.client("c", **session()) as client:
        repeated = client.expect_publish()
        assert (repeated.payload, repeated.dup, repeated.packet_id) == (b"again", 1, had[0].packet_id)
        client.ack(mqtt.PUBACK, repeated.packet_id)
        assert client.expect_publish().dup == 1
    with gateway.client("other") as other:
        other.send(mqtt.subscribe(V5, [(GROUP, 1)]))
        given = next(m for m in (other.recv(5) for _ in range(2)) if m.type == mqtt.PUBLISH)  # before or after SUBACK
        assert (given.payload, given.dup) == (b"given away", 0)


def test_a_lost_worker_leaves_its_messages_to_the_others(start):
    gateway = start(workers=2)
    with gateway.client_on(0, "lost") as lost, gateway.client_on(1, "stays") as stays:
        lost.subscribe((GROUP, 1))
        stays.subscribe((GROUP, 1))
        publish_all(gateway, range(40))
        held = [lost.expect_publish() for _ in range(20)]
        gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
        found = []
        drain(stays, found, set(range(40)))
        assert len(found) == 40 and len(held) == 20


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_group_that_sleeps_outlives_the_gateway(start, sig):
    gateway = start()
    with gateway.client("c", **session()) as client:
        client.subscribe((GROUP, 1))
        publish_all(gateway, range(5))
        client.take()
        if sig == signal.SIGTERM:
            client.abort()
    if sig == signal.SIGTERM:
        publish_all(gateway, range(5, 10))
        gateway.stop()
    else:
        gateway.kill_all()
    again = start(data_dir=gateway.data_dir)
    publish_all(again, range(10, 15))
    with again.client("c", **session()) as client:
        assert client.connack.session_present == 1
        found = []
        wanted = set(range(1, 15)) if sig == signal.SIGTERM else set(range(1, 5)) | set(range(10, 15))
        drain(client, found, wanted)


def test_a_group_of_sessions_that_were_not_kept_does_not_outlive_the_gateway(start):
    gateway = start()
    client = gateway.client("c")
    client.subscribe((GROUP, 1))
    publish_all(gateway, range(5))
    gateway.kill_all()
    client.close()
    again = start(data_dir=gateway.data_dir)
    wait_for(lambda: again.http("GET", "/readyz").status == 200, "the hub")
    wait_for(lambda: int(again.metric("holdfast_sessions_stored")) == 0, "the end of the group")
    with again.client("c") as client:
        client.subscribe((GROUP, 1))
        client.expect_silence(0.2)
        publish_all(again, [7])
        client.take("7")


def test_a_slow_member_does_not_hold_up_the_others(gateway):
    with gateway.client("slow") as slow, gateway.client("quick") as quick:
        slow.subscribe((GROUP, 1))
        quick.subscribe((GROUP, 1))
        reader = Reader(quick)
        publish_all(gateway, range(300))
        wait_for(lambda: len(reader.found) >= 300 - 32, "what the slow one does not have")
        slow.abort()
        wait_for(lambda: len(reader.found) == 300, "the rest")
        assert numbers(reader.stop()) == list(range(300))


def test_a_member_that_takes_one_at_a_time(gateway):
    with gateway.client("c", props={"receive_max": 1}) as client:
        client.subscribe((GROUP, 1))
        publish_all(gateway, range(50))
        found = []
        drain(client, found, set(range(50)))
        assert len(found) == 50


def test_groups_are_counted_and_not_listed(start):
    gateway = start()
    with gateway.client("c", **session()) as c, gateway.client("d") as d:
        for client in (c, d):
            client.subscribe((GROUP, 1), ("$share/h/+/x", 1))
        assert gateway.metric("holdfast_share_groups") == 2 and gateway.metric("holdfast_share_members") == 4
        publish_all(gateway, range(2))
        wait_for(lambda: gateway.metric("holdfast_share_inflight_messages") == 2, "two in flight")
        for client in (c, d):
            client.take()
        wait_for(lambda: gateway.metric("holdfast_share_inflight_messages") == 0, "none in flight")
    found = wait_for(lambda: gateway.http("GET", "/v1/sessions").json["sessions"], "the session")
    assert [s["client_id"] for s in found] == ["c"]


def test_the_api_cannot_publish_to_the_gateways_own_topics(gateway):
    for topic in ("$SYS/broker/version", "$share/g/t"):
        answer = gateway.http("POST", "/v1/publish", {"topic": topic, "payload": "x"})
        assert answer.status == 400 and "own" in answer.json["detail"], answer


def test_deaths_in_quick_succession_lose_nothing(start):
    gateway = start(workers=2)
    clients = [gateway.client_on(n % 2, f"m{n}", **session()) for n in range(4)]
    for client in clients:
        client.subscribe((GROUP, 1))
    readers = [Reader(client) for client in clients]
    seen = collections.Counter()
    for round_ in range(4):
        publish_all(gateway, range(round_ * 50, round_ * 50 + 50))
        kill_hub(gateway)
    wait_for(lambda: len({int(m.payload) for r in readers for m in r.found}) == 200, "all messages")
    for reader in readers:
        seen.update(int(m.payload) for m in reader.stop())
    assert set(seen) == set(range(200))
