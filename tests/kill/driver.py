#!/usr/bin/env python3
"""Publishes QoS 1 and 2 to live, slow, sleeping and wandering subscribers while the gateway's processes are killed, and
then looks at what has arrived.

    HOLDFAST=build/holdfast tests/kill/driver.py [--seconds 3600] [--seed N] [--workers 2] [--disk-full] [--folder DIR]

Whatever is killed is killed again soon after it is back, several times a second. With --disk-full the data are on a small
disk, which is full and has room again, in turn, meanwhile; a publish that is refused then is not acknowledged, and given up.

What must hold, whatever was killed:
- every message that was acknowledged to its publisher (PUBACK, PUBREC, HTTP 200) reaches every session that had been
  subscribed before it was sent
- none that was refused (0x97, HTTP 507) reaches anybody
- and some member of each shared subscription
- one of QoS 2, subscribed to with QoS 2, reaches the application exactly once, in the sense of MQTT: its client drops
  what comes again under an identifier that was not released
- per topic, messages come in the order in which their publisher sent them; a repetition (QoS 1) comes later, never a
  message for the first time after one that was sent later
- no sequence number is given twice, and they grow
- no session is lost, no identifier is used for two things, no window is exceeded, nothing is repeated within a connection,
  and what is repeated on another one has DUP
- when there is room on the disk again, every publisher is answered well again, without a restart

With the first complaints, what the client and the killer had been doing before is printed, too; all of it is in history.txt.

The seed makes the same choices again; what the machine does between them it cannot repeat.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import random
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "blackbox")]
from ballast import Ballast  # noqa: E402
from conftest import NoSmallDisk, SmallDisk  # noqa: E402
from device import Member, Publisher, Subscriber, Wanderer  # noqa: E402
from http_publisher import HttpPublisher  # noqa: E402
from killer import KINDS, Killer  # noqa: E402
from verdict import check, missing  # noqa: E402
from world import QUIET, World  # noqa: E402

TOPICS = 3  # of each publisher and QoS
MOST_SUBSCRIBERS = 40
SMALL = 16  # megabytes of the disk that fills up
PADDING = 2000  # bytes more of each message, so that it does


def make_clients(world):
    """Publishers, and subscribers of each kind."""
    for i in range(4):
        topics = [(f"k/p{i}/{'one' if qos == 1 else 'two'}{t}", qos) for qos in (1, 2) for t in range(TOPICS)]
        world.publishers.append(Publisher(world, f"publisher-{i}", topics, pace=0.02 * (1 + i), in_flight=(1, 5, 20, 50)[i]))
    world.publishers.append(HttpPublisher(world, "http", 0.05))
    naps, group = ((0.05, 1.5), (0.2, 4)), []
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
        Member(world, "member", group, "k/+/+"),
        Member(world, "member-slow", group, "k/+/+", receive_max=3, delay=0.02),
        Member(world, "member-sleeping", group, "k/+/+", naps=naps),
    ]


def make_joiner(world, number):
    """A subscriber that comes later than the first messages."""
    return Subscriber(world, f"joiner-{number}", world.dice.choice(["k/+/+", "k/p0/+", "k/+/one1"]),
                      world.dice.choice([1, 2]), naps=((0.5, 3), (0.5, 3)))


async def wait_progress(world, condition, what, progress=None):
    """Waits for as long as something happens: as what progress() gives changes, by default whatever reaches anybody."""
    mark, since = None, time.monotonic()
    progress = progress or (lambda: world.progress)
    while not condition():
        if progress() != mark:
            mark, since = progress(), time.monotonic()
        if time.monotonic() - since > world.quiet:
            world.complain(f"{what}: nothing has happened for {world.quiet} s")
            return False
        await asyncio.sleep(0.2)
    return True


class Play:
    """The clients' tasks, from the first start to the last message."""

    def __init__(self, world, killer, subscribers, ballast):
        self.world, self.killer, self.subscribers, self.ballast = world, killer, subscribers, ballast
        self.tasks = []

    def begin(self, clients):
        self.tasks += [asyncio.ensure_future(client.run()) for client in clients]

    async def run(self, seconds):
        await self.killer.start()
        self.begin(self.subscribers)
        await wait_progress(self.world, self.all_subscribed, "subscribing")
        self.begin(self.world.publishers)
        await self.trouble(seconds)
        if self.ballast:
            await self.make_room()
        await self.finish()
        for client in [*self.subscribers, *self.world.publishers]:
            client.stopped = True
        await end(self.tasks)

    async def trouble(self, seconds):
        """Kills, fills the disk, and lets more subscribers come, until it is time or enough is wrong."""
        filling = [asyncio.ensure_future(self.ballast.run())] if self.ballast else []
        start = next_joiner = time.monotonic()
        while time.monotonic() < start + seconds and len(self.world.complaints) < 20:
            await (self.killer.one() if self.killer.is_killing else asyncio.sleep(0.1))
            if self.killer.is_killing and time.monotonic() > next_joiner and len(self.subscribers) < MOST_SUBSCRIBERS:
                next_joiner = time.monotonic() + max(5, seconds / 20)
                self.subscribers.append(make_joiner(self.world, len(self.subscribers)))
                self.begin(self.subscribers[-1:])
            for task in self.tasks + filling:
                if task.done() and task.exception():
                    raise task.exception()
        await end(filling)

    async def make_room(self):
        """The disk has room from now on, and that is all that anybody does about it."""
        self.ballast.free()
        before = [p.taken for p in self.world.publishers]
        await wait_progress(self.world, lambda: all(p.taken > b for p, b in zip(self.world.publishers, before)),
                            "publishes to a disk that has room again", progress=lambda: None)

    async def finish(self):
        """No more messages: those that there are arrive."""
        for publisher in self.world.publishers:
            publisher.is_publishing = False
        self.world.is_over = True
        await wait_progress(self.world, lambda: not any(p.open for p in self.world.publishers), "the last acknowledgements")
        await wait_progress(self.world, lambda: self.all_subscribed() and not any(
            missing(self.world, s) for s in self.subscribers), "what is missing")
        await asyncio.sleep(1)  # and what should not come after it

    def all_subscribed(self):
        return all(s.since is not None for s in self.subscribers)


async def end(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(seconds, seed, folder, workers=2, make=make_clients, is_killing=True, quiet=QUIET, sync="always", disk=None):
    """Everything; returns what to print, and whether all was well. `make` makes the clients; `sync` is the gateway's
    log { sync }; `disk` is a small one, for the data, to be filled."""
    world = World(seed, quiet, padding=PADDING if disk else 0)
    killer = Killer(world, pathlib.Path(folder), workers, sync, disk)
    killer.is_killing = is_killing
    ballast = Ballast(world, disk) if disk else None
    subscribers = make(world)
    try:
        asyncio.run(Play(world, killer, subscribers, ballast).run(seconds))
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
              "acknowledged": sum(map(len, world.acked.values())), "refused": world.refusals,
              "times full": ballast.rounds if ballast else 0, "checked": world.counts.pop("deliveries checked", 0),
              "http numbers": sum(len(getattr(p, "numbers", [])) for p in world.publishers),
              "events": dict(world.counts), "complaints": world.complaints,
              "received": {s.client_id: [s.messages, s.duplicates] for s in subscribers}}
    return report


def summary(report):
    """A report in a line."""
    kinds = ", ".join(f"{kind} {report['kills'][kind]}" for kind in KINDS)
    full = f"disk {report['times full']} times full, {report['refused']} refused, " if report["times full"] else ""
    return (f"seed {report['seed']}, {report['seconds']:g} s: {sum(report['kills'].values())} kills ({kinds}), "
            f"{report['acknowledged']} messages acknowledged, {full}{report['checked']} deliveries checked, "
            f"{len(report['complaints'])} complaints")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("HOLDFAST_KILL_SECONDS", 150)))
    parser.add_argument("--seed", type=int, default=os.environ.get("HOLDFAST_KILL_SEED"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sync", choices=("always", "never"), default="always", help="the gateway's log { sync }")
    parser.add_argument("--disk-full", action="store_true", help="the data are on a small disk, which fills up meanwhile")
    parser.add_argument("--folder", help="keep data and logs here")
    options = parser.parse_args()
    seed = int(options.seed if options.seed is not None else random.SystemRandom().getrandbits(32))
    print(f"seed {seed}", flush=True)
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="holdfast-kill-")).resolve()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    try:
        with SmallDisk(folder / "small", SMALL) if options.disk_full else contextlib.nullcontext() as disk:
            report = run(options.seconds, seed, folder, options.workers, sync=options.sync, disk=disk)
    except NoSmallDisk as e:
        sys.exit(str(e))
    print(json.dumps(report, indent=1))
    print(summary(report))
    print(f"logs and data: {folder}")
    sys.exit(1 if report["complaints"] else 0)


if __name__ == "__main__":
    main()
