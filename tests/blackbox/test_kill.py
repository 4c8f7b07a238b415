"""Nothing acknowledged is lost: tests/kill/driver.py for a while, with a new seed each time.

HOLDFAST_KILL_SECONDS says for how long (hours if you like), HOLDFAST_KILL_SEED which seed.
"""

import os
import pathlib
import random
import re
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "kill"))
import driver  # noqa: E402
import tamper  # noqa: E402
from device import Member, Publisher, Subscriber  # noqa: E402
from http_publisher import HttpPublisher  # noqa: E402

SECONDS = float(os.environ.get("HOLDFAST_KILL_SECONDS", 150))
SEED = int(os.environ.get("HOLDFAST_KILL_SEED", random.SystemRandom().getrandbits(32)))


@pytest.mark.slow
@pytest.mark.parametrize("sync, seconds", [("always", SECONDS), ("never", SECONDS / 5)], ids=["always", "never"])
def test_nothing_acknowledged_is_lost_whatever_is_killed(folder, capsys, sync, seconds):
    """Without an fsync, too: what was written is the system's, which nobody kills."""
    report = run(seconds, folder, capsys, sync=sync)
    assert report["acknowledged"] > 20 * seconds


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_on_a_disk_that_fills_up_while_processes_are_killed(folder, capsys, small_disk):
    """What is refused meanwhile was never promised; what is acknowledged after it, or before, is kept."""
    seconds = SECONDS / 5
    report = run(seconds, folder, capsys, disk=small_disk(driver.SMALL))
    assert report["acknowledged"] > 5 * seconds and report["refused"] > seconds
    assert report["times full"] >= max(3, seconds / 20)


def run(seconds, folder, capsys, **options):
    """Runs the driver, which must have killed often and have nothing to complain of; returns its report."""
    with capsys.disabled():  # the seed is to be seen also when all is well, and before anything can hang
        print(f"\nHOLDFAST_KILL_SEED={SEED} HOLDFAST_KILL_SECONDS={SECONDS:g}", flush=True)
    report = driver.run(seconds, SEED, folder, **options)
    with capsys.disabled():
        print(driver.summary(report), flush=True)
    print(report)
    assert not report["complaints"], "\n".join(report["complaints"])
    assert sum(report["kills"].values()) > 2 * seconds and (seconds < 60 or all(report["kills"].values()))
    assert report["checked"] > report["acknowledged"]
    return report


# What is done to a subscriber, and what the driver must say of it and of nobody else. The last one is told the truth, and its
# publisher is not.
FAULTS = {
    "loses": (tamper.Loses, r"1 acknowledged messages are missing"),
    "doubles": (tamper.Doubles, r"k/p/two\d: \d+ twice"),
    "swaps": (tamper.Swaps, r"k/p/two\d: \d+ for the first time after \d+"),
    "repeats": (tamper.Repeats, r"twice on one connection"),
    "denies": (tamper.Denies, r"again, without DUP"),
    "forgets": (tamper.Forgets, r"its session is gone"),
    "member": (tamper.Loses, r"1 acknowledged messages are missing"),
    "witness": (tamper.Tamper, r"k/refused/one: \d+ was refused, and has come"),
}


def test_the_driver_notices_what_must_not_be(folder):
    """Each of these things is done to one client, by something between it and the gateway; and nothing to the last ones."""
    clients, tampered = [], []

    def make(world):
        topics = [(f"k/p/{name}{t}", qos) for qos, name in ((1, "one"), (2, "two")) for t in (0, 1)]
        world.publishers += [Publisher(world, "publisher", topics, pace=0.01), HttpPublisher(world, "http", 0.05),
                             Publisher(world, "refused", [("k/refused/one", 1)], pace=0.05)]
        world.publishers[1].tamper, world.publishers[2].tamper = tamper.GivesNumbersTwice(), tamper.Refuses()
        for name, (fault, _) in FAULTS.items():
            if name == "member":
                clients.append(Member(world, name, [], "k/p/+"))
            else:
                clients.append(Subscriber(world, name, "k/refused/+" if name == "witness" else "k/p/+", 2,
                                          naps=((0.5, 0.5), (0.1, 0.1)) if name == "forgets" else None))
            clients[-1].tamper = fault()
        tampered.extend([*clients[:-1], *world.publishers[1:]])
        clients.extend([Subscriber(world, "honest", "k/p/+", 2), Subscriber(world, "honest-http", "k/http/+", 2)])
        return clients

    report = driver.run(4, 1, folder, workers=1, make=make, is_killing=False, quiet=2)
    complaints = report["complaints"]
    assert [c for c in tampered if not c.tamper.is_done] == []
    for name, (_, text) in FAULTS.items():
        mine = [c for c in complaints if c.startswith(f"{name}: ")]
        assert mine and all(re.search(text, c) for c in mine), f"{name}: {mine}"
    assert [c for c in complaints if c.startswith("http: ")] and not [c for c in complaints if c.startswith("honest")]
    others = [c for c in complaints if c.split(":")[0] not in [*FAULTS, "http"]]
    assert others == ["what is missing: nothing has happened for 2 s"], others
