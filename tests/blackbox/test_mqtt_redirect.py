"""Clients are sent to another server (MQTT 5.0 section 4.11)."""
import signal

import pytest

import mqtt_raw as mqtt
from conftest import wait_for
from mqtt_raw import CONNACK, DISCONNECT, PUBLISH, V311, V5, Client

USE_ANOTHER, MOVED, SHUTTING_DOWN = 0x9C, 0x9D, 0x8B
REFERENCE = "a.example:1883 [2001:db8::1]:8883"


def config(redirect, reference=REFERENCE):
    return f'mqtt {{ redirect = "{redirect}"  server_reference = "{reference}" }}'


def refused(gateway, version=V5, **connect):
    """The CONNACK of a client that is not let in."""
    client = Client(gateway.mqtt, "c", version, connect=False)
    client.send(mqtt.connect(version, "c", **connect))
    answers = client.expect_closed()
    assert all(a.type == CONNACK for a in answers) and len(answers) <= 1, answers
    return answers[0] if answers else None


@pytest.mark.parametrize("redirect, code", [("use_another", USE_ANOTHER), ("moved", MOVED)])
def test_who_connects_is_told_where_to_go(start, redirect, code):
    gateway = start(top=config(redirect))
    answer = refused(gateway)
    assert answer.code == code and answer.props["server_reference"] == REFERENCE
    assert refused(gateway, V311).code == 3
    reason = {USE_ANOTHER: "use_another_server", MOVED: "server_moved"}[code]
    wait_for(lambda: gateway.metric("holdfast_connections_closed_total", reason=reason) == 2, "both are counted")


def test_a_reference_that_the_client_does_not_take_is_left_out(start):
    gateway = start(top=config("moved"))
    answer = refused(gateway, props={"maximum_packet_size": 20})
    assert answer.code == MOVED and "server_reference" not in answer.props
    assert refused(gateway, props={"maximum_packet_size": 4}) is None


@pytest.mark.parametrize("redirect, code",
                         [("never", SHUTTING_DOWN), ("shutdown", USE_ANOTHER)])
def test_who_is_connected_at_the_end_is_told_where_to_go(start, redirect, code):
    gateway = start(top=config(redirect))
    client, old = gateway.client("c", V5), gateway.client("old", V311)
    small = gateway.client("small", V5, props={"maximum_packet_size": 30})
    gateway.process.send_signal(signal.SIGTERM)
    said = [p for p in client.expect_closed() if p.type == DISCONNECT]
    assert [p.code for p in said] == [code]
    assert said[0].props.get("server_reference") == (REFERENCE if code == USE_ANOTHER else None)
    assert [(p.code, p.props) for p in small.expect_closed() if p.type == DISCONNECT] == [(code, {})]
    assert old.expect_closed() == []
    assert gateway.process.wait(30) == 0


def test_without_a_reference_there_is_the_code_alone(start):
    gateway = start(top=config("shutdown", ""))
    watcher = gateway.client("w", V5)
    watcher.subscribe(("wills", 0))
    client = gateway.client("c", V5, will=("wills", "gone", 0, False))
    gateway.process.send_signal(signal.SIGTERM)
    said = watcher.expect_closed()
    assert [p.code for p in said if p.type == DISCONNECT] == [USE_ANOTHER]
    assert all("server_reference" not in p.props for p in said if p.type == DISCONNECT)
    assert [p.payload for p in said if p.type == PUBLISH] in ([], [b"gone"])  # the watcher may go first
    assert [p.code for p in client.expect_closed()] == [USE_ANOTHER]
    assert gateway.process.wait(30) == 0


def test_a_reference_with_control_characters_is_refused(start):
    gateway = start(top='mqtt { server_reference = "a\\tb" }', ready=False)
    assert gateway.process.wait(10) != 0
    assert "server_reference" in gateway.text and "names or addresses" in gateway.text
