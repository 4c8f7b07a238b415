"""A plain MQTT client on a blocking socket, for tests that need to see and send every byte.

Encodes and decodes on its own, so that a mistake in the gateway's codec cannot hide behind the same mistake here.
Sources: MQTT 3.1.1 and 5.0. Nothing happens in the background: what is not received stays in the socket.
"""

import contextlib
import os
import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)
NAMES = ["RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]

V311, V5 = 4, 5
# Subscription options (MQTT 5.0 section 3.8.3.1), to be or-ed with the QoS.
NO_LOCAL, RETAIN_AS_PUBLISHED, RETAINED_IF_NEW, RETAINED_NEVER = 0x04, 0x08, 0x10, 0x20
PATIENCE = float(os.environ.get("HOLDFAST_PATIENCE", 10))  # seconds; only ever reached by a failing test

# Property identifiers and types (MQTT 5.0 section 2.2.2.2).
PROPERTY = {
    "payload_format": (0x01, "byte"), "message_expiry": (0x02, "four"), "content_type": (0x03, "text"),
    "response_topic": (0x08, "text"), "correlation_data": (0x09, "binary"), "subscription_id": (0x0B, "varint"),
    "session_expiry": (0x11, "four"), "assigned_client_id": (0x12, "text"), "server_keep_alive": (0x13, "two"),
    "auth_method": (0x15, "text"), "auth_data": (0x16, "binary"), "request_problem": (0x17, "byte"),
    "will_delay": (0x18, "four"), "request_response": (0x19, "byte"), "response_info": (0x1A, "text"),
    "server_reference": (0x1C, "text"), "reason_string": (0x1F, "text"), "receive_max": (0x21, "two"),
    "topic_alias_max": (0x22, "two"), "topic_alias": (0x23, "two"), "maximum_qos": (0x24, "byte"),
    "retain_available": (0x25, "byte"), "user": (0x26, "pair"), "maximum_packet_size": (0x27, "four"),
    "wildcard_available": (0x28, "byte"), "subscription_id_available": (0x29, "byte"),
    "shared_available": (0x2A, "byte"),
}
BY_ID = {number: (name, kind) for name, (number, kind) in PROPERTY.items()}


class Closed(Exception):
    """The peer has closed the connection, or reset it."""


class Silence(Exception):
    """Nothing came within the time allowed."""


# ---- encoding

def varint(n):
    out = bytearray()
    while True:
        n, low = divmod(n, 128)
        out.append(low | (0x80 if n else 0))
        if not n:
            return bytes(out)


def binary(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("!H", len(data)) + data


def properties(values):
    """A property list with its length in front. `user` is a list of pairs; any other may be a list to repeat it."""
    body = b""
    for name, value in (values or {}).items():
        number, kind = PROPERTY[name]
        for one in value if isinstance(value, list) else [value]:
            body += bytes([number])
            if kind == "byte":
                body += struct.pack("!B", one)
            elif kind == "two":
                body += struct.pack("!H", one)
            elif kind == "four":
                body += struct.pack("!I", one)
            elif kind == "varint":
                body += varint(one)
            elif kind == "pair":
                body += binary(one[0]) + binary(one[1])
            else:
                body += binary(one)
    return varint(len(body)) + body


def packet(kind, flags=0, body=b""):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connect(version=V5, client_id="", keepalive=60, clean=True, props=None, will=None, username=None, password=None,
            protocol=b"MQTT", level=None, flags=None):
    """`will`: (topic, payload) or (topic, payload, qos, retain, props)."""
    bits = 0x02 if clean else 0
    payload = binary(client_id)
    if will:
        topic, message, qos, retain, will_props = tuple(will) + (0, 0, None)[len(will) - 2:]
        bits |= 0x04 | qos << 3 | (0x20 if retain else 0)
        if version == V5:
            payload += properties(will_props)
        payload += binary(topic) + binary(message)
    if username is not None:
        bits |= 0x80
        payload += binary(username)
    if password is not None:
        bits |= 0x40
        payload += binary(password)
    body = binary(protocol) + bytes([version if level is None else level, bits if flags is None else flags])
    body += struct.pack("!H", keepalive)
    if version == V5:
        body += properties(props)
    return packet(CONNECT, 0, body + payload)


def publish(version, topic, payload=b"", qos=0, retain=False, dup=False, packet_id=1, props=None):
    payload = payload.encode() if isinstance(payload, str) else payload
    body = binary(topic)
    if qos:
        body += struct.pack("!H", packet_id)
    if version == V5:
        body += properties(props)
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body + payload)


def subscribe(version, filters, packet_id=1, props=None):
    """`filters`: names, or (name, options byte) pairs."""
    body = struct.pack("!H", packet_id)
    if version == V5:
        body += properties(props)
    for entry in filters:
        name, options = entry if isinstance(entry, tuple) else (entry, 0)
        body += binary(name) + bytes([options])
    return packet(SUBSCRIBE, 2, body)


def unsubscribe(version, filters, packet_id=1, props=None):
    body = struct.pack("!H", packet_id)
    if version == V5:
        body += properties(props)
    return packet(UNSUBSCRIBE, 2, body + b"".join(binary(f) for f in filters))


def disconnect(version=V5, code=0, props=None):
    if version != V5 or (code == 0 and not props):
        return packet(DISCONNECT)
    return packet(DISCONNECT, 0, bytes([code]) + properties(props))


def ack(kind, version, packet_id, code=0, props=None, flags=None):
    """PUBACK, PUBREC, PUBREL, PUBCOMP. The shortest form that says it, as most clients do."""
    body = struct.pack("!H", packet_id)
    if version == V5 and (code or props):
        body += bytes([code]) + (properties(props) if props else b"")
    return packet(kind, (2 if kind == PUBREL else 0) if flags is None else flags, body)


PING = packet(PINGREQ)


# ---- decoding

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        assert self.at + n <= len(self.data), "packet ends in the middle of a field"
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def varint(self):
        n = shift = 0
        while True:
            byte = self.number(1)
            n |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return n

    def binary(self):
        return self.take(self.number(2))

    def rest(self):
        return self.take(len(self.data) - self.at)

    def properties(self):
        end = self.varint() + self.at
        found = {}
        while self.at < end:
            name, kind = BY_ID[self.varint()]
            if kind == "pair":
                found.setdefault(name, []).append((self.binary().decode(), self.binary().decode()))
                continue
            value = {"byte": lambda: self.number(1), "two": lambda: self.number(2), "four": lambda: self.number(4),
                     "varint": self.varint, "text": lambda: self.binary().decode(), "binary": self.binary}[kind]()
            if name == "subscription_id":
                found.setdefault(name, []).append(value)
                continue
            assert name not in found, f"{name} twice"
            found[name] = value
        assert self.at == end, "properties are longer than their length says"
        return found


class Packet:
    """A received packet. Attributes by type: code, session_present, topic, payload, qos, retain, dup, packet_id,
    codes, props. A Subscription Identifier may come several times and is a list."""

    def __init__(self, version, first, body):
        self.type, self.flags, self.body = first >> 4, first & 15, body
        self.props = {}
        r = Reader(body)
        if self.type == CONNACK:
            self.session_present, self.code = r.number(1), r.number(1)
            if version == V5:
                self.props = r.properties()
        elif self.type == PUBLISH:
            self.qos, self.retain, self.dup = self.flags >> 1 & 3, bool(self.flags & 1), bool(self.flags & 8)
            self.topic = r.binary().decode()
            self.packet_id = r.number(2) if self.qos else 0
            if version == V5:
                self.props = r.properties()
            self.payload = r.rest()
        elif self.type in (SUBACK, UNSUBACK):
            self.packet_id = r.number(2)
            if version == V5:
                self.props = r.properties()
            self.codes = list(r.rest())
        elif self.type in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            assert self.flags == (2 if self.type == PUBREL else 0), f"flags {self.flags}"
            self.packet_id, self.code = r.number(2), 0
            if version == V5 and len(body) > 2:
                self.code = r.number(1)
                if len(body) > 3:
                    self.props = r.properties()
        elif self.type == DISCONNECT:
            self.code = r.number(1) if body else 0
            if len(body) > 1:
                self.props = r.properties()
        assert r.at == len(body), "bytes after the packet's end"

    def __repr__(self):
        shown = {k: v for k, v in vars(self).items() if k not in ("type", "body", "flags")}
        return f"{NAMES[self.type]}({shown})"


class Client:
    """A connection. With `connect` (the default) CONNECT is sent and CONNACK awaited."""

    def __init__(self, address, client_id="", version=V5, connect=True, rcvbuf=None, source=None, timeout=PATIENCE,
                 **options):
        self.version, self.client_id, self.buffer, self.eof = version, client_id, bytearray(), False
        self.passed_over = []  # publishes that came while something else was waited for
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if connect:
                self.connack = self.login(**options)
        except BaseException:
            self.sock.close()
            raise

    def login(self, timeout=PATIENCE, expect_code=0, **options):
        self.send(connect(self.version, self.client_id, **options))
        answer = self.expect(CONNACK, timeout)
        assert answer.code == expect_code, answer
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def abort(self):
        """Ends with a reset instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @property
    def port(self):
        return self.sock.getsockname()[1]

    def send(self, data):
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from e

    def fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Silence()
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, TimeoutError) as e:
            raise Silence() from e
        except ConnectionResetError as e:
            self.eof = True
            raise Closed(str(e)) from e
        if not data:
            self.eof = True
            raise Closed()
        self.buffer += data

    def parse(self):
        """The packet at the start of the buffer, or None."""
        n = shift = 0
        for at in range(1, min(len(self.buffer), 5)):
            byte = self.buffer[at]
            n |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                end = at + 1 + n
                if len(self.buffer) < end:
                    return None
                found = Packet(self.version, self.buffer[0], bytes(self.buffer[at + 1:end]))
                del self.buffer[:end]
                return found
        assert len(self.buffer) < 5, "a length of more than four bytes"
        return None

    def recv(self, timeout=PATIENCE):
        """The next packet. Raises Closed or Silence."""
        if self.passed_over:
            return self.passed_over.pop(0)
        deadline = time.monotonic() + timeout
        while True:
            found = self.parse()
            if found:
                return found
            if self.eof:
                raise Closed()
            self.fill(deadline)

    def expect(self, kind, timeout=PATIENCE):
        """The next packet, which must be of this type."""
        found = self.recv(timeout)
        assert found.type == kind, f"{NAMES[kind]} expected, {found} came"
        return found

    def expect_publish(self, payload=None, topic=None, timeout=PATIENCE):
        found = self.expect(PUBLISH, timeout)
        if payload is not None:
            assert found.payload == (payload.encode() if isinstance(payload, str) else payload), found
        if topic is not None:
            assert found.topic == topic, found
        return found

    def expect_silence(self, seconds=0.3):
        """Nothing comes: the only kind of test that waits for its result."""
        with contextlib.suppress(Silence):
            found = self.recv(seconds)
            raise AssertionError(f"silence expected, {found} came")

    def expect_closed(self, timeout=PATIENCE):
        """The peer closes; returns what it said before, as packets."""
        said = []
        with contextlib.suppress(Closed):
            while True:
                said.append(self.recv(timeout))
        assert not self.buffer, f"closed in the middle of a packet: {bytes(self.buffer)!r}"
        return said

    def expect_disconnect(self, code, timeout=PATIENCE):
        """DISCONNECT with this reason code (5.0), then the end; just the end for 3.1.1."""
        said = self.expect_closed(timeout)
        if self.version != V5:
            assert said == [], said
            return
        assert [p.type for p in said] == [DISCONNECT] and said[0].code == code, said

    def subscribe(self, *filters, packet_id=1, props=None):
        """Subscribes and returns the codes of SUBACK."""
        self.send(subscribe(self.version, filters, packet_id, props))
        answer = self.expect(SUBACK)
        assert answer.packet_id == packet_id, answer
        return answer.codes

    def unsubscribe(self, *filters, packet_id=1):
        self.send(unsubscribe(self.version, filters, packet_id))
        answer = self.expect(UNSUBACK)
        assert answer.packet_id == packet_id, answer
        return answer.codes

    def publish(self, topic, payload=b"", **options):
        self.send(publish(self.version, topic, payload, **options))

    def ack(self, kind, packet_id, code=0, props=None):
        """Sends PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self.send(ack(kind, self.version, packet_id, code, props))

    def expect_ack(self, kind, packet_id, code=None, timeout=PATIENCE):
        """The next packet, which must be this acknowledgement. Without `code`, any that means success."""
        found = self.expect(kind, timeout)
        assert found.packet_id == packet_id, found
        assert found.code < 0x80 if code is None else found.code == code, found
        return found

    def wait_ack(self, kind, packet_id, code=None, timeout=PATIENCE):
        """As expect_ack(), but messages that come before are put aside, for recv() to give later."""
        aside, self.passed_over = self.passed_over, []
        deadline = time.monotonic() + timeout
        while True:
            found = self.recv(deadline - time.monotonic())
            if found.type != PUBLISH:
                break
            aside.append(found)
        self.passed_over = aside
        assert found.type == kind and found.packet_id == packet_id, f"{NAMES[kind]} {packet_id} expected, {found} came"
        assert found.code < 0x80 if code is None else found.code == code, found
        return found

    def publish_acked(self, topic, payload=b"", qos=1, packet_id=1, **options):
        """Publishes with QoS 1 or 2 and goes through the whole exchange."""
        self.publish(topic, payload, qos=qos, packet_id=packet_id, **options)
        if qos == 1:
            return self.wait_ack(PUBACK, packet_id)
        first = self.wait_ack(PUBREC, packet_id)
        self.ack(PUBREL, packet_id)
        self.wait_ack(PUBCOMP, packet_id, 0)
        return first

    def acknowledge(self, message):
        """Answers a PUBLISH and goes through the whole exchange."""
        if message.qos == 1:
            self.ack(PUBACK, message.packet_id)
        elif message.qos == 2:
            self.ack(PUBREC, message.packet_id)
            self.wait_ack(PUBREL, message.packet_id, 0)
            self.ack(PUBCOMP, message.packet_id)
        return message

    def take(self, payload=None, topic=None, qos=None, timeout=PATIENCE):
        """Receives one message and acknowledges it."""
        message = self.expect_publish(payload, topic, timeout)
        assert qos is None or message.qos == qos, message
        return self.acknowledge(message)

    def take_all(self, count=None, until=None, timeout=PATIENCE):
        """Receives `count` messages, or those up to the one with the payload `until`, answers each at once, and returns
        them when every exchange is complete. As exchanges overlap, order among acknowledgements is not looked at."""
        found, open_ids, ended = [], set(), False
        deadline = time.monotonic() + timeout
        while not ended or open_ids:
            packet_ = self.recv(deadline - time.monotonic())
            if packet_.type == PUBREL:
                assert packet_.packet_id in open_ids, f"{packet_}, open: {open_ids}"
                open_ids.discard(packet_.packet_id)
                self.ack(PUBCOMP, packet_.packet_id)
                continue
            assert packet_.type == PUBLISH, f"PUBLISH expected, {packet_} came"
            found.append(packet_)
            if packet_.qos:
                self.ack(PUBACK if packet_.qos == 1 else PUBREC, packet_.packet_id)
            if packet_.qos == 2:
                open_ids.add(packet_.packet_id)
            ended = len(found) == count or (until is not None and packet_.payload == until)
        return found

    def leave(self, code=0, props=None):
        """DISCONNECT, and the end of the connection."""
        self.send(disconnect(self.version, code, props))
        assert self.expect_closed() == []
        self.close()

    def ping(self, timeout=PATIENCE):
        """A round trip: everything sent before has been dealt with when it returns."""
        self.send(PING)
        self.expect(PINGRESP, timeout)

    def is_open(self):
        """Whether a round trip works; packets that come meanwhile are an error."""
        try:
            self.ping()
            return True
        except Closed:
            return False
