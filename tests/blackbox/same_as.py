"""Runs the same operations of several MQTT clients against two servers, and compares what the clients observe.

generate() makes a random sequence of operations, as data. A World is one server with the clients of a sequence; both
worlds go through each operation, then fences are sent through every client, and what came until then is compared in
the form that normal() gives it. An operation whose client is in no state to do it is left out, so that any part of a
sequence is a sequence too: shrink() finds a short one that still differs. What the standard leaves to the server is
levelled in one place each, with the clause that says so. Nothing here knows which of the two servers is ours.
"""

import collections
import contextlib
import pathlib
import random
import socket
import subprocess
import time

import mqtt_raw as mqtt
from mqtt_raw import (CONNACK, DISCONNECT, NO_LOCAL, PATIENCE, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL,
                      RETAIN_AS_PUBLISHED, RETAINED_IF_NEW, RETAINED_NEVER, SUBACK, UNSUBACK, V311, V5)

TOPICS = ["a", "a/b", "a/b/c", "a//b", "/a", "a/", "b", "b/a", "$x/a", "$x/a/b"]
FILTERS = TOPICS + ["#", "+", "+/b", "+/a", "a/#", "a/+", "a/+/c", "+/+", "/+", "a/+/#", "+/#", "$x/#", "$x/+", "b/#",
                    "a/b/#", "+/+/+"]
SHARED_TOPICS = ["q/1", "q/2/3"]
SHARED_FILTERS = ["$share/g{0}/q/#", "$share/h{0}/q/#", "$share/g{0}/q/1", "$share/g{0}/q/+/3"]  # of each sequence
# Beside "#" no other plain filter here matches a shared topic: whose copy is whose would not be seen with 3.1.1.
PLAIN_BESIDE_SHARED = [f for f in FILTERS if not f.startswith("+/")]
SMALL_PACKETS, LARGE_PAYLOAD = 300, 600  # no doubt about what is too large, whatever else is in the packet
NEVER = 0xFFFFFFFF
CLIENTS = 4
WATCHER = "watcher"


# ---- sequences

class Plan:
    """What a sequence's generator has to remember of a client to choose what it does next."""

    def __init__(self):
        self.connected, self.version, self.kept, self.acks, self.will = False, V5, False, "all", None
        self.shares, self.options, self.retains = set(), {}, False
        self.small, self.retain_as_published = False, 0


class Generator:
    def __init__(self, seed, steps):
        self.rng = random.Random(seed)
        self.steps, self.number, self.ops = steps, 0, []
        self.plans = {f"c{i}": Plan() for i in range(CLIENTS)}
        # What is too large for a client counts as sent ([MQTT-3.1.2-25]). mosquitto 2.0 leaves it in flight: it takes a place
        # there, and comes when the session is resumed by a client that takes it.
        self.plans["c3"].small = self.rng.random() < 0.3
        for plan in self.plans.values():
            plan.retain_as_published = self.rng.choice([0, 0, RETAIN_AS_PUBLISHED])
        self.shared_filters = [f.format(seed) for f in SHARED_FILTERS]
        self.with_shares = self.rng.random() < 0.25
        self.last_was_empty = {}
        # Copies of a message for overlapping subscriptions may be one or several (5.0 section 3.3.4). Those of QoS 0 do not
        # outlive a connection, and each of several is acknowledged by itself: who resumes would see which it was.
        self.grants = self.rng.choice([[0, 1, 2], [0], [1, 2], [0, 2], [1], [2]])
        self.with_ids = self.grants == [0] or 0 not in self.grants
        self.ways = ["all"] * 5 + ["none"] + ([] if {1, 2} <= set(self.grants) else ["receipt"])

    def make(self):
        for name in self.plans:
            self.connect(name)
        while len(self.ops) < self.steps:
            name = self.rng.choice(list(self.plans))
            if not self.plans[name].connected:
                self.rng.choice([self.connect, self.connect, self.publish_by_another])(name)
                continue
            self.rng.choices(
                [self.subscribe, self.unsubscribe, self.publish, self.burst, self.connect, self.leave, self.twice, self.release],
                [7, 3, 14, 3, 2, 3, 1, 1])[0](name)
        return self.ops

    def chance(self, probability):
        return self.rng.random() < probability

    def next_number(self):
        self.number += 1
        return self.number

    def publish_by_another(self, name):
        others = [n for n, p in self.plans.items() if p.connected and n != name]
        if others:
            self.publish(self.rng.choice(others))

    def message_properties(self, version):
        if version != V5 or self.chance(0.5):
            return {}
        rng, n = self.rng, self.number
        some = {"payload_format": 1, "message_expiry": rng.choice([1000, 100000]), "content_type": f"type/{n}",
                "response_topic": f"answer/{n}", "correlation_data": bytes([n % 256, 0, 255]),
                "user": [(f"k{n}", "1"), ("same", "x"), ("same", "y")][:rng.randint(1, 3)]}
        return {k: some[k] for k in rng.sample(list(some), rng.randint(1, len(some)))}

    def will(self, version, expiry):
        if not self.chance(0.35):
            return None
        number = self.next_number()
        props = self.message_properties(version)
        # Without a session that goes on a delay means nothing (5.0 section 3.1.3.2.2); mosquitto 2.0 waits all the same.
        if version == V5 and expiry and self.chance(0.5):
            props["will_delay"] = 3600
        return (self.rng.choice(TOPICS), f"{number} will", self.rng.randint(0, 2), self.chance(0.3), props)

    def connect(self, name):
        rng, plan = self.rng, self.plans[name]
        version = V5 if plan.small else rng.choice([V311, V5, V5])
        clean, acks = self.chance(0.3), "all" if self.with_shares else rng.choice(self.ways)
        expiry, props = 0 if clean else NEVER, {}
        if version == V5:
            expiry = rng.choice([0, 3600, 3600, NEVER])
            props = {k: v for k, v in [("session_expiry", expiry), ("topic_alias_max", rng.choice([0, 3])),
                                       ("receive_max", rng.choice([0, 0, 1, 5]) if acks == "all" and not plan.small else 0),
                                       ("maximum_packet_size", SMALL_PACKETS if plan.small else 0)] if v}
        plan.will = self.will(version, expiry)
        plan.retains |= bool(plan.will and plan.will[3])
        self.ops.append(("connect", name, version, clean, expiry, props, plan.will, acks))
        plan.connected, plan.version, plan.kept, plan.acks = True, version, expiry > 0, acks

    def leave(self, name):
        plan = self.plans[name]
        how = ["normal", "abort", "abort"] + (["with_will", "forget"] if plan.version == V5 else [])
        how = self.rng.choice(how)
        self.ops.append(("leave", name, how))
        plan.connected = False
        if how == "forget":
            plan.kept = False

    def subscribe(self, name):
        rng, plan = self.rng, self.plans[name]
        entries, count = [], rng.choice([1, 1, 1, 2, 4])
        self.release_for_ids(name)
        if plan.version != V5:
            self.release(name)
        for _ in range(count):
            options = rng.choice(self.grants)
            if self.with_shares and self.chance(0.5):
                topic_filter = rng.choice(self.shared_filters)
                plan.shares.add(topic_filter)
            else:
                topic_filter = rng.choice(PLAIN_BESIDE_SHARED if self.with_shares else FILTERS)
                # One who subscribes again sets the options anew ([MQTT-3.8.4-3]); mosquitto 2.0 keeps these two.
                # All of a client's have the same Retain As Published: of several copies the one that is sent again may be
                # that of another subscription.
                kept = rng.choice([0, 0, NO_LOCAL]) | plan.retain_as_published if plan.version == V5 else 0
                kept = plan.options.setdefault(topic_filter, kept)
                if kept and plan.version != V5:
                    continue
                if plan.version == V5:
                    # A retained message that is in flight is sent once more when it is acknowledged, or beside that: as
                    # one likes. Who holds back acknowledgements gets none.
                    options |= kept | (rng.choice([0, 0, RETAINED_IF_NEW, RETAINED_NEVER]) if plan.acks == "all"
                                       else RETAINED_NEVER)
                    if options & NO_LOCAL and plan.retains:
                        # [MQTT-3.8.3-3] makes no exception for retained messages, mosquitto 2.0 does.
                        options = options & ~RETAINED_IF_NEW | RETAINED_NEVER
            # A filter twice in a packet: retained messages for the first, which the second replaces at once, or not.
            if topic_filter not in [f for f, _ in entries]:
                entries.append((topic_filter, options))
        identifier = rng.choice([0, rng.randint(1, 9), 200000]) if plan.version == V5 and self.with_ids else 0
        if entries:
            self.ops.append(("subscribe", name, entries, identifier))

    def unsubscribe(self, name):
        plan = self.plans[name]
        self.release_for_ids(name)
        filters = [self.rng.choice(FILTERS + sorted(plan.shares) * 3) for _ in range(self.rng.choice([1, 1, 3]))]
        self.ops.append(("unsubscribe", name, filters))

    def message(self, name, retain=None):
        """(topic, payload, QoS, retain, properties, topic alias)"""
        rng, plan = self.rng, self.plans[name]
        topic = rng.choice(SHARED_TOPICS if self.with_shares and self.chance(0.5) else TOPICS)
        retain = self.chance(0.3) if retain is None else retain
        if topic in SHARED_TOPICS:
            retain = False  # mosquitto 2.0 gives retained messages to members that subscribe, against 5.0 section 4.8.2
        plan.retains |= retain
        qos = rng.randint(0, 2)
        # One that is too large for a member may go to another, or to none (5.0 section 3.1.2.11.4).
        large = self.chance(0.05) and topic not in SHARED_TOPICS
        payload = f"{self.next_number()} {name} {'x' * LARGE_PAYLOAD if large else ''} QoS{qos}"
        # Two empty messages in a row could not be told apart, nor from copies of one.
        if retain and self.chance(0.3) and not self.last_was_empty.get(topic):
            payload = ""
        self.last_was_empty[topic] = payload == ""
        alias = rng.randint(1, 3) if plan.version == V5 and self.chance(0.2) else 0
        return (topic, payload, qos, retain, self.message_properties(plan.version), alias)

    def publish(self, name):
        self.ops.append(("publish", name, [self.message(name)]))

    def burst(self, name):
        """Messages sent in one go, none of them retained: a server may take one of QoS 2 at PUBLISH or at PUBREL (5.0
        section 4.3.3, figure 4.3), so that which of several were retained last would be open."""
        self.ops.append(("publish", name, [self.message(name, retain=False) for _ in range(self.rng.randint(2, 8))]))

    def twice(self, name):
        """A QoS 2 publish that is begun on one connection and ended on the next."""
        plan = self.plans[name]
        if plan.kept and not plan.will and not plan.small:
            topic, payload, _, _, props, _ = self.message(name, retain=False)
            payload = payload[:-1] + "2"
            self.ops.append(("twice", name, topic, payload, props))

    def release_for_ids(self, name):
        """A message that is sent again has the identifiers of the first time, or of the subscriptions there are by then:
        5.0 section 4.4 does not say. Nothing is held back when they change."""
        if self.with_ids and self.plans[name].version == V5:
            self.release(name)

    def release(self, name):
        """What was held back is acknowledged."""
        plan = self.plans[name]
        if plan.acks != "all":
            self.ops.append(("release", name))
            plan.acks = "all"


def generate(seed, steps=40):
    """The operations of a sequence; the same for the same seed."""
    return Generator(seed, steps).make()


# ---- what a client sees

Message = collections.namedtuple("Message", "topic payload qos retain dup ids props")


class Peer:
    """One client id at one server, over all its connections."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.client, self.kept, self.will, self.acks = None, False, None, "all"
        self.seen, self.answers, self.fences = [], [], set()
        self.held, self.given_ids, self.groups = [], {}, set()
        self.last_id, self.heard = 0, 0

    def new_id(self):
        self.last_id = self.last_id % 60000 + 1
        return self.last_id

    def open(self, version, clean, expiry, props, will, acks):
        self.version, self.acks, self.expiry = version, acks, expiry
        self.kept, self.will, self.aliases, self.held = expiry > 0, will, {}, []
        self.given, self.own_aliases = {}, {}
        self.client = mqtt.Client(self.world.address, self.name, version, connect=False)
        self.client.send(mqtt.connect(version, self.name, 0, clean, props if version == V5 else None, will))
        answer = self.client.expect(CONNACK)
        # What else a server tells in CONNACK is its own affair; these two would change what the client may do.
        told = {k: v for k, v in answer.props.items() if k in ("session_expiry", "assigned_client_id")}
        self.answers.append(("CONNACK", answer.session_present, answer.code, told))
        if answer.code:
            self.client = None
            return
        if not answer.session_present:
            self.given_ids = {}
            self.client.send(mqtt.subscribe(version, [(f"$fence/{self.name}", 1)], 65000))
            self.wait(lambda: 65000 in self.given)

    def take(self, packet):
        """Deals with a packet, as a client does whose way of acknowledging is `acks`."""
        {PUBLISH: self.take_publish, PUBREL: self.take_pubrel, PUBACK: self.take_answer, PUBREC: self.take_answer,
         PUBCOMP: self.take_answer, SUBACK: self.take_answer, UNSUBACK: self.take_answer,
         DISCONNECT: self.take_disconnect, PINGRESP: self.take_pingresp}[packet.type](packet)

    def take_publish(self, packet):
        alias = packet.props.pop("topic_alias", None)
        if alias is not None:
            if packet.topic:
                self.aliases[alias] = packet.topic
            packet.topic = self.aliases[alias]
        payload = packet.payload.decode()
        if packet.topic.startswith("$fence/"):
            self.fences.add(payload)
            if packet.qos:
                self.client.ack(PUBACK, packet.packet_id)
            return
        self.heard += 1
        ids = tuple(sorted(packet.props.pop("subscription_id", [])))
        self.seen.append(Message(packet.topic, payload, packet.qos, packet.retain, packet.dup, ids, packet.props))
        if packet.qos == 0:
            return
        if packet.dup:  # [MQTT-4.4.0-1]: with its original packet identifier
            known = self.given_ids.get(packet.packet_id)
            if known != (packet.topic, payload):
                self.answers.append(("DUP of", known, "is", packet.topic, payload))
        self.given_ids[packet.packet_id] = (packet.topic, payload)
        if self.acks == "none" or (self.acks == "receipt" and packet.qos == 1):
            self.held.append((packet.qos, packet.packet_id))
            return
        self.client.ack(PUBACK if packet.qos == 1 else PUBREC, packet.packet_id)

    def take_pubrel(self, packet):
        self.heard += 1
        if self.acks == "all":
            self.client.ack(PUBCOMP, packet.packet_id)
        else:
            self.held.append((0, packet.packet_id))
            if ("PUBREL", *self.given_ids[packet.packet_id]) not in self.seen:
                self.seen.append(("PUBREL", *self.given_ids[packet.packet_id]))

    def take_answer(self, packet):
        if packet.type == PUBREC and packet.code < 0x80:
            self.client.ack(PUBREL, packet.packet_id)
            return
        self.given[packet.packet_id] = (packet.type, getattr(packet, "codes", None) or [getattr(packet, "code", 0)])

    def take_pingresp(self, _):
        self.given["ping"] = True

    def take_disconnect(self, packet):
        self.answers.append(("DISCONNECT", packet.code))

    def release(self):
        """Acknowledges what was held, in the order in which it came ([MQTT-4.6.0-2], [MQTT-4.6.0-3])."""
        self.acks = "all"
        for qos, packet_id in self.held:
            self.client.ack((PUBCOMP, PUBACK, PUBREC)[qos], packet_id)
        self.held = []

    def wait(self, condition, patience=None):
        """Takes packets until the condition is true. False: it did not become true, or the server ended the connection."""
        deadline = time.monotonic() + (self.world.patience if patience is None else patience)
        while not condition():
            try:
                self.take(self.client.recv(max(deadline - time.monotonic(), 0)))
            except mqtt.Silence:
                return False
            except mqtt.Closed:
                self.answers.append(("closed",))
                self.client.close()
                self.client = None
                return False
        return True

    def poll(self):
        if self.client:
            self.wait(lambda: False, 0.01)

    def request(self, data, packet_id):
        """Sends SUBSCRIBE or UNSUBSCRIBE; the codes of its answer."""
        self.client.send(data)
        self.wait(lambda: packet_id in self.given)
        return self.given.pop(packet_id, None)

    def publish(self, messages):
        """Sends them in one go and waits until all are answered."""
        open_ids, data = [], b""
        for topic, payload, qos, retain, props, alias in messages:
            packet_id, named = self.new_id(), topic
            if self.version == V5 and alias:
                props = {**props, "topic_alias": alias}
                named = "" if self.own_aliases.get(alias) == topic else topic
                self.own_aliases[alias] = topic
            data += mqtt.publish(self.version, named, payload, qos, retain, False, packet_id, props)
            if qos:
                open_ids.append(packet_id)
        self.client.send(data)
        self.wait(lambda: all(i in self.given for i in open_ids))
        for packet_id in open_ids:
            kind, codes = self.given.pop(packet_id, (None, [None]))
            self.answers.append((kind, [0 if c == 0x10 else c for c in codes]))  # 0x10: MAY, 5.0 section 3.4.2.1

    def close(self, how):
        """Ends the connection; the will that is now to be expected at once, or None."""
        client, self.client = self.client, None
        with contextlib.suppress(mqtt.Closed):
            if how == "abort":
                client.sock.shutdown(socket.SHUT_WR)
            elif how == "with_will" and self.version == V5:
                client.send(mqtt.disconnect(V5, 4))
            elif how == "forget" and self.version == V5:
                client.send(mqtt.disconnect(V5, 0, {"session_expiry": 0}))
            else:
                client.send(mqtt.disconnect(self.version))
            while True:
                client.recv()
        client.close()
        if how == "forget":
            self.kept = False
        will, self.will = self.will, None
        if not will or how in ("normal", "forget"):
            return None
        if will[4].get("will_delay") and self.kept:
            self.pending_will = will
            return None
        return will

    pending_will = None


# ---- a server and its clients

class World:
    def __init__(self, title, address, patience=PATIENCE):
        self.title, self.address, self.patience = title, address, patience
        self.fence_number = 0

    def begin(self):
        self.peers = {f"c{i}": Peer(self, f"c{i}") for i in range(CLIENTS)}
        self.watcher = self.peers[WATCHER] = Peer(self, WATCHER)
        self.watcher.open(V5, True, 0, {}, None, "all")
        everything = [("#", 2 | RETAIN_AS_PUBLISHED), ("$x/#", 2 | RETAIN_AS_PUBLISHED)]
        self.watcher.request(mqtt.subscribe(V5, everything, 1), 1)
        self.watcher.seen, self.watcher.answers = [], []

    def do(self, op):
        """One operation and the fences after it."""
        peer = self.peers[op[1]]
        if op[0] != "connect" and not peer.client:
            return
        will = getattr(self, "do_" + op[0])(peer, *op[2:])
        if will:
            self.watcher.wait(lambda: any(m.payload == will[1] for m in self.watcher.seen if isinstance(m, Message)))
        self.fence(peer if peer.client else self.watcher)

    def leave_groups(self, peer):
        """Members whose sessions wait are given messages, or not, as the server likes (5.0 section 4.8.2)."""
        if peer.groups and peer.kept:
            self.do_unsubscribe(peer, sorted(peer.groups))
        peer.groups = set()

    def do_connect(self, peer, version, clean, expiry, props, will, acks):
        if peer.client:
            self.leave_groups(peer)
        if peer.client and peer.will:
            # The will of a connection that is taken over is due ([MQTT-3.1.4-3] and 5.0 section 3.1.2.5); mosquitto 2.0
            # forgets it.
            peer.close("normal")
        if peer.pending_will and clean:
            # The session ends before the delay has passed, which makes the will due (5.0 section 3.1.3.2.2); mosquitto 2.0
            # forgets it. Who resumes the session first cancels it.
            peer.open(V5, False, NEVER, {"session_expiry": NEVER}, None, acks)
            peer.close("normal")
        old, peer.pending_will = peer.client, None
        peer.open(version, clean, expiry, props, will, acks)
        if old:
            with contextlib.suppress(mqtt.Closed):
                while True:  # 5.0 section 3.1.4 wants DISCONNECT with 0x8E here, mosquitto 2.0 just closes
                    old.recv()
            old.close()

    def do_leave(self, peer, how):
        self.leave_groups(peer)
        return peer.close(how)

    def do_subscribe(self, peer, entries, identifier):
        packet_id = peer.new_id()
        if peer.version != V5:
            entries, identifier = [(f, o & 3) for f, o in entries], 0
        props = {"subscription_id": identifier} if identifier else None
        answer = peer.request(mqtt.subscribe(peer.version, entries, packet_id, props), packet_id)
        if answer:
            # A server may grant less than was asked for (5.0 section 3.8.4).
            codes = [min(c, 1) if f.startswith("$share/") and c < 3 else c for (f, _), c in zip(entries, answer[1])]
            answer = (answer[0], codes)
            peer.groups |= {f for f, _ in entries if f.startswith("$share/")}
        peer.answers.append(answer)

    def do_unsubscribe(self, peer, filters):
        packet_id = peer.new_id()
        peer.groups -= set(filters)
        peer.answers.append(peer.request(mqtt.unsubscribe(peer.version, filters, packet_id), packet_id))

    def do_publish(self, peer, messages):
        peer.publish(messages)

    def do_release(self, peer):
        peer.release()

    def do_twice(self, peer, topic, payload, props):
        if not peer.kept or peer.acks != "all":
            return
        self.leave_groups(peer)
        packet_id, props = peer.new_id(), props if peer.version == V5 else None
        old, version, expiry = peer.client, peer.version, peer.expiry
        peer.client.send(mqtt.publish(version, topic, payload, 2, packet_id=packet_id, props=props))
        code = peer.client.wait_ack(PUBREC, packet_id).code
        for packet in old.passed_over:
            peer.take(packet)
        old.passed_over = []
        old.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(mqtt.Closed):
            while True:
                peer.take(old.recv())
        old.close()
        peer.open(version, False, expiry, {"session_expiry": expiry}, None, "all")
        if not peer.client:
            return
        peer.client.send(mqtt.publish(version, topic, payload, 2, dup=True, packet_id=packet_id, props=props))
        peer.wait(lambda: packet_id in peer.given)
        peer.answers.append(("twice", code < 0x80, peer.given.pop(packet_id, None)))

    def fence(self, by):
        """Goes on until all is quiet: an acknowledgement may bring the next message."""
        while True:
            before = sum(p.heard for p in self.peers.values())
            self.fence_once(by)
            if sum(p.heard for p in self.peers.values()) == before:
                return

    def fence_once(self, by):
        """Two messages from the client that has acted to each client, as those of QoS 0 may overtake others, and a round
        trip of each. What was sent to a client before them is there when they are, and what it answered was taken."""
        self.fence_number += 1
        tokens = {f"{self.fence_number} {qos}" for qos in (0, 1)}
        there = [p for p in self.peers.values() if p.client]
        data, ids = b"", []
        for peer in there:
            ids.append(by.new_id())
            for token in sorted(tokens):
                data += mqtt.publish(by.version, f"$fence/{peer.name}", token, int(token[-1]), packet_id=ids[-1])
        by.client.send(data)
        by.wait(lambda: all(i in by.given for i in ids))
        for packet_id in ids:
            by.given.pop(packet_id, None)
        for peer in there:
            if peer.client and not peer.wait(lambda p=peer: tokens <= p.fences):
                peer.answers.append(("no fence",))
            peer.fences.clear()
            if peer.client:
                peer.given.pop("ping", None)
                peer.client.send(mqtt.PING)
                peer.wait(lambda p=peer: "ping" in p.given)

    def poll(self):
        for peer in self.peers.values():
            peer.poll()

    def observed(self):
        """What was seen since the last step, as it is compared."""
        shared = collections.Counter()
        found = {}
        for name, peer in self.peers.items():
            found[name] = (peer.answers, normal(peer.seen, shared))
        found["groups"] = shared
        return found

    def forget(self):
        for peer in self.peers.values():
            peer.seen, peer.answers = [], []

    def end(self):
        """Leaves nothing behind: no session, no will, no retained message."""
        for name, peer in self.peers.items():
            if peer.client:
                self.leave_groups(peer)
            else:
                with mqtt.Client(self.address, name, V5, clean=False) as client:
                    client.send(mqtt.disconnect())
                    client.expect_closed()
            with mqtt.Client(self.address, name, V5) as client:
                client.leave()
            if peer.client:
                peer.client.close()
                peer.client = None
        broom = Peer(self, "broom")
        broom.open(V5, True, 0, {}, None, "all")
        broom.request(mqtt.subscribe(V5, [("#", 2), ("$x/#", 2)], 1), 1)
        broom.publish([(topic, "", 1, True, {}, 0) for topic in TOPICS])
        broom.client.publish("$x/end", "end", qos=1, packet_id=65001)
        assert broom.wait(lambda: any(m.topic == "$x/end" for m in broom.seen)), f"{self.title} did not come to an end"
        broom.close("normal")


# ---- comparison

def level_properties(props):
    """Remaining seconds are the server's to count ([MQTT-3.3.2-6]): near is good."""
    return tuple(sorted((k, "about " + str(round((v + 60) / 1000)) if k == "message_expiry" else str(v))
                        for k, v in props.items()))


def normal(seen, shared):
    """Messages by topic and the QoS they were published with, in order ([MQTT-4.6.0-6]: of each). Those to shared topics go to `shared`: who of a group gets one is the server's choice
    (5.0 section 4.8.2), and so with which QoS and properties. Of overlapping subscriptions a server may send one copy or several (5.0 section 3.3.4): copies
    become one, with the greatest QoS and all identifiers."""
    topics = {}
    for one in seen:
        if not isinstance(one, Message):
            topics.setdefault("PUBREL", set()).add(one)
            continue
        if one.topic.startswith("q/"):
            shared[(one.topic, one.payload, one.retain)] += 1
            continue
        props = level_properties(one.props)
        copies = topics.setdefault((one.topic, one.payload.split(" ")[-1]), {})
        payload, qos, retain, dup, ids, _ = copies.get(one.payload, (one.payload, 0, False, False, (), props))
        copies[one.payload] = (payload, max(qos, one.qos), retain or one.retain, dup or one.dup,
                               tuple(sorted({*ids, *one.ids})), props)
    return {t: m if isinstance(m, set) else list(m.values()) for t, m in topics.items()}


class Difference(Exception):
    """Two servers were seen to do different things. `ops` is what was done up to there."""

    def __init__(self, ops, first, second):
        self.ops = ops
        lines = ["", *(f"    {op!r}," for op in ops), "what was seen after the last of these:"]
        one, other = first.observed(), second.observed()
        for name in one:
            if one[name] != other[name]:
                lines += [f"  {name}", f"    {first.title:10} {one[name]}", f"    {second.title:10} {other[name]}"]
        super().__init__("\n".join(lines))


def run(ops, first, second):
    """Runs a sequence against both; raises Difference."""
    worlds = (first, second)
    for world in worlds:
        world.begin()
    try:
        for at, op in enumerate(ops):
            for world in worlds:
                world.do(op)
            deadline = time.monotonic() + min(w.patience for w in worlds)
            while first.observed() != second.observed():
                if time.monotonic() > deadline:
                    raise Difference(ops[:at + 1], first, second)
                for world in worlds:
                    world.poll()
            for world in worlds:
                world.forget()
    finally:
        for world in worlds:
            world.end()


def shrink(ops, first, second):
    """A shorter sequence that still differs: (operations, Difference)."""
    found, size = None, max(len(ops) // 2, 1)
    while True:
        at = 0
        while at < len(ops):
            try:
                run(ops[:at] + ops[at + size:], first, second)
                at += size
            except Difference as difference:
                ops, found = difference.ops, difference
        if size == 1:
            return ops, found
        size //= 2


# ---- the other server

class Mosquitto:
    """mosquitto on a port of its own, with persistence and no limits that ours has not."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = probe.getsockname()
        folder = pathlib.Path(folder)
        folder.mkdir()
        folder.chmod(0o777)
        config = folder / "mosquitto.conf"
        config.write_text(f"""
listener {self.address[1]} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_inflight_messages 1000
max_queued_messages 0
max_topic_alias 16
allow_duplicate_messages true
sys_interval 1
set_tcp_nodelay true
""")
        self.log = open(folder / "mosquitto.log", "wb")
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", config], stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(self.address).close()
                return
            assert self.process.poll() is None and time.monotonic() < deadline, "mosquitto does not start"
            time.sleep(0.01)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()
