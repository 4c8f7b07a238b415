"""`holdfast compact`: the data file written anew, with everything in it, or left as it is."""

import subprocess

import pytest

from conftest import BINARY, session, wait_for

MANY, SIZE = 6000, 4000  # messages that pass, and their bytes: more than the log may keep


def compact(data_dir, program=()):
    return subprocess.run([*program, BINARY, "compact", "-d", str(data_dir)], capture_output=True, text=True, timeout=60)


def disk_bytes(data_dir):
    return (data_dir / "holdfast.mdb").stat().st_blocks * 512


def publish_many(gateway, first, count, topic="t"):
    for at in range(first, first + count, 500):
        answer = gateway.http("POST", "/v1/publish", [{"topic": topic, "payload": f"{i}:{'x' * SIZE}", "qos": 1}
                                                      for i in range(at, min(at + 500, first + count))])
        assert answer.status == 200


def test_what_is_kept_is_kept_and_the_file_gets_small(start):
    """Most of the log has been removed for its size; sessions, retained messages, and what is left of it stay."""
    gateway = start(top="log { max_size = 1M }")
    with gateway.client("sleeps", **session()) as client:
        client.subscribe(("t", 1), ("kept/#", 1))
    with gateway.client("") as client:
        client.publish_acked("kept/topic", "value", 1, 1, retain=True)
    publish_many(gateway, 0, MANY)
    wait_for(lambda: gateway.metric("holdfast_log_bytes") < 2 << 20, "the log to be short")
    gateway.stop()
    before = disk_bytes(gateway.data_dir)
    result = compact(gateway.data_dir)
    assert result.returncode == 0 and "the data file takes" in result.stdout and not result.stderr, result
    after = disk_bytes(gateway.data_dir)
    assert before > 10 << 20 and after < before / 3, (before, after)
    assert sorted(p.name for p in gateway.data_dir.iterdir() if p.name.startswith("holdfast.mdb")) == ["holdfast.mdb"]
    gateway = start(data_dir=gateway.data_dir)
    publish_many(gateway, MANY, 3)
    with gateway.client("sleeps", **session()) as client:
        assert client.connack.session_present
        got = [int(m.payload.split(b":")[0]) for m in client.take_all(until=f"{MANY + 2}:{'x' * SIZE}".encode(), timeout=30)
               if m.topic == "t"]
        assert got == list(range(got[0], MANY + 3)) and 50 < len(got) < MANY
        client.subscribe(("kept/topic", 1))
        client.take("value", "kept/topic")
    numbers = [gateway.http("POST", "/v1/publish", {"topic": "n", "payload": "x", "qos": 1}).json["seq"] for _ in range(2)]
    assert numbers[0] < numbers[1]


def test_a_running_gateway_is_left_alone(gateway):
    publish_many(gateway, 0, 10)
    before = (gateway.data_dir / "holdfast.mdb").read_bytes()
    result = compact(gateway.data_dir)
    assert result.returncode == 1 and "is in use by another Holdfast (process" in result.stderr
    assert (gateway.data_dir / "holdfast.mdb").read_bytes() == before
    publish_many(gateway, 10, 10)


@pytest.mark.parametrize("what, said", [(None, "holds nothing yet"), (b"text" * 4000, "is not Holdfast's")],
                         ids=["nothing", "foreign"])
def test_what_is_no_data_file_is_not_touched(folder, what, said):
    if what:
        (folder / "holdfast.mdb").write_bytes(what)
    result = compact(folder)
    assert result.returncode == 1 and said in result.stderr, result
    assert [p.read_bytes() for p in folder.glob("holdfast.mdb*")] == ([what] if what else [])
    assert "does not exist" in compact(folder / "none").stderr
    assert subprocess.run([BINARY, "compact", "more"], capture_output=True).returncode == 2


def test_a_disk_without_room_keeps_the_old_file(small_disk, start):
    disk = small_disk(24)
    options = {"program": disk.program, "data_dir": disk.where / "data", "top": 'user = ""\nlog { reserve = 1M }'}
    gateway = start(**options)
    with gateway.client("sleeps", **session()) as client:
        client.subscribe(("t", 1))
    publish_many(gateway, 0, 3000)
    gateway.stop()
    before = (disk.path / "data/holdfast.mdb").read_bytes()
    result = compact(disk.where / "data", disk.program)
    assert result.returncode == 1 and "no room for a second data file" in result.stderr, result
    assert (disk.path / "data/holdfast.mdb").read_bytes() == before
    assert not (disk.path / "data/holdfast.mdb.new").exists()
    disk.grow(24)
    result = compact(disk.where / "data", disk.program)
    assert result.returncode == 0, result
    gateway = start(**options)
    with gateway.client("sleeps", **session()) as client:
        assert len(client.take_all(3000)) == 3000
