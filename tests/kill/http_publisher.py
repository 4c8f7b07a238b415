"""A publisher over HTTP for the kill test."""

import asyncio
import collections
import json

REFUSALS = (503, 507)  # statuses that say that the message was not kept


class HttpPublisher:
    """Publishes over HTTP, one message after the other; each has its number in a row and gets one of the gateway."""

    def __init__(self, world, name, pace):
        self.world, self.pace = world, pace
        self.topics = [(f"k/{name}/q{qos}", qos) for qos in (1, 2)]
        self.quiet_topic = "elsewhere"
        self.next = collections.Counter()
        self.numbers = []
        self.is_publishing, self.stopped, self.open = True, False, {}
        self.tamper = None
        self.taken = 0  # messages acknowledged

    async def run(self):
        while not self.stopped:
            if self.is_publishing:
                await self.publish()
            await asyncio.sleep(self.world.dice.expovariate(1 / self.pace))

    async def publish(self):
        topic, qos = self.world.dice.choice(self.topics + [(self.quiet_topic, 0)])
        n = self.next[topic]
        self.next[topic] += 1
        try:
            status, answer = await asyncio.wait_for(self.post(self.message(topic, n, qos)), 15)
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            self.world.count("http: no answer")  # it may have been published, or not
            return
        if status != 200:
            self.world.count(f"http: {status}")
            if status in REFUSALS and qos:
                self.world.refuse(topic, n, is_certain=True)
            return
        seq = self.tamper.number(answer["seq"]) if self.tamper else answer["seq"]
        if self.numbers and seq <= self.numbers[-1]:
            self.world.complain(f"http: number {seq} after {self.numbers[-1]}")
        self.numbers.append(seq)
        if qos:
            self.taken += 1
            self.world.acknowledged(topic, n)

    def message(self, topic, n, qos):
        return {"topic": topic, "payload": self.world.payload(n, 0), "qos": qos}

    async def post(self, message):
        body = json.dumps(message).encode()
        reader, writer = await asyncio.open_connection(*self.world.api)
        try:
            writer.write(b"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
                         b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split()[1])
            length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                           if line.startswith(b"content-length:")), 0)
            return status, json.loads(await reader.readexactly(length) or b"null")
        finally:
            writer.close()
