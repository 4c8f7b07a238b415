"""Two connections with one client id: the later one wins, wherever it is."""

import threading

import pytest

import mqtt_raw as mqtt
from mqtt_raw import V311, V5


@pytest.mark.parametrize("old_version, new_version", [(V311, V311), (V311, V5), (V5, V311), (V5, V5)])
def test_takeover_on_the_same_worker(gateway, old_version, new_version):
    old = gateway.client("phone", old_version)
    old.subscribe("old/topic")
    with gateway.client("phone", new_version) as new:
        assert new.connack.session_present == 0
        old.expect_disconnect(0x8E)
        gateway.publish("old/topic", "not subscribed any more")
        gateway.publish("clients/phone", "for the new one")
        new.expect_publish("for the new one")
        assert gateway.metric("holdfast_sessions") == 1
        assert gateway.metric("holdfast_mqtt_takeovers_total") == 1
        gateway.wait_metric("holdfast_connections_closed_total", 1, reason="taken_over")


def test_takeover_across_workers(start):
    gateway = start(workers=2)
    for version in (V5, V311):
        old = gateway.client_on(0, f"phone-{version}", version=version)
        other = gateway.client(f"other-{version}")
        new = gateway.client_on(1, f"phone-{version}", version=version)
        old.expect_disconnect(0x8E)
        gateway.publish(f"clients/phone-{version}", "for the new one")
        new.expect_publish("for the new one")
        other.ping()
        gateway.wait_registered(2)
        answer = gateway.http("GET", f"/v1/clients/phone-{version}")
        assert answer.status == 200, answer
        new.close()
        other.close()
    gateway.wait_metric("holdfast_sessions", 0)


def test_takeover_works_after_the_hub_was_killed(start):
    gateway = start(workers=2)
    old = gateway.client_on(0, "phone")
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
    gateway.wait_metric("holdfast_registry_clients", 1)
    new = gateway.client_on(1, "phone")
    old.expect_disconnect(0x8E)
    new.ping()
    new.close()


def test_the_will_of_the_connection_that_was_taken_over_is_published(gateway):
    with gateway.client("watcher") as watcher:
        watcher.subscribe("wills")
        old = gateway.client("phone", will=("wills", "taken over"))
        with gateway.client("phone") as new:
            old.expect_disconnect(0x8E)
            watcher.expect_publish("taken over")
            new.ping()


def test_a_fight_for_one_client_id_leaves_exactly_one(start):
    gateway = start(workers=2)
    clients, lock = [], threading.Lock()

    def fight():
        for _ in range(10):
            try:
                client = gateway.client("contested")
            except (mqtt.Closed, AssertionError):
                continue
            with lock:
                clients.append(client)

    threads = [threading.Thread(target=fight) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.wait_metric("holdfast_sessions", 1)
    gateway.publish("clients/contested", "who is it")
    heard = 0
    for client in clients:
        try:
            client.expect_publish("who is it")
            heard += 1
        except (mqtt.Closed, AssertionError):
            pass
        client.close()
    assert heard == 1
