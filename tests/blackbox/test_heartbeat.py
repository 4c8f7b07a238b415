"""Deadlines in real time: met within a second, never early."""

import threading
import time

import pytest

import mqtt_raw as mqtt
from mqtt_raw import V311, V5, Client


def silence_until_closed(client, timeout=10):
    """Sends a last heartbeat; how long it takes until the gateway closes, and what it says. A client does not
    count what it receives."""
    begin = time.monotonic()
    client.send(mqtt.PING)
    said = client.expect_closed(timeout)
    return time.monotonic() - begin, [p for p in said if p.type not in (mqtt.PINGRESP, mqtt.PUBLISH)]


def assert_on_time(client, elapsed, said, keepalive=1):
    assert 1.5 * keepalive <= elapsed <= 1.5 * keepalive + 1, elapsed
    if client.version == V5:
        assert [p.type for p in said] == [mqtt.DISCONNECT] and said[0].code == 0x8D, said
    else:
        assert said == []


@pytest.mark.parametrize("version", [V311, V5])
def test_a_silent_client_is_closed_after_one_and_a_half_keepalives(gateway, version):
    with gateway.client("silent", version, keepalive=1) as client:
        assert_on_time(client, *silence_until_closed(client))
    gateway.wait_metric("holdfast_connections_closed_total", 1, reason="keepalive_timeout")


def test_a_client_that_never_spoke_after_connect_is_closed_on_time(gateway):
    begin = time.monotonic()
    with gateway.client("mute", keepalive=1) as client:
        said = client.expect_closed()
        assert_on_time(client, time.monotonic() - begin, said)


def test_a_client_that_pings_is_never_closed(gateway):
    with gateway.client("alive", keepalive=1) as client:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            client.ping(timeout=1)
            time.sleep(0.9)
        client.ping()
    assert gateway.metric("holdfast_heartbeats_total") >= 5


def test_any_packet_counts_as_a_heartbeat(gateway):
    with gateway.client("busy", keepalive=1) as client:
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            client.publish("somewhere", "x")
            time.sleep(0.7)
        client.ping()


def test_half_a_packet_does_not_count_as_a_heartbeat(gateway):
    with gateway.client("half", keepalive=1) as client:
        begin = time.monotonic()
        client.ping()
        client.send(mqtt.publish(V5, "t", "x" * 100)[:20])
        time.sleep(1)
        client.send(b"x")
        said = client.expect_closed()
        assert_on_time(client, time.monotonic() - begin, said)


def test_keepalive_0_is_honoured(gateway):
    with gateway.client("never", keepalive=0) as client:
        client.expect_silence(3)
        client.ping()


def test_a_capped_keepalive_is_enforced_by_its_cap(start):
    gateway = start(mqtt='max_keepalive = "1s"')
    with gateway.client("forever", keepalive=0) as client:
        assert client.connack.props["server_keep_alive"] == 1
        assert_on_time(client, *silence_until_closed(client))
    with gateway.client("old", V311, keepalive=600) as client:
        assert_on_time(client, *silence_until_closed(client))


def test_no_connect_within_connect_timeout_closes(start):
    gateway = start(mqtt='connect_timeout = "1s"')
    begin = time.monotonic()
    with Client(gateway.mqtt, connect=False) as nothing, Client(gateway.mqtt, connect=False) as half, \
            gateway.client("good") as good:
        half.send(mqtt.connect(V5, "half")[:7])
        for client in (nothing, half):
            assert client.expect_closed() == []
            assert 1 <= time.monotonic() - begin <= 2.1
        good.ping()
    gateway.wait_metric("holdfast_connections_closed_total", 2, reason="connect_timeout")


def test_a_trickled_connect_is_closed_at_the_same_deadline(start):
    gateway = start(mqtt='connect_timeout = "1s"')
    with Client(gateway.mqtt, connect=False) as client:
        begin = time.monotonic()
        data = mqtt.connect(V5, "trickle" * 10)
        with pytest.raises(mqtt.Closed):
            for byte in data:
                client.send(bytes([byte]))
                try:
                    client.recv(0.1)
                except mqtt.Silence:
                    pass
        assert 1 <= time.monotonic() - begin <= 2.1


def test_deadlines_hold_in_the_middle_of_broadcasts(start):
    """Three hundred clients get messages all the time: the silent one is closed on time, the pinging one is not."""
    gateway = start(workers=1)
    crowd = [gateway.client(f"crowd-{i}", keepalive=0) for i in range(300)]
    stop = threading.Event()

    def drain():
        while not stop.is_set():
            for client in crowd:
                client.sock.setblocking(False)
                try:
                    client.sock.recv(1 << 20)
                except BlockingIOError:
                    pass
            time.sleep(0.01)

    def shout():
        while not stop.is_set():
            gateway.publish("broadcast", "x" * 1000)

    threads = [threading.Thread(target=drain), threading.Thread(target=shout)]
    for thread in threads:
        thread.start()
    try:
        before = gateway.metric("holdfast_deliveries_total")
        with gateway.client("silent", keepalive=1) as silent, gateway.client("alive", keepalive=1) as alive:
            result = []
            watcher = threading.Thread(target=lambda: result.append(silence_until_closed(silent)))
            watcher.start()
            end = time.monotonic() + 4
            while time.monotonic() < end:
                alive.send(mqtt.PING)
                while alive.recv(2).type != mqtt.PINGRESP:  # broadcasts
                    pass
                time.sleep(0.5)
            watcher.join(10)
            assert_on_time(silent, *result[0])
        assert gateway.metric("holdfast_deliveries_total") - before > 1000
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for client in crowd:
            client.close()
    assert gateway.metric("holdfast_connections_closed_total", reason="keepalive_timeout") == 1


def test_many_deadlines_at_once_are_all_met(gateway):
    clients = [gateway.client(f"c{i}", keepalive=1 + i % 2) for i in range(200)]
    begin = time.monotonic()
    for client in clients:
        client.send(mqtt.PING)
    sent = time.monotonic() - begin
    for keepalive in (1, 2):
        for client in clients[keepalive - 1::2]:
            client.expect_closed()
            elapsed = time.monotonic() - begin
            assert 1.5 * keepalive <= elapsed <= 1.5 * keepalive + 1 + sent, (keepalive, elapsed)
            client.close()
    assert gateway.metric("holdfast_connections_closed_total", reason="keepalive_timeout") == 200
