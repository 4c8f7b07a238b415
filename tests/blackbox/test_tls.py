"""TLS where the client decides which bytes go into which segment and record; and what nobody should send."""

import contextlib
import hashlib
import os
import random
import socket
import ssl

import pytest

import mqtt_raw as mqtt
import tls_raw as tls
from conftest import session, wait_for
from tls_raw import V12, V13

# How a connection is carried: parked, or by OpenSSL as long as it lasts.
FLAVOURS = {"1.3": (V13, ""), "1.2": (V12, ""), "1.3-unparked": (V13, "parking = false"),
            "1.2-unparked": (V12, "parking = false")}
CLOSED = "holdfast_connections_closed_total"


class Flavour:
    """A gateway, and a client's context for one version of TLS."""

    def __init__(self, start_tls, name):
        version, self.option = FLAVOURS[name]
        self.start_tls, self.context = start_tls, tls.context(version)
        self.is_parked, self.is_13 = not self.option, version == V13

    def start(self, **options):
        self.gateway = self.start_tls(self.option, **options)
        return self.gateway

    def client(self, client_id="", **options):
        return tls.client(self.gateway, client_id, self.context, **options)

    def socket(self, **options):
        return tls.TlsSocket(self.gateway.secure, self.context, **options)

    def session(self):
        """A session to resume."""
        with self.client("for-its-session") as client:
            client.ping()
            session = client.sock.session
        assert session.has_ticket
        return session


@pytest.fixture(params=FLAVOURS)
def flavour(start_tls, request):
    return Flavour(start_tls, request.param)


@pytest.fixture(params=["1.3", "1.2"])
def parked(start_tls, request):
    return Flavour(start_tls, request.param)


def echo(client, packets, expected):
    """Sends packets, then PINGREQ, and expects these payloads in order."""
    client.send(packets + mqtt.PING)
    got = [client.recv() for _ in range(len(expected) + 1)]
    assert [p.payload for p in got if p.type == mqtt.PUBLISH] == expected
    return got


# ---- bytes behind the handshake

# In a full TLS 1.2 handshake the server has the last word, so nothing can come behind the client's Finished.
@pytest.mark.parametrize("name,resumed", [(n, r) for n in FLAVOURS for r in (False, True) if r or n.startswith("1.3")])
@pytest.mark.parametrize("cut", ["whole", "half a record", "in Finished"])
def test_connect_comes_in_the_segment_of_finished(start_tls, name, resumed, cut):
    flavour = Flavour(start_tls, name)
    gateway = flavour.start()
    sock = flavour.socket(handshake=False, session=flavour.session() if resumed else None)
    with tls.Client(sock, "early", connect=False) as client:
        finished = sock.handshake()
        assert sock.tls.session_reused == resumed
        connect = sock.seal(mqtt.connect(mqtt.V5, "early") + mqtt.subscribe(mqtt.V5, ["t"]))
        flight = finished + connect
        at = {"whole": len(flight), "half a record": len(flight) - 9, "in Finished": len(finished) - 9}[cut]
        sock.send_raw(flight[:at])
        if at < len(flight):
            gateway.wait_metric("holdfast_bytes_received_total", lambda n: n > 0)
            sock.send_raw(flight[at:])
        client.expect(mqtt.CONNACK)
        client.expect(mqtt.SUBACK)
        gateway.publish("t", "hello")
        client.expect_publish("hello")
    unparked = 0 if flavour.is_parked else 1 + resumed
    assert gateway.metric("holdfast_tls_unparked_option_total") == unparked
    assert gateway.metric("holdfast_tls_unparked_state_total") == 0
    assert gateway.metric("holdfast_tls_handshakes_resumed_total") == resumed


@pytest.mark.parametrize("name", ["1.3", "1.3-unparked"])
def test_a_burst_comes_in_the_segment_of_finished(start_tls, name):
    flavour = Flavour(start_tls, name)
    flavour.start()
    sock = flavour.socket(handshake=False)
    with tls.Client(sock, "burst", connect=False) as client:
        finished = sock.handshake()
        payloads = [os.urandom(100) for _ in range(1500)]
        burst = mqtt.connect(mqtt.V5, "burst") + mqtt.subscribe(mqtt.V5, ["t"])
        burst += b"".join(mqtt.publish(mqtt.V5, "t", p) for p in payloads)
        sock.send_raw(finished + sock.seal(burst))
        client.expect(mqtt.CONNACK)
        client.expect(mqtt.SUBACK)
        for payload in payloads:
            client.expect_publish(payload)


@pytest.mark.parametrize("name", ["1.3", "1.3-unparked"])
def test_all_of_a_connection_comes_in_the_segment_of_finished(start_tls, name):
    """Also its end: what is before close_notify is heard, and then the connection ends."""
    flavour = Flavour(start_tls, name)
    gateway = flavour.start()
    with mqtt.Client(gateway.mqtt, "watcher") as watcher:
        watcher.subscribe("t")
        for end in (mqtt.disconnect(), b""):
            sock = flavour.socket(handshake=False)
            finished = sock.handshake()
            said = mqtt.connect(mqtt.V5, "brief") + mqtt.publish(mqtt.V5, "t", "all of it") + end
            sock.send_raw(finished + sock.seal(said) + sock.close_notify())
            watcher.expect_publish("all of it")
            gateway.wait_metric("holdfast_sessions", 1)
            sock.close()


def test_what_is_wrong_behind_finished_is_refused(start_tls):
    for name, flavour in [(n, Flavour(start_tls, n)) for n in ("1.3", "1.3-unparked")]:
        gateway = flavour.start()
        sock = flavour.socket(handshake=False)
        finished = sock.handshake()
        forged = bytearray(sock.seal(mqtt.connect(mqtt.V5, "x")))
        forged[-1] ^= 1
        sock.send_raw(finished + forged)
        with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
            sock.recv(100)
        sock.close()
        gateway.wait_metric(CLOSED, 1, reason="tls_bad_record")


# ---- records and packets

def test_many_packets_in_one_record(flavour):
    flavour.start()
    with flavour.client() as client:
        client.subscribe("t")
        payloads = [f"{i}".encode() * (i % 9) for i in range(800)]
        packets = b"".join(mqtt.publish(mqtt.V5, "t", p) for p in payloads)
        assert len(packets) < 16000
        echo(client, packets, payloads)


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_one_packet_over_many_records(flavour, piece):
    flavour.start()
    with flavour.client() as client:
        client.subscribe("t")
        payload = random.Random(piece).randbytes(300 * piece)
        packet = mqtt.publish(mqtt.V5, "t", payload)
        sealed = [client.sock.seal(packet[at:at + piece]) for at in range(0, len(packet), piece)]
        assert {len(tls.records(one)) for one in sealed} == {1}
        client.sock.send_raw(b"".join(sealed))
        client.expect_publish(payload)
        for one in [client.sock.seal(packet[at:at + piece]) for at in range(0, len(packet), piece)]:
            client.sock.send_raw(one)
        client.expect_publish(payload)
        assert client.is_open()


def test_segments_of_one_byte(flavour):
    flavour.start()
    sock = flavour.socket(handshake=False)
    sock.send_raw(sock.handshake(step=1), 1)
    with tls.Client(sock, "slow", connect=False) as client:
        sock.send_raw(sock.seal(mqtt.connect(mqtt.V5, "slow")), 1)
        client.expect(mqtt.CONNACK)
        sock.send_raw(sock.seal(mqtt.subscribe(mqtt.V5, ["t"])) + sock.seal(mqtt.publish(mqtt.V5, "t", "x" * 200)), 1)
        client.expect(mqtt.SUBACK)
        client.expect_publish("x" * 200)
        assert client.is_open()


@pytest.mark.parametrize("segment", [1447, 16384 + 22, 70000])
def test_large_packets_come_back_whole(flavour, segment):
    flavour.start()
    with flavour.client() as client:
        client.subscribe("t")
        payload = random.Random(segment).randbytes(1_000_000)
        client.sock.send_raw(client.sock.seal(mqtt.publish(mqtt.V5, "t", payload)), segment)
        client.expect_publish(payload)
        assert client.is_open()


def test_half_a_record_does_not_hold_up_what_comes_from_elsewhere(flavour):
    gateway = flavour.start()
    with flavour.client("c") as client:
        ping = client.sock.seal(mqtt.PING)
        for at in (1, 5, 6, len(ping) - 1):
            client.sock.send_raw(ping[:at])
            gateway.publish("clients/c", f"meanwhile {at}")
            client.expect_publish(f"meanwhile {at}")
            client.sock.send_raw(ping[at:])
            client.expect(mqtt.PINGRESP)
            ping = client.sock.seal(mqtt.PING)
        if flavour.is_parked:
            gateway.wait_metric("holdfast_connections_parked", 1)


def test_half_a_record_is_an_incomplete_packet(start_tls):
    flavour = Flavour(start_tls, "1.3")
    gateway = flavour.start(mqtt='packet_timeout = "1s"')
    with flavour.client("c") as client:
        client.sock.send_raw(client.sock.seal(mqtt.PING)[:-1])
        client.expect_closed()
        assert client.sock.closed_well
    gateway.wait_event("client_closed", client="c", reason="packet_timeout")


def test_a_client_that_does_not_read_gets_what_is_left_in_order(flavour):
    """What waits is sealed late: messages can be dropped before, and never in part."""
    gateway = flavour.start()
    with flavour.client("slow", rcvbuf=4096) as client:
        payloads = [f"{i:06}" + random.Random(i).randbytes(8000).hex() for i in range(120)]
        for payload in payloads:
            gateway.publish("clients/slow", payload)
        gateway.wait_metric("holdfast_fanouts_total", len(payloads))
        client.send(mqtt.PING)  # the answer may overtake what waits, but not cut it
        got = []
        while not got or got[-1] != payloads[-1]:
            packet = client.recv()
            if packet.type == mqtt.PUBLISH:
                got.append(packet.payload.decode())
        assert got == [p for p in payloads if p in set(got)]
        dropped = gateway.metric("holdfast_deliveries_dropped_total")
        assert dropped > 0 and len(got) == len(payloads) - dropped
        gateway.publish("clients/slow", "again")
        client.expect_publish("again")
        if flavour.is_parked:
            gateway.wait_metric("holdfast_connections_parked", 1)


# ---- the end

def test_close_notify_is_answered(flavour):
    gateway = flavour.start()
    with gateway.client("witness") as witness, flavour.client("c") as client:
        witness.subscribe("t")
        publish = client.sock.seal(mqtt.publish(mqtt.V5, "t", "last words"))
        client.sock.send_raw(publish + client.sock.close_notify())
        assert client.sock.recv(100) == b"" and client.sock.closed_well
        witness.expect_publish("last words")
    gateway.wait_event("client_closed", client="c", reason="peer_closed")


@pytest.mark.parametrize("how", ["disconnect", "takeover", "protocol error", "stop"])
def test_the_gateway_ends_with_close_notify(flavour, how):
    gateway = flavour.start()
    with flavour.client("c") as client:
        if how == "disconnect":
            client.send(mqtt.disconnect())
            client.expect_closed()
        elif how == "takeover":
            with gateway.client("c"):
                client.expect_disconnect(0x8E)
        elif how == "protocol error":
            client.send(mqtt.packet(mqtt.PINGRESP))
            client.expect_disconnect(0x82)
        else:
            gateway.process.terminate()
            client.expect_disconnect(0x8B)
            gateway.process.wait(20)
        assert client.sock.closed_well


def test_an_end_without_close_notify_is_an_end(flavour):
    gateway = flavour.start()
    with gateway.client("witness") as witness, flavour.client("fin") as fin, flavour.client("reset") as reset:
        witness.subscribe("t")
        fin.send(mqtt.publish(mqtt.V5, "t", "last words"))
        fin.sock.shutdown(socket.SHUT_WR)
        fin.sock.wait_fin()
        witness.expect_publish("last words")
        reset.ping()
        tls.reset(reset.sock)
        gateway.wait_event("client_closed", client="fin", reason="peer_closed")
        gateway.wait_event("client_closed", client="reset")
        gateway.wait_metric("holdfast_tls_connections", 0)
        witness.ping()


# ---- records that are wrong

def test_a_forged_record_gets_an_alert_and_is_counted(flavour):
    gateway = flavour.start(log_level="debug")
    with flavour.client("c") as client:
        forged = bytearray(client.sock.seal(mqtt.PING))
        forged[-1] ^= 1
        client.sock.send_raw(forged)
        with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
            client.recv()
        client.sock.wait_fin()
    gateway.wait_metric(CLOSED, 1, reason="tls_bad_record")
    gateway.wait_event("client_closed", client="c", reason="tls_bad_record")
    if flavour.is_parked:
        assert gateway.wait_event("tls_bad_record")["error"]


@pytest.mark.parametrize("what", ["repeated", "left out", "swapped"])
def test_records_out_of_order_are_refused(flavour, what):
    gateway = flavour.start()
    with flavour.client("c") as client:
        one, two = client.sock.seal(mqtt.PING), client.sock.seal(mqtt.PING)
        if what == "repeated":
            client.sock.send_raw(one)
            client.expect(mqtt.PINGRESP)
        client.sock.send_raw({"repeated": one, "left out": two, "swapped": two + one}[what])
        with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
            client.recv()
    gateway.wait_metric(CLOSED, 1, reason="tls_bad_record")


def read_to_end(sock):
    """What comes before the other end closes, in either way."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(4096):
            got += data
    return got


def header(kind, length, version=b"\x03\x03"):
    return bytes([kind]) + version + length.to_bytes(2, "big")


MALFORMED = {
    "another content type": (lambda seal: header(99, 20) + bytes(20), "ALERT_UNEXPECTED_MESSAGE"),
    "too long": (lambda seal: header(tls.DATA, 16384 + 4096) + bytes(100), "ALERT_RECORD_OVERFLOW"),
    "too short": (lambda seal: header(tls.DATA, 3) + bytes(3), "ALERT_(BAD_RECORD_MAC|DECODE_ERROR)"),
    "another version": (lambda seal: b"\x17\x05\x00" + seal(mqtt.PING)[3:], "ALERT_(PROTOCOL_VERSION|BAD_RECORD_MAC)"),
    "plaintext MQTT": (lambda seal: mqtt.publish(mqtt.V5, "topic", "x" * 40), "ALERT_UNEXPECTED_MESSAGE"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_record_gets_the_alert_that_names_it(parked, what):
    make, alert = MALFORMED[what]
    gateway = parked.start()
    with parked.client("c") as client:
        client.ping()
        client.sock.send_raw(make(client.sock.seal))
        with pytest.raises(ssl.SSLError, match=alert):
            client.recv()
    gateway.wait_metric(CLOSED, 1, reason="tls_bad_record")
    gateway.wait_metric("holdfast_tls_connections", 0)


def test_what_came_before_a_forged_record_is_answered(flavour):
    gateway = flavour.start(log_level="debug")
    with flavour.client("c") as client:
        good, forged = client.sock.seal(mqtt.PING), bytearray(client.sock.seal(mqtt.PING))
        forged[-1] ^= 1
        client.sock.send_raw(good + forged)
        client.expect(mqtt.PINGRESP)
        with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
            client.recv()
    gateway.wait_metric(CLOSED, 1, reason="tls_bad_record")
    if flavour.is_parked:
        gateway.wait_event("tls_bad_record")


class Damaged(tls.TlsSocket):
    """Flips a bit of one byte of all that it sends."""
    spot = bit = passed = 0

    def send_raw(self, data, step=None):
        data = bytearray(data)
        if 0 <= self.spot - self.passed < len(data):
            data[self.spot - self.passed] ^= 1 << self.bit
        self.passed += len(data)
        super().send_raw(data, step)


@pytest.mark.parametrize("name", FLAVOURS)
def test_a_flipped_bit_harms_nobody_else(start_tls, name):
    flavour = Flavour(start_tls, name)
    gateway = flavour.start()
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    dice = random.Random(seed)
    with flavour.client("witness") as witness:
        for i in range(60):
            sock = Damaged(gateway.secure, flavour.context, handshake=False)
            sock.spot, sock.bit = dice.randrange(700), dice.randrange(8)
            sock.settimeout(0.1)  # a longer length leaves both waiting
            with contextlib.suppress(ssl.SSLError, OSError, mqtt.Closed):
                sock.send_raw(sock.handshake())
                sock.send_raw(sock.seal(mqtt.connect(mqtt.V5, f"{i}") + mqtt.PING * 3))
                sock.send_raw(sock.seal(mqtt.PING))
                sock.send_raw(sock.close_notify())
                while sock.recv(100):
                    pass
            sock.close()
            witness.ping()
        gateway.wait_metric("holdfast_connections", 1)
        assert gateway.metric("holdfast_tls_connections") == 1
        assert gateway.metric("holdfast_tls_handshakes_in_progress") == 0


# ---- what is not TLS, and TLS where it should not be

@pytest.mark.parametrize("data", [mqtt.connect(mqtt.V5, "c"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100,
                                  b"\x16\x03\x01\xff\xff" + bytes(100), b"\x80\x2e\x01\x03\x01" + bytes(60)],
                         ids=["MQTT", "HTTP", "zeros", "a record too long", "SSLv2"])
def test_what_is_not_tls_is_closed_and_logged(tls_gateway, data):
    with mqtt.Client(tls_gateway.secure, connect=False) as client:
        client.send(data)
        read_to_end(client.sock)  # an alert may come first
    tls_gateway.wait_metric(CLOSED, 1, reason="tls_handshake_failed")
    assert tls_gateway.metric("holdfast_tls_handshakes_failed_total") == 1
    event = tls_gateway.wait_event("tls_handshake_failed")
    assert event["error"] != "unknown" and event["address"].startswith("127.0.0.1:")
    tls_gateway.wait_metric("holdfast_tls_handshakes_in_progress", 0)
    tls.client(tls_gateway).close()


def test_tls_on_a_plaintext_listener_is_closed_and_logged(tls_gateway):
    with pytest.raises((ssl.SSLError, OSError)):
        tls.TlsSocket(tls_gateway.mqtt)
    # A TLS record begins like a CONNECT with reserved flags.
    tls_gateway.wait_event("client_closed", reason="malformed_packet", listener="clients")
    tls_gateway.wait_metric(CLOSED, 1, reason="malformed_packet")


def test_http_over_tls_is_told_where_it_is(flavour):
    gateway = flavour.start()
    sock = flavour.socket()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while data := sock.recv(1000):
        answer += data
    assert sock.closed_well and answer.startswith(b"HTTP/1.1 400 ") and b"This port speaks MQTT" in answer
    sock.close()
    gateway.wait_metric(CLOSED, 1, reason="not_mqtt")


def test_a_client_that_refuses_the_certificate_is_counted(tls_gateway):
    for version in (V12, V13):
        picky = tls.context(version)
        picky.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(ssl.SSLCertVerificationError):
            tls.TlsSocket(tls_gateway.secure, picky)
    tls_gateway.wait_metric("holdfast_tls_handshakes_failed_total", 2)
    errors = [event["error"] for event in tls_gateway.events("tls_handshake_failed")]
    assert errors == ["tlsv1 alert unknown ca"] * 2


# ---- handshakes that do not end, and too many at once

def client_hello():
    """The first flight of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        tls.context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_handshake_that_stops_in_the_middle_is_closed(start_tls):
    gateway = start_tls(listener='handshake_timeout = "300ms"')
    hello = client_hello()
    with tls.client(gateway, "witness") as witness:
        started = {"nothing": b"", "a byte": hello[:1], "half of ClientHello": hello[:100], "ClientHello": hello}
        clients = [mqtt.Client(gateway.secure, connect=False) for _ in started]
        for client, data in zip(clients, started.values()):
            client.send(data)
        for client in clients:
            with client:
                read_to_end(client.sock)
        gateway.wait_metric(CLOSED, len(started), reason="tls_handshake_timeout")
        gateway.wait_metric("holdfast_tls_handshakes_in_progress", 0)
        witness.ping()


def test_a_handshake_that_the_client_ends_is_forgotten(tls_gateway):
    hello = client_hello()
    for data in (b"", hello[:50], hello):
        for end in (lambda c: c.close(), lambda c: c.abort()):
            client = mqtt.Client(tls_gateway.secure, connect=False)
            client.send(data)
            end(client)
    tls_gateway.wait_metric("holdfast_connections_accepted_total", 6)
    tls_gateway.wait_metric("holdfast_connections", 0)
    assert tls_gateway.metric("holdfast_tls_handshakes_in_progress") == 0
    tls.client(tls_gateway).close()


def test_what_is_silent_after_its_handshake_has_the_time_for_connect(start_tls):
    gateway = start_tls(mqtt='connect_timeout = "200ms"')
    sock = tls.TlsSocket(gateway.secure)
    assert sock.recv(100) == b"" and sock.closed_well
    sock.close()
    gateway.wait_metric(CLOSED, 1, reason="connect_timeout")


@pytest.mark.parametrize("waiting", ["silent", "in the middle"])
def test_handshakes_above_the_limit_wait_until_others_end(start_tls, waiting):
    gateway = start_tls(listener="max_handshakes = 4", log_level="debug")
    with gateway.client("plain") as plain, tls.client(gateway, "done") as done:
        held = [mqtt.Client(gateway.secure, connect=False) for _ in range(4)]
        for client in held:
            client.send(b"" if waiting == "silent" else client_hello())
        gateway.wait_metric("holdfast_tls_handshakes_in_progress", 4)
        late = [mqtt.Client(gateway.secure, connect=False) for _ in range(6)]
        for client in late:
            client.send(client_hello())
        # Others are served meanwhile, and when that has been seen these had their chance, too.
        plain.ping()
        done.ping()
        late[0].expect_silence(0.1)
        assert gateway.metric("holdfast_connections") == 2 + 4
        for client in held:
            client.close()
        for client in late:
            assert client.sock.recv(100)  # of the server's flight
            client.close()
        tls.client(gateway, "last").close()
    gateway.wait_metric("holdfast_tls_handshakes_in_progress", 0)


def test_silent_connections_do_not_lock_others_out(start_tls):
    gateway = start_tls(listener='max_handshakes = 2  handshake_timeout = "200ms"')
    silent = [mqtt.Client(gateway.secure, connect=False) for _ in range(3)]
    with tls.client(gateway, "patient") as client:
        assert client.is_open()
    gateway.wait_metric(CLOSED, 3, reason="tls_handshake_timeout")
    for client in silent:
        client.close()


def test_a_crowd_is_served_through_a_narrow_door(start_tls):
    gateway = start_tls(listener="max_handshakes = 1", workers=2)
    socks = [tls.TlsSocket(gateway.secure, handshake=False) for _ in range(30)]
    order = list(range(len(socks)))
    random.Random(1).shuffle(order)
    clients = []
    # Each worker lets in one at a time, and only those who come first in its backlog: all speak, then all listen.
    for sock in socks:
        with pytest.raises(ssl.SSLWantReadError):
            sock.tls.do_handshake()
        sock.send_raw(sock.outgoing.read())
    for sock in socks:
        sock.send_raw(sock.handshake())
        clients.append(tls.Client(sock, f"c{len(clients)}"))
    for client in clients:
        client.close()
    assert gateway.metric("holdfast_tls_handshakes_v13_total") == len(clients)


# ---- integrity

@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 16385, 65536, 200_000])
def test_sizes_around_the_limits_of_records(parked, size):
    gateway = parked.start()
    with parked.client("c") as client:
        payload = random.Random(size).randbytes(size)
        client.subscribe("t")
        for pad in range(4):
            echo(client, mqtt.publish(mqtt.V5, "t", payload + b"." * pad), [payload + b"." * pad])
        gateway.publish("clients/c", hashlib.sha256(payload).hexdigest())
        client.expect_publish(hashlib.sha256(payload).hexdigest())


# ---- what the API tells of a connection

def told(gateway, client_id):
    """The fields of GET /v1/clients/{id} that are about TLS."""
    body = gateway.http("GET", f"/v1/clients/{client_id}").json
    return body["tls"], body["identity"]


@pytest.mark.parametrize("name,suite", [("1.3", "TLS 1.3 AES-"), ("1.2", "TLS 1.2 AES-"), ("1.3-unparked", "TLSv1.3 TLS_AES_"),
                                        ("1.2-unparked", "TLSv1.2 ECDHE-")])
def test_the_api_names_version_and_suite(start_tls, name, suite):
    flavour = Flavour(start_tls, name)
    gateway = flavour.start()
    with flavour.client("secure"), gateway.client("plain"):
        gateway.wait_registered(2)
        text, identity = told(gateway, "secure")
        assert text.startswith(suite) and text.endswith(" (not parked)") == (not flavour.is_parked)
        assert identity is None and told(gateway, "plain") == (None, None)


@pytest.mark.parametrize("version", [V13, V12])
@pytest.mark.parametrize("option,identity", [("", "client"), ("identity = cn", "client"), ("identity = san", "client@test")])
def test_the_api_names_the_owner_of_a_client_certificate(start_tls, certs, option, identity, version):
    gateway = start_tls(f'client_certificate = optional  ca = "{certs}/ca.pem"  {option}')
    known = tls.context(version, certificate=(certs / "client.pem", certs / "client.key"))
    with tls.client(gateway, "known", known) as client, tls.client(gateway, "unknown", tls.context(version)):
        gateway.wait_registered(2)
        assert told(gateway, "known")[1] == identity and told(gateway, "unknown")[1] is None
        assert gateway.events("client_connected", client="known", identity=identity)
        client.ping()
        ticket = client.sock.session
    gateway.wait_registered(0)
    with tls.client(gateway, "again", known, session=ticket):
        gateway.wait_registered(1)
        assert told(gateway, "again")[1] == identity, "a resumed handshake brings no certificate, and is the same client"
    assert gateway.metric("holdfast_tls_handshakes_resumed_total") == 1


def test_a_session_whose_client_is_away_says_nothing_of_tls(start_tls):
    gateway = start_tls()
    with tls.client(gateway, "sleeper", **session()):
        gateway.wait_registered(1)
        assert told(gateway, "sleeper")[0]
    wait_for(lambda: not gateway.http("GET", "/v1/clients/sleeper").json["connected"], "away")
    assert not {"tls", "identity"} & set(gateway.http("GET", "/v1/clients/sleeper").json)
