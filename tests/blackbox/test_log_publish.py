"""Publishing what is to be kept: over HTTP and from clients, with the hub killed meanwhile, with no room left."""

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from conftest import wait_for
from mqtt_raw import PUBACK, V311, V5

QUOTA_EXCEEDED = 0x97


def log_of(gateway):
    return gateway.http("GET", "/v1/stats").json["log"]


def wait_kept(gateway, count):
    wait_for(lambda: log_of(gateway)["log_messages"] == count, f"{count} messages in {log_of(gateway)}")


# ---- over HTTP

@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_kept_message_reaches_its_subscribers(gateway, qos, version):
    with gateway.client("c", version) as client:
        client.subscribe(("t/#", qos))
        answers = []
        for i in range(5):
            answers.append(gateway.publish("t/1", f"message {i}", qos=qos))
            message = client.expect_publish(f"message {i}", "t/1")
            assert message.qos == qos and not message.dup and not message.retain
            client.acknowledge(message)
        numbers = [a["seq"] for a in answers]
        assert numbers == sorted(set(numbers))
        assert all(a["workers"] == 1 for a in answers)
        assert log_of(gateway)["log_messages"] == 5


def test_qos_0_is_not_kept(gateway):
    with gateway.client("c") as client:
        client.subscribe(("t", 1))
        gateway.publish("t", "x")
        assert client.expect_publish("x").qos == 0
        assert log_of(gateway)["log_messages"] == 0


def test_an_array_is_answered_as_a_whole(gateway):
    with gateway.client("c") as client:
        client.subscribe(("t", 1))
        answer = gateway.http("POST", "/v1/publish", [
            {"topic": "t", "payload": f"{i}", "qos": i % 3} for i in range(30)])
        assert answer.status == 200, answer
        numbers = [one["seq"] for one in answer.json]
        assert len(numbers) == 30 and numbers == sorted(numbers)
        assert log_of(gateway)["log_messages"] == 20
        got = {client.expect_publish().payload for _ in range(30)}
        assert got == {f"{i}".encode() for i in range(30)}


def test_a_wrong_message_of_an_array_keeps_none(gateway):
    answer = gateway.http("POST", "/v1/publish", [{"topic": "t", "payload": "x", "qos": 1},
                                                  {"topic": "t", "payload": "x", "qos": 3}])
    assert answer.status == 400 and answer.json["field"] == "[1].qos"
    assert log_of(gateway)["log_messages"] == 0


def test_who_does_not_wait_for_the_answer_publishes_all_the_same(gateway):
    body = json.dumps({"topic": "t", "payload": "x", "qos": 1}).encode()
    for _ in range(50):
        with socket.create_connection(gateway.api) as s:
            s.sendall(b"POST /v1/publish HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    wait_kept(gateway, 50)


def test_many_publishers_share_commits(gateway):
    """A commit takes what has come meanwhile."""
    def publish_some(n):
        connection = http.client.HTTPConnection(*gateway.api, timeout=30)
        for i in range(25):
            connection.request("POST", "/v1/publish", json.dumps({"topic": "t", "payload": f"{n}.{i}", "qos": 1}),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            good.append(answer.status == 200)
        connection.close()
    good = []
    threads = [threading.Thread(target=publish_some, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 500
    log = log_of(gateway)
    assert log["log_messages"] == 500
    assert log["commits_total"] <= 500


def test_retained_messages_over_http(gateway):
    def retained(version=V5):
        with gateway.client("", version) as client:
            client.subscribe(("r/#", 1))
            messages = {}
            with contextlib.suppress(Exception):
                while True:
                    message = client.recv(0.3)
                    messages[message.topic] = (message.payload, message.qos, message.retain)
            return messages
    gateway.publish("r/0", "zero", retain=True)
    gateway.publish("r/1", "old", qos=1, retain=True)
    gateway.publish("r/1", "one", qos=1, retain=True)
    assert retained() == {"r/0": (b"zero", 0, True), "r/1": (b"one", 1, True)}
    assert log_of(gateway)["retained_messages"] == 2
    gateway.publish("r/0", "", retain=True)
    gateway.publish("r/1", "", qos=1, retain=True)
    assert retained() == {}
    assert log_of(gateway)["retained_messages"] == 0


def test_retained_messages_can_be_switched_off(start):
    gateway = start(mqtt="retain = false")
    answer = gateway.http("POST", "/v1/publish", {"topic": "t", "payload": "x", "retain": True})
    assert answer.status == 400 and answer.json["field"] == "retain"
    gateway.publish("t", "x", retain=False)


def test_a_client_that_is_away_gets_what_is_kept(gateway):
    away = {"clean": False, "props": {"session_expiry": 3600}}
    path = "/v1/clients/device/publish"
    assert gateway.http("POST", path, {"payload": "x", "qos": 1}).status == 404
    with gateway.client("device", V5, **away):
        pass
    wait_for(lambda: log_of(gateway)["sessions_stored"] == 1, "the session")
    gateway.wait_registered(0)
    assert gateway.http("POST", path, {"payload": "lost", "qos": 0}).status == 404
    answer = gateway.http("POST", path, {"payload": "kept", "qos": 1})
    assert answer.status == 200, answer
    with gateway.client("device", V5, **away) as device:
        message = device.expect_publish("kept", "clients/device")
        assert message.qos == 1
        device.acknowledge(message)
        device.expect_silence()


# ---- the hub is killed

def test_what_was_answered_is_there_after_the_hub_was_killed(start):
    gateway = start(workers=2)
    seqs = [gateway.publish("t", f"{i}", qos=1)["seq"] for i in range(10)]
    old = gateway.kill_child("hf-hub")
    gateway.wait_successor("hf-hub", old)
    wait_for(lambda: gateway.http("GET", "/readyz").status == 200, "ready")
    assert log_of(gateway)["log_messages"] == 10
    assert log_of(gateway)["log_newest_seq"] == seqs[-1]
    assert gateway.publish("t", "after", qos=1)["seq"] > seqs[-1]


def test_what_was_answered_is_there_after_a_restart(start, folder):
    gateway = start(data_dir=folder / "kept")
    gateway.publish("t", "x", qos=1)
    newest = gateway.publish("r", "x", retain=True)["seq"]
    gateway.stop()
    gateway = start(data_dir=folder / "kept")
    log = log_of(gateway)
    assert (log["log_messages"], log["retained_messages"], log["log_newest_seq"]) == (1, 1, newest)
    assert gateway.publish("t", "y", qos=1)["seq"] > newest


def publish_until(gateway, stop, accepted, name):
    """Publishes over HTTP, whatever happens to the hub; what was answered with 200 goes to `accepted`, in order."""
    i = 0
    while not stop.is_set():
        i += 1
        text = f"{name}-{i}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            if gateway.http("POST", "/v1/publish", {"topic": f"t/{name}", "payload": text, "qos": 1}).status == 200:
                accepted.append(text)


def test_every_accepted_message_arrives_while_the_hub_is_killed(start):
    """HTTP publishers, a subscriber that stays connected to a worker that stays alive; the hub dies again and again."""
    gateway = start(workers=2)
    stop, accepted = threading.Event(), [[] for _ in range(4)]
    with gateway.client("c", V5, timeout=30) as client:
        client.subscribe(("t/#", 1))
        threads = [threading.Thread(target=publish_until, args=(gateway, stop, accepted[n], f"{n}"))
                   for n in range(len(accepted))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(6):
                before = sum(map(len, accepted))
                wait_for(lambda: sum(map(len, accepted)) > before + 20, "accepted messages", 30)
                old = gateway.kill_child("hf-hub")
                gateway.wait_successor("hf-hub", old, 30)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        wait_for(lambda: gateway.http("GET", "/readyz").status == 200, "ready")
        gateway.publish("t/end", "the end", qos=1)
        got, last = [], None
        while last != b"the end":
            message = client.expect_publish(timeout=30)
            client.acknowledge(message)
            last = message.payload
            got.append(last.decode())
    assert len(got) == len(set(got)), "a worker that stays alive is given each message once"
    for n, mine in enumerate(accepted):
        assert not set(mine) - set(got)
        order = [int(text.split("-")[1]) for text in got if text.startswith(f"{n}-")]
        assert order == sorted(order)


@pytest.mark.parametrize("version", [V311, V5])
def test_a_clients_publish_takes_effect_once_though_the_hub_is_killed(start, version):
    """Requests that were not answered are sent to the next hub; those that had taken effect do not do so again."""
    gateway = start(workers=2)
    with gateway.client("to", V5, timeout=30) as to, gateway.client("from", version, timeout=30) as sender:
        to.subscribe(("t", 1))
        sent = 0
        for _ in range(4):
            for _ in range(30):
                sent += 1
                sender.publish("t", f"{sent}", qos=1, packet_id=sent)
            old = gateway.kill_child("hf-hub")
            for i in range(sent - 29, sent + 1):
                assert sender.expect(PUBACK, 30).packet_id == i
            gateway.wait_successor("hf-hub", old, 30)
        for i in range(1, sent + 1):
            message = to.expect_publish(f"{i}", timeout=30)
            to.acknowledge(message)
        to.expect_silence()
        wait_kept(gateway, sent)


def test_a_worker_that_dies_does_not_disturb_the_log(start):
    gateway = start(workers=2)
    for i in range(3):
        gateway.publish("t", "x", qos=1)
        old = gateway.kill_child("hf-worker-0")
        gateway.publish("t", "y", qos=1)
        gateway.wait_successor("hf-worker-0", old)
    wait_kept(gateway, 6)


# ---- no room

def fill(gateway, sizes=(200_000, 20_000), most=400):
    """Publishes large messages, then smaller ones, until they are refused for longer than it takes the gateway to look
    for room again, which is a second; how many were not refused, and the last answer."""
    taken = 0
    for size in sizes:
        last_taken = time.monotonic()
        while time.monotonic() - last_taken < 2.5:
            answer = gateway.http("POST", "/v1/publish", {"topic": "big", "payload": "b" * size, "qos": 1})
            if answer.status == 200:
                taken += 1
                last_taken = time.monotonic()
                assert taken < most, f"{most} messages of up to {size} bytes were taken"
            else:
                time.sleep(0.05)
    return taken, answer


def test_a_full_data_file_refuses_what_is_to_be_kept(start):
    gateway = start(top="log { max_file = 16M  max_size = 0  reserve = 1M }")
    with gateway.client("c") as client, gateway.client("p", V5) as five, gateway.client("q", V311) as three:
        client.subscribe(("t", 1))
        count, answer = fill(gateway)
        assert count > 10
        assert answer.status == 507 and answer.headers["content-type"] == "application/problem+json", answer
        assert "limit" in answer.json["detail"]
        assert gateway.metric("holdfast_log_refusing") == 1
        assert gateway.metric("holdfast_published_refused_total") >= 1
        gateway.publish("t", "QoS 0 goes on")
        client.expect_publish("QoS 0 goes on")
        five.publish("t", "x" * 100_000, qos=1, packet_id=7)
        assert five.expect(PUBACK).code == QUOTA_EXCEEDED
        three.publish("t", "x" * 100_000, qos=1, packet_id=7)
        three.expect_closed()
        client.expect_silence()
    assert log_of(gateway)["log_messages"] == count


def test_a_full_disk_refuses_and_recovers_without_a_restart(start_on_small_disk):
    gateway, disk = start_on_small_disk(40, top='user = ""\nlog { reserve = 2M  max_size = 0 }')
    first = gateway.publish("t", "before", qos=1)
    ballast = disk / "ballast"
    with open(ballast, "wb") as f, contextlib.suppress(OSError):
        while True:
            f.write(b"x" * 65536)
            f.flush()
    with gateway.client("c") as client:
        client.subscribe(("t", 1))
        count, answer = fill(gateway)
        assert answer.status == 507 and "disk" in answer.json["detail"], answer
        gateway.publish("t", "QoS 0 goes on")
        client.expect_publish("QoS 0 goes on")
        ballast.unlink()
        wait_for(lambda: gateway.metric("holdfast_log_refusing") == 0, "room again")
        last = gateway.publish("t", "after", qos=1)
        assert last["seq"] > first["seq"]
        client.expect_publish("after")
    assert log_of(gateway)["log_messages"] == count + 2
    assert len(gateway.events("process_started", child="hub")) == 1


# ---- opening

def test_a_foreign_data_file_ends_the_start_with_a_reason(start, folder):
    data = folder / "foreign"
    data.mkdir()
    data.chmod(0o777)
    (data / "holdfast.mdb").write_bytes(b"something else " * 1000)
    gateway = start(ready=False, data_dir=data)
    assert gateway.process.wait(30) == 1
    why = gateway.events("hub_cannot_start")
    assert len(why) == 1 and "holdfast.mdb" in why[0]["why"] and "not Holdfast's" in why[0]["why"]
    assert len(gateway.events("process_started", child="hub")) == 1
    gateway.stop(expect=1)


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_each_way_to_sync(start, sync):
    gateway = start(top=f"log {{ sync = {sync}  sync_interval = 200ms }}")
    with gateway.client("c") as client:
        client.subscribe(("t", 1))
        for i in range(10):
            gateway.publish("t", f"{i}", qos=1)
            client.acknowledge(client.expect_publish(f"{i}"))
        wait_kept(gateway, 10)


def test_old_messages_are_removed(start):
    gateway = start(top="log { max_size = 100K }")
    for i in range(40):
        gateway.publish("t", "x" * 10_000, qos=1)
    wait_for(lambda: log_of(gateway)["log_bytes"] <= 100 * 1024, "the log to shrink")
    log = log_of(gateway)
    assert log["log_removed_total"]["size"] >= 30
    assert gateway.metric("holdfast_log_removed_total", reason="size") >= 30


def test_figures(gateway):
    gateway.publish("t", "x", qos=1)
    metrics = gateway.metrics()
    assert metrics["holdfast_log_messages"] == 1 and metrics["holdfast_log_topics"] == 1
    assert metrics["holdfast_data_file_bytes"] > 0 and metrics["holdfast_log_bytes"] > 0
    assert metrics['holdfast_commit_duration_seconds_bucket{le="+Inf"}'] == \
        metrics["holdfast_commit_duration_seconds_count"] >= 1
    assert metrics['holdfast_sessions_by_lag{le="+Inf"}'] == 0
    assert metrics["holdfast_log_refusing"] == 0
