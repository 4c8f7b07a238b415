"""Stored sessions as operators see them: GET and DELETE /v1/clients/{id}, GET /v1/sessions, `holdfast sessions`."""

import json
import subprocess

import pytest

from conftest import BINARY, session, wait_for


def away(gateway, client_id, filters=(), seconds=3600, **connect):
    """A client that has subscribed, and left its session behind."""
    client = gateway.client(client_id, **{**session(seconds), **connect})
    if filters:
        client.subscribe(*filters)
    client.leave()
    wait_for(lambda: not stored(gateway, client_id)["connected"], f"{client_id} is away")


def stored(gateway, client_id):
    """What is stored of a session, as the API tells it."""
    return gateway.http("GET", f"/v1/clients/{client_id}").json["session"]


def command(gateway, *arguments, code=0):
    """`holdfast sessions`; its output."""
    done = subprocess.run([BINARY, "sessions", "-c", str(gateway.config_file), *arguments], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == code, done
    return done.stderr if code else done.stdout


def command_json(gateway, *arguments):
    return json.loads(command(gateway, "--json", *arguments))


# ---- one client


def test_a_client_that_is_away(gateway):
    away(gateway, "sleeper", [("news/+", 1), ("sport", 2), ("noise", 0)])
    for topic in ("news/a", "news/b", "sport", "noise", "elsewhere"):
        gateway.publish(topic, "x", qos=1)
    found = gateway.http("GET", "/v1/clients/sleeper").json
    assert found["connected"] is False and found["client_id"] == "sleeper"
    s = found["session"]
    assert {(x["filter"], x["qos"]) for x in s["subscriptions"]} == {("news/+", 1), ("sport", 2), ("noise", 0)}
    assert s["session_expiry"] == 3600 and s["expires"] > s["disconnected_since"]
    assert s["lag"]["messages"] == 3 and s["lag"]["more"] is False and s["lag"]["age_seconds"] >= 0
    assert s["inflight"] == 0 and s["caught_up"] is False and s["will_due"] is None


def test_the_lag_goes_with_what_is_acknowledged(gateway):
    away(gateway, "c", [("t", 1)])
    before = stored(gateway, "c")["cursor"]
    for i in range(5):
        gateway.publish("t", str(i), qos=1)
    assert stored(gateway, "c")["lag"]["messages"] == 5
    with gateway.client("c", **session()) as client:
        for i in range(5):
            client.take(str(i))
        wait_for(lambda: gateway.http("GET", "/v1/clients/c").json["session"]["lag"]["messages"] == 0, "no lag")
        live = gateway.http("GET", "/v1/clients/c").json
        assert live["connected"] is True and live["session_expiry"] == 3600 and live["inflight"] == 0
        assert live["session"]["connected"] is True and live["cursor"] > before
    wait_for(lambda: stored(gateway, "c")["cursor"] > before, "the cursor is written")
    assert stored(gateway, "c")["lag"]["messages"] == 0


def test_what_was_sent_and_not_acknowledged_is_in_flight(gateway):
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    gateway.publish("t", "x", qos=1)
    client.expect_publish("x")
    wait_for(lambda: gateway.http("GET", "/v1/clients/c").json["inflight"] == 1, "in flight")
    client.close()
    wait_for(lambda: not stored(gateway, "c")["connected"], "away")
    assert stored(gateway, "c")["inflight"] == 1 and stored(gateway, "c")["lag"]["messages"] == 1


def test_an_implicit_channel_counts(gateway):
    away(gateway, "c")
    gateway.http("POST", "/v1/broadcast", {"payload": "x", "qos": 1})
    gateway.http("POST", "/v1/clients/c/publish", {"payload": "x", "qos": 1})
    gateway.http("POST", "/v1/clients/d/publish", {"payload": "x", "qos": 1})
    assert stored(gateway, "c")["lag"]["messages"] == 2


def test_a_lag_is_not_counted_for_ever(gateway):
    away(gateway, "c", [("t", 1)])
    body = [{"topic": "t", "payload": "x", "qos": 1}] * 1000
    for _ in range(3):
        assert gateway.http("POST", "/v1/publish", body).status == 200
    assert stored(gateway, "c")["lag"]["messages"] == 1000 and stored(gateway, "c")["lag"]["more"] is True
    assert command_json(gateway, "c")[0]["lag"]["messages"] == 3000


def test_a_client_that_is_not_stored_has_no_session(gateway):
    with gateway.client("plain"):
        gateway.wait_registered(1)
        found = gateway.http("GET", "/v1/clients/plain").json
        assert found["connected"] is True and found["session"] is None and found["session_expiry"] == 0
    wait_for(lambda: gateway.http("GET", "/v1/clients/plain").status == 404, "404")


def test_a_will_that_waits_is_told(gateway):
    client = gateway.client("c", **session(), will=("wills", "gone", 1, False, {"will_delay": 600}))
    client.abort()
    wait_for(lambda: stored(gateway, "c")["will_due"], "a will that waits")


def test_a_session_that_never_ends(start):
    gateway = start(mqtt="max_session_expiry = 0")
    away(gateway, "c", seconds=0xFFFFFFFF)
    assert stored(gateway, "c")["session_expiry"] is None and stored(gateway, "c")["expires"] is None
    assert "never" in command(gateway)


def test_a_session_that_is_over_is_not_shown(gateway):
    away(gateway, "c", seconds=1)
    wait_for(lambda: gateway.http("GET", "/v1/clients/c").status == 404, "the end of the session")
    assert gateway.http("GET", "/v1/sessions").json["sessions"] == []
    assert command_json(gateway) == []


# ---- removing


def test_deleting_a_session_that_is_away(gateway):
    away(gateway, "c", [("t", 1)])
    assert gateway.http("DELETE", "/v1/clients/c").status == 204
    assert gateway.http("GET", "/v1/clients/c").status == 404
    assert gateway.http("DELETE", "/v1/clients/c").status == 404
    with gateway.client("c", **session()) as client:
        assert not client.connack.session_present


def test_disconnecting_leaves_the_session(gateway):
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    assert gateway.http("DELETE", "/v1/clients/c").status == 204
    client.expect_disconnect(0x98)
    wait_for(lambda: stored(gateway, "c")["connected"] is False, "away")
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present


def test_ending_a_connected_session(gateway):
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    assert gateway.http("DELETE", "/v1/clients/c?session=true").status == 204
    assert gateway.http("GET", "/v1/clients/c").status == 404  # it was answered when it was so
    client.expect_disconnect(0x98)
    with gateway.client("c", **session()) as client:
        assert not client.connack.session_present
    assert gateway.http("DELETE", "/v1/clients/c?session=perhaps").status == 400


def test_deleting_publishes_the_will_that_waits(gateway):
    with gateway.client("watcher") as watcher:
        watcher.subscribe(("wills", 1))
        gateway.client("c", **session(), will=("wills", "gone", 1, False, {"will_delay": 600})).abort()
        wait_for(lambda: stored(gateway, "c")["will_due"], "a will that waits")
        assert gateway.http("DELETE", "/v1/clients/c").status == 204
        watcher.take("gone", "wills")


# ---- lists


def test_pages_of_sessions(gateway):
    names = sorted(f"client-{i:03}" for i in range(25))
    for name in names:
        away(gateway, name)
    with gateway.client("client-007", **session()):
        found, after, pages = [], "", 0
        while after is not None:
            page = gateway.http("GET", f"/v1/sessions?limit=10&after={after}").json
            found += page["sessions"]
            after, pages = page["next"], pages + 1
        assert [s["client_id"] for s in found] == names and pages == 3
        assert [s["client_id"] for s in found if s["connected"]] == ["client-007"]
        assert [s["client_id"] for s in gateway.http("GET", "/v1/sessions").json["sessions"]] == names
    assert gateway.http("GET", "/v1/sessions?after=zzz").json == {"sessions": [], "next": None, "newest": 0}


def test_bad_pages(gateway):
    for query in ("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "after=" + "x" * 65536):
        assert gateway.http("GET", f"/v1/sessions?{query}").status in (400, 414), query


def test_odd_client_ids(start):
    gateway = start(mqtt="max_client_id = 1000")
    names = {"a/b", "gr\u00fcn", "a+b#", "x" * 600}
    for name in names:
        gateway.client(name, **session()).close()

    def all_away():
        listed = gateway.http("GET", "/v1/sessions").json["sessions"]
        return len(listed) == len(names) and not any(s["connected"] for s in listed) and listed
    assert {s["client_id"] for s in wait_for(all_away, "all are away")} == names
    assert {s["client_id"] for s in command_json(gateway)} == names
    assert gateway.http("GET", "/v1/clients/a%2Bb%23").json["session"]["lag"]["messages"] == 0
    assert command_json(gateway, "gr\u00fcn")[0]["client_id"] == "gr\u00fcn"


# ---- the command


def test_the_command_lists_what_the_api_lists(gateway):
    away(gateway, "a", [("t/+", 2)])
    away(gateway, "b")
    gateway.publish("t/1", "x", qos=1)
    a, b = command_json(gateway)
    assert (a["client_id"], b["client_id"]) == ("a", "b")
    assert a["lag"]["messages"] == 1 and b["lag"]["messages"] == 0 and not a["connected"]
    assert a["cursor"] == stored(gateway, "a")["cursor"]
    assert [(s["filter"], s["qos"]) for s in a["subscriptions"]] == [("t/+", 2)]
    assert len(command_json(gateway, "-n", "1")) == 1
    text = command(gateway)
    assert text.splitlines()[0].startswith("CLIENT") and "2 sessions" in text
    one = command(gateway, "a")
    assert "qos 2  t/+" in one
    assert "no session of 'nobody'" in command(gateway, "nobody", code=1)


def test_the_command_needs_no_gateway(gateway):
    away(gateway, "a", [("t", 1)])
    gateway.publish("t", "x", qos=1)
    gateway.stop()
    assert command_json(gateway)[0]["lag"]["messages"] == 1


def test_the_command_says_what_is_wrong(gateway, folder):
    done = subprocess.run([BINARY, "sessions", "-d", str(folder / "nowhere")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and str(folder / "nowhere") in done.stderr
    empty = folder / "empty"
    empty.mkdir()
    done = subprocess.run([BINARY, "sessions", "-d", str(empty)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and str(empty) in done.stderr
    assert command(gateway, "-n", "x", code=2) and command(gateway, "--bogus", code=2)
    assert "0 sessions" in command(gateway)


# ---- when processes die


@pytest.mark.parametrize("victim", ["hf-hub", "hf-worker-0"])
def test_sessions_whose_process_dies_are_right_afterwards(start, victim):
    gateway = start(workers=2)
    here, there = gateway.client_on(0, "here", **session()), gateway.client_on(1, "there", **session())
    pid = gateway.kill_child(victim)
    gateway.wait_successor(victim, pid)
    if victim == "hf-hub":
        wait_for(lambda: gateway.http("GET", "/readyz").status == 200, "ready")
        assert gateway.http("GET", "/v1/clients/here").json["connected"]
        assert stored(gateway, "here")["connected"]
        here.leave()
    wait_for(lambda: not stored(gateway, "here")["connected"], "here is away")
    assert stored(gateway, "there")["connected"]
    there.close()
    wait_for(lambda: not stored(gateway, "there")["connected"], "there is away")


def test_after_a_crash_of_everything_nobody_is_connected(start):
    gateway = start()
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    gateway.kill_all()
    assert command_json(gateway)[0]["connected"] is True  # nobody was there to say otherwise
    again = start(data_dir=gateway.data_dir)
    wait_for(lambda: not stored(again, "c")["connected"], "away")
    assert [s["filter"] for s in stored(again, "c")["subscriptions"]] == ["t"]
