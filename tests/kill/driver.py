#!/usr/bin/env python3
"""Publishes QoS 1 and 2 to live, slow, sleeping and wandering subscribers while the gateway's processes are killed, and
then looks at what has arrived.

    HOLDFAST=build/holdfast tests/kill/driver.py [--seconds 3600] [--seed N] [--workers 2] [--folder DIR]

Whatever is killed is killed again soon after it is back, several times a second.

What must hold, whatever was killed:
- every message that was acknowledged to its publisher (PUBACK, PUBREC, HTTP 200) reaches every session that had been
  subscribed before it was sent
- one of QoS 2, subscribed to with QoS 2, reaches the application exactly once, in the sense of MQTT: its client drops
  what comes again under an identifier that was not released
- per topic, messages come in the order in which their publisher sent them; a repetition (QoS 1) comes later, never a
  message for the first time after one that was sent later
- no sequence number is given twice, and they grow
- no session is lost, no identifier is used for two things, no window is exceeded, nothing is repeated within a connection,
  and what is repeated on another one has DUP

With the first complaints, what the client and the killer had been doing before is printed, too; all of it is in history.txt.

The seed makes the same choices again; what the machine does between them it cannot repeat.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "blackbox")]
import conftest  # noqa: E402
from device import Publisher, Subscriber, Wanderer  # noqa: E402

QUIET = 60  # seconds: in the end something must arrive at least so often until all is there
HISTORY = 300000  # events that are remembered, of all clients together
TOPICS = 3  # of each publisher and QoS
KINDS = ("hub", "worker", "supervisor", "all")  # what is killed
STEADY = 20  # seconds without a kill after which nobody may be kept waiting any longer


class World:
    """What all clients share: where the gateway is, what was acknowledged, what was wrong."""

    def __init__(self, seed, quiet=QUIET):
        self.dice = random.Random(seed)
        self.quiet, self.started = quiet, time.monotonic()
        self.history = collections.deque(maxlen=HISTORY)  # (when, who, what)
        self.address = None
        self.is_over = False  # no more kills: everybody stays awake and takes what there is
        self.acked = collections.defaultdict(set)  # topic -> numbers
        self.publishers = []
        self.complaints = []
        self.counts = collections.Counter()
        self.progress = 0
        self.last_kill = 0.0

    def count(self, what):
        self.counts[what] += 1

    def complain(self, what, who=None):
        self.complaints.append(what)
        print(f"WRONG: {what}", flush=True)
        if who and len(self.complaints) <= 5:
            lines = [event for event in self.history if event[1] in (who, "killer")][-80:]
            print("\n".join(f"    {when:9.4f} {name:12} {text}" for when, name, text in lines), flush=True)

    def tell(self, who, what):
        self.history.append((time.monotonic() - self.started, who, what))

    def unanswered(self, client_id, number):
        if time.monotonic() - self.last_kill > STEADY:
            self.complain(f"{client_id}: {number} publishes are not answered, and nothing was killed", client_id)
        self.count("publishers without an answer for long")

    def acknowledged(self, topic, n):
        self.acked[topic].add(n)
        self.progress += 1

    def sent(self):
        """topic -> how many messages have been sent to it so far."""
        return {topic: n for p in self.publishers for topic, n in p.next.items()}


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
            status, answer = await asyncio.wait_for(self.post({"topic": topic, "payload": f"{n}/0", "qos": qos}), 15)
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            self.world.count("http: no answer")  # it may have been published, or not
            return
        if status != 200:
            self.world.count(f"http: {status}")
            return
        seq = self.tamper.number(answer["seq"]) if self.tamper else answer["seq"]
        if self.numbers and seq <= self.numbers[-1]:
            self.world.complain(f"http: number {seq} after {self.numbers[-1]}")
        self.numbers.append(seq)
        if qos:
            self.world.acknowledged(topic, n)

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


class Killer:
    """Starts the gateway, kills its parts at random, and starts it again when all of it is gone."""

    def __init__(self, world, folder, workers, sync):
        self.world, self.folder, self.workers, self.sync = world, folder, workers, sync
        self.gateway, self.starts = None, 0
        self.kills = collections.Counter()
        self.is_killing = True

    async def start(self):
        sub = self.folder / f"run-{self.starts}"
        sub.mkdir()
        self.starts += 1
        # mqtt: small limits, so that clients fall behind and catch up from the log all the time
        gateway = conftest.Gateway(sub, workers=self.workers, data_dir=self.folder / "data", log_level="notice",
                                   mqtt='output_limit = "8K" max_inflight = 20', top=f"log {{ sync = {self.sync} }}")
        self.gateway = gateway
        for _ in range(3000):
            if gateway.process.poll() is not None or gateway.events("ready"):
                break
            await asyncio.sleep(0.02)
        gateway.wait_ready(1)
        self.world.address, self.world.api = gateway.mqtt, gateway.api
        self.left = self.world.dice.randint(5, 14)  # kills until the supervisor's turn

    def kill(self, names):
        processes = self.gateway.processes()
        for name in names:
            if name in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(processes[name], signal.SIGKILL)
                    self.kills["hub" if name == "hf-hub" else "worker"] += 1
                    self.world.tell("killer", f"{name} {processes[name]}")
        self.world.last_kill = time.monotonic()

    async def kill_supervisor(self):
        """The supervisor alone, whose children must follow, or everything at once."""
        children = conftest.children_of(self.gateway.pid)
        alone = self.world.dice.random() < 0.4
        for pid in [self.gateway.pid] + ([] if alone else children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills["supervisor" if alone else "all"] += 1
        self.world.tell("killer", "supervisor alone" if alone else "all")
        self.world.last_kill = time.monotonic()
        self.gateway.process.wait()
        for _ in range(1000):
            if not any(conftest.is_alive(pid) for pid in children):
                break
            await asyncio.sleep(0.01)
        else:
            self.world.complain("children stay although the supervisor is gone")
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.inspect()
        self.gateway.log.close()
        await self.start()

    async def one(self):
        """The next kill. A process that dies young comes back later each time, until the supervisor is a new one."""
        dice = self.world.dice
        await asyncio.sleep(dice.choices([0, dice.uniform(0, 0.05), dice.expovariate(6), dice.uniform(0.3, 3)], [4, 8, 16, 1])[0])
        self.left -= 1
        if self.left < 0:
            await self.kill_supervisor()
            return
        there = sorted(name for name in self.gateway.processes() if name.startswith("hf-"))
        if not there:
            return
        hub, worker = "hf-hub", f"hf-worker-{dice.randrange(self.workers)}"
        wanted = dice.choices([[hub], [worker], [hub, worker]], [4, 4, 1])[0]
        self.kill(wanted if set(wanted) & set(there) else [dice.choice(there)])

    def inspect(self):
        """A log may speak of deaths by signal 9, and of nothing worse."""
        for line in self.gateway.lines:
            if conftest.REPORTS.search(line):
                self.world.complain(f"log: {line}")
        for died in self.gateway.events("process_died"):
            if died.get("signal") != "9":
                self.world.complain(f"log: {died}")


def make_clients(world):
    """Publishers, and subscribers of each kind."""
    for i in range(4):
        topics = [(f"k/p{i}/{'one' if qos == 1 else 'two'}{t}", qos) for qos in (1, 2) for t in range(TOPICS)]
        world.publishers.append(Publisher(world, f"publisher-{i}", topics, pace=0.02 * (1 + i), in_flight=(1, 5, 20, 50)[i]))
    world.publishers.append(HttpPublisher(world, "http", 0.05))
    naps = ((0.05, 1.5), (0.2, 4))
    return [
        Subscriber(world, "live", "k/+/+", 2),
        Subscriber(world, "live-one-publisher", "k/p3/+", 2),
        Subscriber(world, "live-qos-1", "k/+/+", 1),
        Subscriber(world, "slow", "k/p1/+", 2, receive_max=3, delay=0.02),
        Subscriber(world, "slow-qos-1", "k/p2/+", 1, receive_max=10, delay=0.05),
        Subscriber(world, "sleeping", "k/+/+", 2, naps=naps),
        Subscriber(world, "sleeping-small-window", "k/+/two0", 2, receive_max=2, naps=naps),
        Subscriber(world, "sleeping-qos-1", "k/+/+", 1, naps=naps),
        Subscriber(world, "sleeping-long", "k/+/+", 2, naps=((0.5, 2), (5, 20))),
        Wanderer(world, "wanderer", "k/+/+", 2, naps=((0.2, 3), (0, 0))),
    ]


def check(world, subscriber):
    """What this subscriber has got, against what it must have got."""
    complaints = 0

    def complain(what):
        nonlocal complaints
        complaints += 1
        if complaints <= 10:
            world.complain(f"{subscriber.client_id}: {what}", subscriber.client_id)

    must = missing(world, subscriber)
    for topic, numbers in must.items():
        complain(f"{topic}: {len(numbers)} acknowledged messages are missing: {sorted(numbers)[:10]}")
    for topic, got in subscriber.got.items():
        world.counts["deliveries checked"] += len(got)
        if not subscriber.filter_matches(topic):
            complain(f"{topic} was not subscribed to")
        qos = 2 if topic.split("/")[2] in ("q2",) or topic.split("/")[2].startswith("two") else 1
        seen, last = set(), -1
        for n in got:
            if n in seen:
                subscriber.duplicates += 1
                if min(qos, subscriber.qos) == 2:
                    complain(f"{topic}: {n} twice")
            elif n < last:
                complain(f"{topic}: {n} for the first time after {last}")
            seen.add(n)
            last = max(last, n)
    return complaints == 0


def missing(world, subscriber):
    """topic -> numbers that must arrive still."""
    found = {}
    for topic, acked in world.acked.items():
        if subscriber.since is not None and subscriber.filter_matches(topic):
            lacking = {n for n in acked if n >= subscriber.since.get(topic, 0)} - set(subscriber.got[topic])
            if lacking:
                found[topic] = lacking
    return found


async def wait_progress(world, condition, what):
    """Waits for as long as something happens."""
    mark, since = None, time.monotonic()
    while not condition():
        if world.progress != mark:
            mark, since = world.progress, time.monotonic()
        if time.monotonic() - since > world.quiet:
            world.complain(f"{what}: nothing has happened for {world.quiet} s")
            return False
        await asyncio.sleep(0.2)
    return True


async def play(world, killer, seconds, subscribers):
    await killer.start()
    dice = world.dice
    tasks = [asyncio.ensure_future(s.run()) for s in subscribers]
    await wait_progress(world, lambda: all(s.since is not None for s in subscribers), "subscribing")
    tasks += [asyncio.ensure_future(p.run()) for p in world.publishers]
    end = time.monotonic() + seconds
    next_joiner = time.monotonic()
    while time.monotonic() < end and len(world.complaints) < 20:
        await (killer.one() if killer.is_killing else asyncio.sleep(0.1))
        if killer.is_killing and time.monotonic() > next_joiner and len(subscribers) < 40:
            next_joiner = time.monotonic() + max(5, seconds / 20)
            joiner = Subscriber(world, f"joiner-{len(subscribers)}", dice.choice(["k/+/+", "k/p0/+", "k/+/one1"]),
                                dice.choice([1, 2]), naps=((0.5, 3), (0.5, 3)))
            subscribers.append(joiner)
            tasks.append(asyncio.ensure_future(joiner.run()))
        for task in tasks:
            if task.done() and task.exception():
                raise task.exception()
    for publisher in world.publishers:
        publisher.is_publishing = False
    world.is_over = True
    await wait_progress(world, lambda: not any(p.open for p in world.publishers), "the last acknowledgements")
    await wait_progress(world, lambda: all(s.since is not None and not missing(world, s) for s in subscribers),
                        "what is missing")
    await asyncio.sleep(1)  # and what should not come after it
    for client in [*subscribers, *world.publishers]:
        client.stopped = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return subscribers


def run(seconds, seed, folder, workers=2, make=make_clients, is_killing=True, quiet=QUIET, sync="always"):
    """Everything; returns what to print, and whether all was well. `make` makes the clients; `sync` is the gateway's
    log { sync }."""
    world = World(seed, quiet)
    killer = Killer(world, pathlib.Path(folder), workers, sync)
    killer.is_killing = is_killing
    try:
        subscribers = asyncio.run(play(world, killer, seconds, make(world)))
        for subscriber in subscribers:
            check(world, subscriber)
        killer.gateway.stop()
        killer.inspect()
    finally:
        if killer.gateway:
            killer.gateway.destroy()
        if world.complaints:
            lines = [f"{when:9.4f} {who:12} {what}\n" for when, who, what in world.history]
            (killer.folder / "history.txt").write_text("".join(lines))
    report = {"seed": seed, "seconds": seconds, "kills": {kind: killer.kills[kind] for kind in KINDS}, "starts": killer.starts,
              "acknowledged": sum(map(len, world.acked.values())), "checked": world.counts.pop("deliveries checked", 0),
              "http numbers": sum(len(getattr(p, "numbers", [])) for p in world.publishers),
              "events": dict(world.counts), "complaints": world.complaints,
              "received": {s.client_id: [s.messages, s.duplicates] for s in subscribers}}
    return report


def summary(report):
    """A report in a line."""
    kinds = ", ".join(f"{kind} {report['kills'][kind]}" for kind in KINDS)
    return (f"seed {report['seed']}, {report['seconds']:g} s: {sum(report['kills'].values())} kills ({kinds}), "
            f"{report['acknowledged']} messages acknowledged, {report['checked']} deliveries checked, "
            f"{len(report['complaints'])} complaints")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("HOLDFAST_KILL_SECONDS", 150)))
    parser.add_argument("--seed", type=int, default=os.environ.get("HOLDFAST_KILL_SEED"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sync", choices=("always", "never"), default="always", help="the gateway's log { sync }")
    parser.add_argument("--folder", help="keep data and logs here")
    options = parser.parse_args()
    seed = int(options.seed if options.seed is not None else random.SystemRandom().getrandbits(32))
    print(f"seed {seed}", flush=True)
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="holdfast-kill-"))
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    report = run(options.seconds, seed, folder, options.workers, sync=options.sync)
    print(json.dumps(report, indent=1))
    print(summary(report))
    print(f"logs and data: {folder}")
    sys.exit(1 if report["complaints"] else 0)


if __name__ == "__main__":
    main()
