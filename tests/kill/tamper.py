"""Faults for the kill test's own test: each stands between the gateway and one client, which knows nothing of it, and does
one thing that a gateway must never do. `is_done` says that it has happened.
"""

import mqtt_raw as mqtt
from device import Gone
from mqtt_raw import CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5

NUMBER = 20  # the message that it happens to


class Tamper:
    """Passes everything on. A fault looks at what comes in meets(), which gives what the client is to see of it."""

    def __init__(self):
        self.is_done = False
        self.count = 0
        self.coming = []  # packets that the client is to see next
        self.swallowed = set()  # (type, packet id) of answers that the gateway is not to see

    async def next(self, device):
        while not self.coming:
            self.coming += self.meets(device, await device.receive_one())
        return self.coming.pop(0)

    def meets(self, device, packet):
        return [packet]

    def lets_out(self, device, data):
        answer = (data[0] >> 4, int.from_bytes(data[2:4], "big"))
        if answer[0] in (PUBACK, PUBREC, PUBCOMP) and answer in self.swallowed:
            self.swallowed.discard(answer)
            return False
        return True

    def is_its_turn(self, packet, qos):
        """Whether this is the message that it is to happen to."""
        if self.is_done or packet.type != PUBLISH or packet.qos != qos:
            return False
        self.count += 1
        return self.count >= NUMBER


class Loses(Tamper):
    """A message is acknowledged for the client and never given to it."""

    def meets(self, device, packet):
        if not self.is_its_turn(packet, 1):
            return [packet]
        self.is_done = True
        device.writer.write(mqtt.ack(PUBACK, V5, packet.packet_id))
        return []


class Doubles(Tamper):
    """A message of QoS 2 comes once more when its exchange is complete, under another identifier."""

    chosen = None

    def meets(self, device, packet):
        if not self.chosen and self.is_its_turn(packet, 2):
            self.chosen = packet
        if self.is_done or not self.chosen or packet.type != PUBREL or packet.packet_id != self.chosen.packet_id:
            return [packet]
        self.is_done = True
        other = next(n for n in range(60000, 65536) if n not in device.received)
        self.swallowed |= {(PUBREC, other), (PUBCOMP, other)}
        return [packet, with_id(self.chosen, other), mqtt.Packet(V5, PUBREL << 4 | 2, other.to_bytes(2, "big"))]


class Swaps(Tamper):
    """A message is overtaken by the next one of its topic."""

    held = None

    def meets(self, device, packet):
        if not self.held and self.is_its_turn(packet, 2):
            self.held = packet
            return []
        if self.held and not self.is_done and packet.type == PUBLISH and packet.topic == self.held.topic:
            self.is_done = True
            return [packet, self.held]
        return [packet]


class Repeats(Tamper):
    """A message comes twice on one connection."""

    def meets(self, device, packet):
        if not self.is_its_turn(packet, 1):
            return [packet]
        self.is_done = True
        self.swallowed.add((PUBACK, packet.packet_id))
        return [packet, packet]


class Denies(Tamper):
    """A message comes again after the connection was lost, and does not say so."""

    chosen = None

    def lets_out(self, device, data):
        if self.chosen and not self.is_done and data[0] >> 4 == PUBREC:
            device.hang_up(reset=True)
            raise Gone("tampered with")
        return super().lets_out(device, data)

    def meets(self, device, packet):
        if not self.chosen and self.is_its_turn(packet, 2):
            self.chosen = packet
        elif self.chosen and not self.is_done and packet.type == PUBLISH and packet.payload == self.chosen.payload and packet.dup:
            self.is_done = True
            return [mqtt.Packet(V5, packet.type << 4 | packet.flags & ~8, packet.body)]
        return [packet]


class Forgets(Tamper):
    """A session is not there any more."""

    connections = 0

    def meets(self, device, packet):
        self.connections += packet.type == CONNACK
        if packet.type == CONNACK and self.connections == 2:
            self.is_done = True
            packet.session_present = 0
        return [packet]


class Refuses(Tamper):
    """A publisher is told that its message was not kept, and it was."""

    def meets(self, device, packet):
        if self.is_done or packet.type != PUBACK or packet.code:
            return [packet]
        self.is_done = True
        return [mqtt.Packet(V5, PUBACK << 4, packet.body[:2] + bytes([0x97]))]


class GivesNumbersTwice:
    """An answer over HTTP has a number that an earlier one had."""

    def __init__(self):
        self.is_done, self.numbers = False, []

    def number(self, seq):
        self.numbers.append(seq)
        if self.is_done or len(self.numbers) < NUMBER:
            return seq
        self.is_done = True
        return self.numbers[-2]


def with_id(packet, packet_id):
    """The same PUBLISH under another identifier."""
    at = 2 + int.from_bytes(packet.body[:2], "big")
    body = packet.body[:at] + packet_id.to_bytes(2, "big") + packet.body[at + 2:]
    return mqtt.Packet(V5, packet.type << 4 | packet.flags, body)
