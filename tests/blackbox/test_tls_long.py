"""Long transfers, very many small records, and key updates in the middle of them.

With HOLDFAST_LONG=1, as test.sh runs it, a gigabyte each way and a million records; else some tens of megabytes.
"""

import hashlib
import os
import random

import pytest

import mqtt_raw as mqtt
import tls_raw as tls
from tls_raw import V12, V13

LONG = os.environ.get("HOLDFAST_LONG") == "1"
MIB = 1 << 20
WINDOW = 128 << 10  # under way at once: less than output_limit, so nothing may be dropped


class Loop:
    """A client that publishes to itself, never more than WINDOW under way; what was sent must come back, in order."""

    def __init__(self, client, sizes, seed=1):
        self.client, self.sizes, self.sent, self.got = client, sizes, hashlib.sha256(), hashlib.sha256()
        self.noise = random.Random(seed).randbytes(MIB).hex().encode()
        self.count = self.total = self.under_way = 0
        self.waiting = []
        client.subscribe("t")

    def send(self):
        size = self.sizes[self.count % len(self.sizes)]
        at = self.count * 7919 % (len(self.noise) - max(self.sizes))
        payload = self.noise[at:at + size]
        self.client.publish("t", payload)
        self.sent.update(payload)
        self.waiting.append(size)
        self.count += 1
        self.total += size
        self.under_way += size

    def receive(self):
        packet = self.client.expect(mqtt.PUBLISH)
        assert len(packet.payload) == self.waiting[0], "a message is missing"
        self.got.update(packet.payload)
        self.under_way -= self.waiting.pop(0)

    def run(self, amount):
        """So many bytes more, and all of them back."""
        goal = self.total + amount
        while self.total < goal:
            while self.under_way + max(self.sizes) > WINDOW:
                self.receive()
            self.send()
        while self.waiting:
            self.receive()
        assert self.got.digest() == self.sent.digest()


@pytest.mark.slow
@pytest.mark.parametrize("version", [V13, V12], ids=["1.3", "1.2"])
def test_a_long_transfer_both_ways(start_tls, version):
    gateway = start_tls()
    with tls.client(gateway, "c", tls.context(version)) as client:
        loop = Loop(client, [1, 60_000, 127, 16_384, 5000, 16_400, 40_000, 0, 33_333])
        loop.run(1024 * MIB if LONG else 64 * MIB)
        assert gateway.metric("holdfast_publishes_received_total") == loop.count
        assert gateway.metric("holdfast_deliveries_dropped_total") == 0
        gateway.wait_metric("holdfast_connections_parked", 1)
    assert gateway.metric("holdfast_tls_unparked_state_total") == 0


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"])
def test_key_updates_in_the_middle_of_a_long_transfer(start_tls, suite):
    """Through s_client, which asks for one where a block of its input begins with K or k: no other block may."""
    gateway = start_tls()
    host, port = gateway.secure
    program = tls.Program("openssl", "s_client", "-connect", f"{host}:{port}", "-brief", "-no_ign_eof", "-tls1_3",
                          "-ciphersuites", suite)
    rounds = 64 if LONG else 8
    with tls.Client(program, "c") as client:
        loop = Loop(client, [16_000])  # its length is no such letter, and its payload are lower-case hexadecimal digits
        for i in range(1, rounds + 1):
            loop.run((1024 * MIB if LONG else 8 * MIB) // rounds)
            client.send(b"K\n" if i % 2 else b"k\n")
            program.wait_said("KEYUPDATE", i)
        loop.run(MIB)
        assert gateway.metric("holdfast_tls_key_updates_total") == rounds + rounds // 2
        assert gateway.metric("holdfast_deliveries_dropped_total") == 0


@pytest.mark.parametrize("version", [V13, V12], ids=["1.3", "1.2"])
def test_very_many_small_records(start_tls, version):
    """A PINGREQ in a record of its own, again and again; each is answered."""
    gateway = start_tls()
    batch, rounds = 1000, 1000 if LONG else 40
    with tls.client(gateway, "c", tls.context(version)) as client:
        for _ in range(rounds):
            client.sock.send_raw(b"".join(client.sock.seal(mqtt.PING) for _ in range(batch)))
            for _ in range(batch):
                client.expect(mqtt.PINGRESP)
    gateway.wait_metric("holdfast_heartbeats_total", batch * rounds)
