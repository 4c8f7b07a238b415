"""Many clients at once, and some that do not read: the others get everything, memory stays bounded."""

import select
import signal
import time

import pytest

import mqtt_raw as mqtt
from conftest import wait_for
from mqtt_raw import V311, V5

SMALL_BUFFERS = 'sndbuf = "8K"'


def receive_all(clients, count):
    """Reads `count` publishes from each client, in parallel; returns their payloads."""
    got = {client: [] for client in clients}
    waiting = {client.sock: client for client in clients}
    deadline = time.monotonic() + 30
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} of {len(clients)} clients still wait"
        for sock in select.select(list(waiting), [], [], 1)[0]:
            client = waiting[sock]
            try:
                client.fill(deadline)
            except mqtt.Silence:
                continue
            while (packet := client.parse()) is not None:
                assert packet.type == mqtt.PUBLISH, packet
                got[client].append(packet.payload)
            if len(got[client]) >= count:
                del waiting[sock]
    return got


@pytest.mark.parametrize("topic", ["news", "broadcast"])
def test_a_few_hundred_clients_get_every_message_in_order(start, topic):
    gateway = start(workers=2)
    clients = [gateway.client(f"c{i}", V5 if i % 2 else V311) for i in range(300)]
    if topic == "news":
        for client in clients:
            client.subscribe("news")
    for i in range(40):
        gateway.publish(topic, f"message {i}")
    for payloads in receive_all(clients, 40).values():
        assert payloads == [f"message {i}".encode() for i in range(40)]
    assert gateway.metric("holdfast_deliveries_total") == 300 * 40
    assert gateway.metric("holdfast_deliveries_dropped_total") == 0
    for client in clients:
        client.close()


def test_a_fan_out_larger_than_a_slice_reaches_everybody(start):
    gateway = start(top="fanout { slice = 7 }")
    clients = [gateway.client(f"c{i}") for i in range(100)]
    for i in range(10):
        gateway.publish("broadcast", str(i))
    for payloads in receive_all(clients, 10).values():
        assert payloads == [str(i).encode() for i in range(10)]
    for client in clients:
        client.close()


def publish_large(gateway, topic, count, size=20000):
    """Publishes numbered messages of this size."""
    for i in range(count):
        gateway.publish(topic, f"{i:08d}" + "x" * (size - 8))


def test_a_client_that_does_not_read_loses_the_oldest_messages(start):
    gateway = start(listener=SMALL_BUFFERS, mqtt='output_limit = "100K" output_policy = "drop-oldest"')
    with gateway.client("reader") as reader, gateway.client("deaf", rcvbuf=4096, keepalive=0) as deaf:
        reader.subscribe("t")
        deaf.subscribe("t")
        for i in range(100):
            publish_large(gateway, "t", 1)
            reader.expect_publish()
        gateway.wait_metric("holdfast_deliveries_dropped_total", lambda n: n > 50)
        assert gateway.metric("holdfast_output_bytes") <= 100 * 1024 + 25000
        assert gateway.metric("holdfast_connections_active") == 1
        reader.ping()
        # It wakes up: what is left are whole messages, the newest among them, and then it is like any other.
        gateway.publish("t", "the newest")
        last = None
        count = 0
        while last != b"the newest":
            last = deaf.expect_publish().payload
            count += 1
        assert 2 <= count < 50
        gateway.publish("t", "live again")
        deaf.expect_publish("live again")
        gateway.wait_metric("holdfast_output_bytes", 0)
        gateway.wait_metric("holdfast_connections_active", 0)
        deaf.ping()


def test_a_client_that_does_not_read_is_disconnected_when_so_configured(start):
    gateway = start(listener=SMALL_BUFFERS, mqtt='output_limit = "100K" output_policy = "disconnect"')
    with gateway.client("reader") as reader, gateway.client("deaf", rcvbuf=4096, keepalive=0) as deaf:
        reader.subscribe("t")
        deaf.subscribe("t")
        for i in range(100):
            publish_large(gateway, "t", 1)
            reader.expect_publish()
        gateway.wait_metric("holdfast_connections_closed_total", 1, reason="slow_consumer")
        gateway.wait_event("client_closed", client="deaf", reason="slow_consumer")
        reader.ping()
        assert gateway.metric("holdfast_output_bytes") == 0
        with pytest.raises(mqtt.Closed):
            while True:
                deaf.recv()


def test_a_crowd_that_reads_nothing_costs_a_bounded_amount_and_nobody_else_notices(start):
    gateway = start(listener=SMALL_BUFFERS, mqtt='output_limit = "32K"')
    deaf = [gateway.client(f"deaf-{i}", rcvbuf=4096, keepalive=0) for i in range(60)]
    readers = [gateway.client(f"reader-{i}") for i in range(60)]
    for i in range(40):
        gateway.publish("broadcast", f"{i:04d}" + "x" * 8000)
        for payloads in receive_all(readers, 1).values():
            assert [int(p[:4]) for p in payloads] == [i]
    gateway.wait_metric("holdfast_connections_active", 60)
    assert gateway.metric("holdfast_output_bytes") <= 60 * (32 * 1024 + 2 * 8100)
    for client in deaf:
        client.close()
    gateway.wait_metric("holdfast_connections", 60)
    gateway.wait_metric("holdfast_output_bytes", 0)
    for client in readers:
        client.ping()
        client.close()


def test_a_blocked_client_still_gets_its_answers(start):
    gateway = start(listener=SMALL_BUFFERS)
    with gateway.client("deaf", V5, rcvbuf=4096) as deaf:
        deaf.subscribe("t")
        publish_large(gateway, "t", 5)
        gateway.wait_metric("holdfast_connections_active", 1)
        deaf.send(mqtt.PING)
        got = [deaf.recv() for _ in range(6)]
        assert [p.type for p in got].count(mqtt.PINGRESP) == 1
        assert [int(p.payload[:8]) for p in got if p.type == mqtt.PUBLISH] == list(range(5))


def test_a_message_above_the_output_limit_still_arrives_when_nothing_else_waits(start):
    gateway = start(listener=SMALL_BUFFERS, mqtt='output_limit = "16K"')
    with gateway.client("c", rcvbuf=4096) as client:
        client.subscribe("t")
        publish_large(gateway, "t", 1, 500000)
        assert len(client.expect_publish().payload) == 500000


def test_subscribing_and_leaving_during_a_fan_out_is_safe(start):
    gateway = start(top="fanout { slice = 1 }")
    clients = [gateway.client(f"c{i}") for i in range(100)]
    for client in clients:
        client.subscribe("t", "t/+")
    for i in range(20):
        gateway.publish("t", str(i))
        gateway.publish("t/x", str(i))
        if i % 2:
            clients.pop().abort()
        else:
            clients[0].send(mqtt.unsubscribe(V5, ["t"]))
            clients[0].send(mqtt.subscribe(V5, ["t"]))
    gateway.publish("broadcast", "end")
    for client in clients:
        wait_for(lambda: client.recv().type == mqtt.PUBLISH, "a publish")
        client.close()
    gateway.wait_metric("holdfast_connections", 0)
    assert not gateway.events("process_died")


def test_what_waits_for_a_client_is_sent_before_the_gateway_stops(start):
    gateway = start(listener=SMALL_BUFFERS)
    client = gateway.client("slow", V5)
    gateway.publish("clients/slow", "x" * 900_000)
    wait_for(lambda: gateway.metric("holdfast_output_bytes") > 0, "the push is blocked")
    gateway.process.send_signal(signal.SIGTERM)
    wait_for(lambda: len(gateway.events("stopping")) == 2, "supervisor and worker stop")
    assert len(client.expect(mqtt.PUBLISH).payload) == 900_000
    client.expect_disconnect(0x8B)
    assert gateway.process.wait(10) == 0
