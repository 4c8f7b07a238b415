"""The disk is full, or was written to in part only, while publishers, sleeping sessions and live subscribers go on."""

import contextlib
import http.client
import os
import struct
import threading
import time

import pytest

import mqtt_raw as mqtt
from conftest import session, wait_for
from mqtt_raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V311, V5

QUOTA_EXCEEDED = 0x97
PADDING = "." * 20000


class Publisher(threading.Thread):
    """Publishes numbered messages to its own topic, one after the other, and notes what became of each."""

    def __init__(self, gateway, name):
        super().__init__(name=name, daemon=True)
        self.gateway, self.topic = gateway, f"t/{name}"
        self.acked, self.refused, self.unknown = [], [], []
        self.is_over = threading.Event()
        self.start()

    def run(self):
        for n in range(1 << 30):
            if self.is_over.wait(0.002):
                return
            try:
                was_taken = self.publish(n)
            except (mqtt.Closed, mqtt.Silence, OSError, http.client.HTTPException):
                self.unknown.append(n)
                self.again()
            else:
                (self.acked if was_taken else self.refused).append(n)

    def again(self):
        """A new connection, if it has one."""

    def finish(self):
        self.is_over.set()
        self.join()


class HttpPublisher(Publisher):
    def publish(self, n):
        answer = self.gateway.http("POST", "/v1/publish", {"topic": self.topic, "payload": f"{n}{PADDING}", "qos": 1})
        assert answer.status in (200, 507, 503), answer
        return answer.status == 200


class MqttPublisher(Publisher):
    version, qos, client = V5, 1, None

    def again(self):
        with contextlib.suppress(mqtt.Closed, mqtt.Silence, OSError):
            self.client = self.gateway.client(self.topic, self.version)

    def publish(self, n):
        if not self.client:
            self.again()
        self.client.publish(self.topic, f"{n}{PADDING}", qos=self.qos, packet_id=1)
        answer = self.client.expect(PUBACK if self.qos == 1 else PUBREC)
        if answer.code >= 0x80:
            assert answer.code == QUOTA_EXCEEDED, answer
            return False
        if self.qos == 2:
            self.client.ack(PUBREL, 1)
            self.client.expect_ack(PUBCOMP, 1, 0)
        return True


class QoS2Publisher(MqttPublisher):
    qos = 2


class OldPublisher(MqttPublisher):
    """Of MQTT 3.1.1, where a refusal can only be the end of the connection."""
    version = V311


class Subscriber(threading.Thread):
    """A live subscriber that notes everything."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.client = gateway.client("live")
        self.client.subscribe(("t/#", 2))
        self.got, self.qos_0 = [], []
        self.start()

    def run(self):
        with contextlib.suppress(mqtt.Closed, OSError):
            while True:
                with contextlib.suppress(mqtt.Silence):
                    note(self.client, self.client.recv(1), self.got, self.qos_0)


def note(client, packet, got, qos_0=None):
    """Takes a packet and answers it; messages go to `got` as (topic, number)."""
    if packet.type == PUBREL:
        client.ack(PUBCOMP, packet.packet_id)
        return
    assert packet.type == PUBLISH, packet
    if packet.qos == 0:
        qos_0.append(packet.payload)
        return
    got.append((packet.topic, int(packet.payload.rstrip(b"."))))
    client.ack(PUBACK if packet.qos == 1 else PUBREC, packet.packet_id)


def assert_nothing_is_missing(publishers, got, whose):
    for publisher in publishers:
        mine = [n for topic, n in got if topic == publisher.topic]
        missing = set(publisher.acked) - set(mine)
        assert not missing, f"{whose}: of {publisher.topic} {sorted(missing)[:10]} were acknowledged, and are missing"
        assert not set(mine) & set(publisher.refused), f"{whose}: what was refused has come"
        assert mine == sorted(set(mine)), f"{whose}: order of {publisher.topic}"


def read_all(gateway, client_id, count):
    """Everything that waits for a session; `count` is how many there must be at least."""
    got = []
    with gateway.client(client_id, **session()) as client:
        assert client.connack.session_present
        with contextlib.suppress(mqtt.Silence):
            while True:
                note(client, client.recv(mqtt.PATIENCE if len(got) < count else 0.5), got)
    return got


def test_a_full_disk_costs_nothing_that_was_acknowledged(start_on_small_disk):
    """It fills up three times, and somebody makes room each time."""
    gateway, disk = start_on_small_disk(24, workers=2, top='user = ""\nlog { reserve = 2M  max_size = 0 }',
                                        mqtt='max_packet_size = "64K"')
    for name in ("asleep-1", "asleep-2"):
        with gateway.client(name, **session()) as client:
            client.subscribe(("t/#", int(name[-1])))
    for n in range(2):
        (disk / f"ballast-{n}").write_bytes(b"x" * (5 << 20))
    live = Subscriber(gateway)
    publishers = [HttpPublisher(gateway, "http"), MqttPublisher(gateway, "one"), QoS2Publisher(gateway, "two"),
                  OldPublisher(gateway, "old")]
    for n in range(3):
        before = [(len(p.refused), len(p.unknown)) for p in publishers]
        wait_for(lambda: gateway.metric("holdfast_log_refusing") == 1, "a full disk", 60)
        for p, (refused, unknown) in zip(publishers, before):
            wait_for(lambda: len(p.refused) > refused or (isinstance(p, OldPublisher) and len(p.unknown) > unknown),
                     f"{p.topic}: a refusal")
        gateway.publish("t/0", f"QoS 0, {n}")
        wait_for(lambda: f"QoS 0, {n}".encode() in live.qos_0, "a message of QoS 0")
        if n < 2:
            (disk / f"ballast-{n}").unlink()
            before = [len(p.acked) for p in publishers]
            wait_for(lambda: all(len(p.acked) > b for p, b in zip(publishers, before)), "publishes that are taken again")
    for p in publishers:
        p.finish()
    assert not gateway.events("process_died")
    acked = sum(len(p.acked) for p in publishers)
    wait_for(lambda: len(live.got) >= acked, "everything to the live subscriber", 30)
    assert_nothing_is_missing(publishers, live.got, "live")
    for name in ("asleep-1", "asleep-2"):
        assert_nothing_is_missing(publishers, read_all(gateway, name, acked), name)
    live.client.close()
    live.join()


# ---- torn writes

PAGE = 4096
LAST_PAGE, TRANSACTION = 136, 144  # where they are in a head of LMDB 0.9, one of the first two pages


def heads(data):
    """(transaction, last page in use, page of the head), the newest first."""
    return sorted(((struct.unpack_from("<Q", data, n * PAGE + TRANSACTION)[0],
                    struct.unpack_from("<Q", data, n * PAGE + LAST_PAGE)[0], n) for n in (0, 1)), reverse=True)


def cut(file, data):
    """Pages that no transaction had counted in yet never reached the disk."""
    os.truncate(file, (heads(data)[0][1] + 1) * PAGE)


def noise(file, data):
    """They did, in part, and in whatever order."""
    with open(file, "r+b") as f:
        for page in range(heads(data)[0][1] + 1, min(len(data) // PAGE, heads(data)[0][1] + 200), 3):
            f.seek(page * PAGE)
            f.write(os.urandom(PAGE))


def old_head(file, data):
    """The head of the last transaction never reached the disk, and what it replaces is there still: the one before the
    last one's. That transaction was not acknowledged, if `sync` is always; here it may have been."""
    (_, _, newest), (transaction, _, other) = heads(data)
    head = bytearray(data[other * PAGE:(other + 1) * PAGE])
    struct.pack_into("<Q", head, 0, newest)
    struct.pack_into("<Q", head, TRANSACTION, transaction - 1)
    with open(file, "r+b") as f:
        f.seek(newest * PAGE)
        f.write(head)


@pytest.mark.parametrize("damage", [cut, noise, old_head])
def test_after_a_torn_write_everything_that_was_on_disk_is_there(start, folder, damage):
    data_dir = folder / "kept"
    gateway = start(data_dir=data_dir)
    with gateway.client("asleep", **session()) as client:
        client.subscribe(("t/#", 1))
    known = {}  # topic -> numbers acknowledged in all rounds, or which may be there
    for n in range(6):
        publishers = [HttpPublisher(gateway, f"{n}-{i}") for i in range(3)]
        wait_for(lambda: all(len(p.acked) > 15 + 5 * n for p in publishers), "some publishes")
        time.sleep(n * 0.003)
        gateway.kill_all()
        for p in publishers:
            p.is_over.set()
        for p in publishers:
            p.join()
            known[p.topic] = p
        gateway.log.close()
        file = data_dir / "holdfast.mdb"
        damage(file, file.read_bytes())
        gateway = start(data_dir=data_dir)
        assert not gateway.events("process_died")
    acked = sum(len(p.acked) for p in known.values())
    got = read_all(gateway, "asleep", 0 if damage is old_head else acked)
    for p in known.values():
        mine = [n for topic, n in got if topic == p.topic]
        missing = sorted(set(p.acked) - set(mine))
        if damage is old_head:  # each publishes one after the other, so a transaction has one of them at most
            assert missing in ([], p.acked[-1:]), f"{p.topic}: {missing}"
        else:
            assert not missing, f"{p.topic}: {missing}"
        assert mine == sorted(set(mine))
    gateway.publish("t/after", "1", qos=1)
