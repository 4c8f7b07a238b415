"""Defects that were found in the log, in shared subscriptions and in wills that wait, so that they do not come back."""

import os
import shutil

from conftest import session, wait_for
from mqtt_raw import V5, publish


def test_members_of_a_share_that_never_come_back_leave_nothing(start):
    """Each had a stored session of a second; the group itself stays, since somebody is there. All rounds have as many
    sessions at once, so the data file has found its size after the first ones."""
    gateway = start(top="log { reserve = 1M }")
    stays = gateway.client("stays", **session())
    stays.subscribe(("$share/group/t", 1))
    size = {}
    for round_ in range(1, 10):
        members = [gateway.client(f"comes-and-goes-{round_}-{n}", **session(1)) for n in range(500)]
        for member in members:
            member.subscribe(("$share/group/t", 1))
        for member in members:
            member.leave()
        gateway.wait_metric("holdfast_sessions_stored", 2)
        size[round_] = gateway.metric("holdfast_data_file_bytes")
    assert size[9] < size[3] * 1.5, size


def test_nothing_is_acknowledged_into_a_data_file_that_was_removed(start, folder):
    data_dir = folder / "removed"
    gateway = start(data_dir=data_dir)
    gateway.publish("t", "kept", qos=1)
    shutil.rmtree(data_dir)
    answer = gateway.http("POST", "/v1/publish", {"topic": "t", "payload": "lost", "qos": 1})
    assert answer.status == 503, answer
    gateway.wait_event("data_file_removed")
    gateway.publish("t", "QoS 0 goes on")


def test_the_data_file_is_a_pipe(start, folder):
    data_dir = folder / "pipe"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    os.mkfifo(data_dir / "holdfast.mdb")
    os.chmod(data_dir / "holdfast.mdb", 0o666)
    gateway = start(data_dir=data_dir, ready=False)
    assert gateway.process.wait(10) != 0
    assert "is not Holdfast's" in gateway.events("hub_cannot_start")[0]["why"]


def test_a_will_outlives_its_session_while_the_disk_is_full(start_on_small_disk):
    gateway, disk = start_on_small_disk(24, top='user = ""\nlog { reserve = 2M  max_size = 0 }')
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (10 << 20))
    watcher = gateway.client("watcher")
    watcher.subscribe(("wills/#", 1))
    dies = gateway.client("dies", will=("wills/dies", "gone", 1, False, {"will_delay": 1}), **session(2))
    fill = {"topic": "fill", "payload": "x" * 60000, "qos": 1}
    wait_for(lambda: gateway.http("POST", "/v1/publish", fill).status == 507, "a full disk", 60)
    dies.abort()
    wait_for(lambda: gateway.http("GET", "/v1/clients/dies").status == 404, "the end of the session")
    stored = gateway.metric("holdfast_sessions_stored")
    assert stored == 1, "the session is kept for its will"
    ballast.unlink()
    watcher.take("gone", topic="wills/dies", timeout=20)
    gateway.wait_metric("holdfast_sessions_stored", 0)


def test_qos_0_after_a_retained_message_of_its_topic_comes_after_it(start):
    gateway = start()
    with gateway.client("subscriber") as subscriber, gateway.client("publisher") as publisher:
        subscriber.subscribe("t/#")
        publisher.send(b"".join(publish(V5, f"t/{n % 7}", str(n), retain=n % 3 == 0) for n in range(3000)))
        got = {}
        for _ in range(3000):
            message = subscriber.expect_publish()
            got.setdefault(message.topic, []).append(int(message.payload))
        assert all(numbers == sorted(numbers) for numbers in got.values())
        assert sum(map(len, got.values())) == 3000
