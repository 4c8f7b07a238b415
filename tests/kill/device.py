"""MQTT 5 clients for the kill test: correct ones, whose state outlives their connections.

A client here does what the standard demands of one that stores its session (MQTT 5.0 section 4.1): a publisher keeps what
was not acknowledged and sends it again, in order, with DUP; a subscriber keeps the identifiers of QoS 2 messages it has
received and not seen released, and drops what comes a second time under one of them. Everything runs on one asyncio loop;
a client is never killed itself, so its state may be in memory.

What a gateway must not do on a single connection is checked on the way, by complain(); what must have arrived in the end
is the business of driver.py.

A payload is the number of the message and that of its transmission, "17/2", and dots: a publisher that sends one of QoS 1
again makes a new message, and a subscriber can tell it from one that the gateway sends again.
"""

import asyncio
import collections
import socket
import struct

import mqtt_raw as mqtt
from mqtt_raw import CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, V5

EXPIRY = 24 * 3600
ANSWER_TIMEOUT = 15  # seconds without CONNACK, or without any byte on a connection that waits for an answer


class Gone(Exception):
    """The connection has ended, or was ended."""


class Device:
    """A session with its connection, made again whenever it is lost."""

    def __init__(self, world, client_id, receive_max=100):
        self.world, self.client_id, self.receive_max = world, client_id, receive_max
        self.tamper = None  # an object that changes what comes and goes, to see whether that is noticed
        self.known = False  # a CONNACK has come: from now on the session must be present
        self.stopped = False
        self.reader = self.writer = None
        self.connections = 0

    # ---- connection

    async def connect(self):
        """Connects and logs in; raises Gone when that does not work out."""
        try:
            # A small send buffer: what was written to a dead peer should not hide for long.
            self.reader, self.writer = await asyncio.wait_for(asyncio.open_connection(*self.world.address), 5)
            self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.send(mqtt.connect(V5, self.client_id, keepalive=60, clean=False, props={
                "session_expiry": EXPIRY, "receive_max": self.receive_max}))
            answer = await asyncio.wait_for(self.receive(), ANSWER_TIMEOUT)
        except (OSError, asyncio.TimeoutError) as e:
            self.hang_up()
            raise Gone(str(e)) from e
        if answer.type != CONNACK or answer.code:
            self.world.count(f"connect answered with {answer.code:#x}" if answer.type == CONNACK else "no connack")
            self.hang_up()
            raise Gone(repr(answer))
        if self.known and not answer.session_present:
            self.complain("its session is gone")
        self.connections += 1
        self.window = answer.props.get("receive_max", 65535)
        present, self.known = answer.session_present, True
        return present

    def send(self, data):
        if not self.tamper or self.tamper.lets_out(self, data):
            self.writer.write(data)

    def complain(self, what):
        self.world.complain(f"{self.client_id}: {what}", self.client_id)

    def tell(self, what):
        """For the history."""
        self.world.tell(self.client_id, f"connection {self.connections}: {what}")

    def hang_up(self, reset=False):
        if self.writer:
            if reset:
                self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                                struct.pack("ii", 1, 0))
            self.writer.close()
        self.reader = self.writer = None

    async def receive(self):
        """The next packet; Gone when there is none any more."""
        packet = await self.tamper.next(self) if self.tamper else await self.receive_one()
        self.tell(packet)
        if packet.type == DISCONNECT:
            self.world.count(f"disconnect {packet.code:#x}")
            if packet.code in (0x81, 0x82, 0x93, 0x94, 0x95, 0x9B) or (packet.code == 0x8E and not self.may_be_taken_over):
                self.complain(packet)
            raise Gone(repr(packet))
        return packet

    async def receive_one(self):
        try:
            head = await self.reader.readexactly(1)
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            return mqtt.Packet(V5, head[0], await self.reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError) as e:
            raise Gone(str(e)) from e

    may_be_taken_over = False

    async def run(self):
        """Lives until it is stopped."""
        while not self.stopped:
            try:
                present = await self.connect()
                await self.live(present)
            except Gone:
                pass
            finally:
                self.hang_up()
            if not self.stopped:
                await asyncio.sleep(self.world.dice.uniform(0.01, 0.15))


class Publisher(Device):
    """Publishes numbered messages, up to a window at once; each topic has one QoS and its own count."""

    def __init__(self, world, client_id, topics, pace, in_flight=10):
        super().__init__(world, client_id)
        self.topics, self.pace, self.in_flight = topics, pace, in_flight
        self.next = collections.Counter()  # topic -> how many were sent
        # packet id -> [topic, n, qos, "sent" | "released", how often it was sent], in the order of sending
        self.open = collections.OrderedDict()
        self.last_id = 0
        self.is_publishing = True
        self.taken = 0  # messages acknowledged

    def acknowledged(self, topic, n):
        self.taken += 1
        self.world.acknowledged(topic, n)

    def new_id(self):
        while True:
            self.last_id = self.last_id % 65535 + 1
            if self.last_id not in self.open:
                return self.last_id

    def publish(self):
        topic, qos = self.world.dice.choice(self.topics)
        packet_id, n = self.new_id(), self.next[topic]
        self.next[topic] += 1
        self.open[packet_id] = [topic, n, qos, "sent", 0]
        self.transmit(packet_id)

    def transmit(self, packet_id, dup=False):
        topic, n, qos, state, times = self.open[packet_id]
        self.tell(f"sends {packet_id} {topic} {n} {state} {times}")
        if state == "sent":
            self.open[packet_id][4] += 1
            self.send(mqtt.publish(V5, topic, self.world.payload(n, times), qos=qos, packet_id=packet_id, dup=dup))
        else:
            self.send(mqtt.ack(PUBREL, V5, packet_id))

    async def live(self, present):
        for packet_id in list(self.open):
            self.transmit(packet_id, dup=True)
        sender = asyncio.ensure_future(self.keep_publishing())
        try:
            while not self.stopped:
                limit = ANSWER_TIMEOUT if self.open else 3600
                try:
                    packet = await asyncio.wait_for(self.receive(), limit)
                except asyncio.TimeoutError:
                    self.world.unanswered(self.client_id, len(self.open))
                    raise Gone("no answer") from None
                self.handle(packet)
        finally:
            sender.cancel()

    async def keep_publishing(self):
        while True:
            if self.is_publishing and len(self.open) < min(self.in_flight, self.window):
                self.publish()
            await asyncio.sleep(self.world.dice.expovariate(1 / self.pace))

    def handle(self, packet):
        if packet.type not in (PUBACK, PUBREC, PUBCOMP):
            self.complain(packet)
            return
        entry = self.open.get(packet.packet_id)
        if entry is None:
            self.complain(f"{packet} for nothing")
            return
        topic, n, qos, state, times = entry
        if packet.type != PUBCOMP and packet.code >= 0x80:
            self.world.count(f"publish refused with {packet.code:#x}")
            # One of QoS 1 that was sent before may have been kept then.
            self.world.refuse(topic, n, is_certain=qos == 2 or times == 1)
            del self.open[packet.packet_id]
        elif packet.type == PUBACK:
            if qos != 1:
                self.complain(f"{packet} for QoS {qos}")
            self.acknowledged(topic, n)
            del self.open[packet.packet_id]
        elif packet.type == PUBREC:
            if qos != 2:
                self.complain(f"{packet} for QoS {qos}")
            if state == "sent":
                self.acknowledged(topic, n)
                entry[3] = "released"
            self.send(mqtt.ack(PUBREL, V5, packet.packet_id))
        else:
            if state != "released":
                self.complain(f"{packet} before PUBREC")
            del self.open[packet.packet_id]


class Subscriber(Device):
    """Takes messages and notes them, by topic in the order of coming. `delay` is the time it takes to acknowledge one."""

    def __init__(self, world, client_id, topic_filter, qos, receive_max=100, delay=0.0, naps=None):
        super().__init__(world, client_id, receive_max)
        self.filter, self.qos, self.delay, self.naps = topic_filter, qos, delay, naps
        self.got = collections.defaultdict(list)  # topic -> numbers, as the application sees them
        self.seen = {}  # (topic, payload) -> the connection on which it came first
        self.received = {}  # QoS 2 packet ids that were not released yet -> what came under them
        self.since = None  # topic -> how many had been sent when the subscription was acknowledged
        self.messages = self.duplicates = 0

    is_alone = True  # gets everything, and in order

    def subscription(self):
        return self.filter

    def has(self, topic):
        """The numbers that have reached whoever they are for."""
        return set(self.got[topic])

    def filter_matches(self, topic):
        return all(f in ("+", t) for f, t in zip(self.filter.split("/"), topic.split("/")))

    async def live(self, present):
        if self.since is None:
            self.send(mqtt.subscribe(V5, [(self.subscription(), self.qos)], 1))
        self.unanswered = {}  # packet ids that came on this connection and are in flight
        self.here = set()  # and the messages
        nap = asyncio.get_running_loop().time() + self.world.dice.uniform(*self.naps[0]) if self.naps else None
        while not self.stopped:
            limit = 3600
            if nap is not None and not self.world.is_over:
                limit = nap - asyncio.get_running_loop().time()
            try:
                packet = await asyncio.wait_for(self.receive(), max(limit, 0))
            except asyncio.TimeoutError:
                await self.sleep()
                return
            await self.handle(packet)

    async def sleep(self):
        """Goes away for a while: politely, by closing, or with a reset."""
        how = self.world.dice.choice(["disconnect", "close", "reset"])
        if how == "disconnect":
            self.send(mqtt.disconnect(V5))
            await self.drain()
        self.hang_up(reset=how == "reset")
        until = asyncio.get_running_loop().time() + self.world.dice.uniform(*self.naps[1])
        while not self.world.is_over and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.1)

    async def drain(self):
        try:
            await self.writer.drain()
        except OSError as e:
            raise Gone(str(e)) from e

    async def handle(self, packet):
        if packet.type == PUBLISH:
            if self.delay and not self.world.is_over:
                await asyncio.sleep(self.world.dice.uniform(0, 2 * self.delay))
            self.take(packet)
        elif packet.type == PUBREL:
            known = self.received.pop(packet.packet_id, None)
            self.send(mqtt.ack(PUBCOMP, V5, packet.packet_id, 0 if known else 0x92))
            self.unanswered.pop(packet.packet_id, None)
        elif packet.type == SUBACK:
            if packet.codes != [self.qos]:
                self.world.count(f"subscribe answered with {packet.codes}")
                raise Gone("not subscribed")
            if self.since is None:
                self.since = self.world.sent()
        elif packet.type != PINGRESP:
            self.complain(packet)

    def take(self, message):
        n, packet_id = int(message.payload.split(b"/")[0]), message.packet_id
        what, copy = (message.topic, n), (message.topic, message.payload.rstrip(b"."))
        self.messages += 1
        self.world.progress += 1
        if message.qos == 0:
            self.complain(f"{message} with QoS 0")
            return
        if packet_id in self.unanswered:
            self.complain(f"{message} while its identifier is in flight")
        self.unanswered[packet_id] = True
        if len(self.unanswered) > self.receive_max:
            self.complain(f"{len(self.unanswered)} in flight, {self.receive_max} allowed")
        self.look_at_dup(message, copy)
        if message.qos == 1:
            self.note(what)
            del self.unanswered[packet_id]
            self.send(mqtt.ack(PUBACK, V5, packet_id))
            return
        known = self.received.get(packet_id)
        if known is None:
            self.received[packet_id] = what
            self.note(what)
        elif known != what:
            self.complain(f"{message} under the identifier of {known}, which was not released")
        self.send(mqtt.ack(PUBREC, V5, packet_id))

    def look_at_dup(self, message, copy):
        """What comes again comes on another connection, and says so. What comes for the first time may say so after an
        unclean end: the gateway cannot know what had reached its client."""
        first = self.seen.setdefault(copy, self.connections)
        is_again = message.packet_id in self.received if message.qos == 2 else first != self.connections
        if message.qos == 1 and copy in self.here:
            self.complain(f"{message} twice on one connection")
        elif is_again and not message.dup:
            self.complain(f"{message} again, without DUP")
        elif message.dup and not is_again:
            self.world.count("DUP on what had not been seen")
        self.here.add(copy)

    def note(self, what):
        self.got[what[0]].append(what[1])


class Member(Subscriber):
    """One of a shared subscription, which gets what no other member gets. `group` is the list of all of them."""

    is_alone = False

    def __init__(self, world, client_id, group, topic_filter, **options):
        super().__init__(world, client_id, topic_filter, 1, **options)
        self.group = group
        group.append(self)

    def subscription(self):
        return f"$share/kill/{self.filter}"

    def has(self, topic):
        return {n for member in self.group for n in member.got[topic]}

    def look_at_dup(self, message, copy):
        """It may have been given to anybody before."""


class Wanderer(Subscriber):
    """A subscriber that takes its own session over from time to time, mostly into another worker."""

    may_be_taken_over = True

    async def sleep(self):
        """The old connection stays open, unread, until the new one has been let in."""
        old = self.writer
        self.reader = self.writer = None
        asyncio.get_running_loop().call_later(self.world.dice.uniform(0.05, 0.5), old.close)
