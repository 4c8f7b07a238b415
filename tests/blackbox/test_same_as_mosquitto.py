"""Clients see the same from us as from mosquitto: random sequences of operations against both, compared after each one.

HOLDFAST_SAME_SEED is the seed of the first sequence and HOLDFAST_SAME_COUNT says how many there are. What is levelled,
because the standard leaves it to the server or because mosquitto 2.0 departs from it, is said in same_as.py.
"""

import os
import shutil

import pytest

import same_as
from conftest import session
from mqtt_raw import V5, Client

SEED = int(os.environ.get("HOLDFAST_SAME_SEED", 1))
COUNT = int(os.environ.get("HOLDFAST_SAME_COUNT", 160))
SYNC = ["sync = always", "sync = never", "sync = never", "sync = interval sync_interval = 50ms"]
BATCHES = len(SYNC)
NO_LIMITS = 'max_inflight = 1000 receive_maximum = 1000 max_session_expiry = 0 clients_prefix = "" broadcast_topic = ""'


@pytest.fixture
def mosquitto(folder):
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin"):
        pytest.skip("no mosquitto here")
    server = same_as.Mosquitto(folder / "mosquitto")
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_sequences_are_observed_alike(start, mosquitto, batch):
    gateway = start(workers=1 + batch % 3, mqtt=NO_LIMITS, top=f"log {{ {SYNC[batch]} }}")
    worlds = (same_as.World("mosquitto", mosquitto.address), same_as.World("holdfast", gateway.mqtt))
    for seed in range(SEED + batch, SEED + COUNT, BATCHES):
        print("seed", seed)
        same_as.run(same_as.generate(seed), *worlds)


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_a_group_that_is_founded_again_begins_anew(start, sync):
    """Also while what was stored of the earlier one is there to be read yet."""
    gateway = start(top=f'log {{ sync = {sync}  sync_interval = 2s }}')
    member, sender = gateway.client("member", V5, **session()), gateway.client("sender")
    assert member.subscribe(("$share/g/t", 1)) == [1]
    sender.publish_acked("t", "to the first", 1)
    member.take("to the first")
    assert member.unsubscribe("$share/g/t") == [0]
    sender.publish_acked("t", "to nobody", 1)
    assert member.subscribe(("$share/g/t", 1)) == [1]
    sender.publish_acked("t", "to the second", 1)
    member.take("to the second")


@pytest.mark.parametrize("ending", ["asleep", "taken over"])
def test_a_clean_start_of_its_last_member_ends_a_group(gateway, ending):
    """What is published when nobody is subscribed is not for the group that somebody founds later."""
    member = gateway.client("member", V5, **session())
    assert member.subscribe(("$share/g/t", 1)) == [1]
    if ending == "asleep":
        member.leave()
    gateway.client("member", V5, clean=True).leave()
    member.close()
    with Client(gateway.mqtt, "sender") as sender, Client(gateway.mqtt, "founder") as founder:
        sender.publish_acked("t", "before", 1)
        assert founder.subscribe(("$share/g/t", 1)) == [1]
        sender.publish_acked("t", "after", 1)
        founder.take("after")
