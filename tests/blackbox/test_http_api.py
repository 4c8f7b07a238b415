"""The HTTP API: every route, every error with the field it is about, tokens, metrics."""

import base64
import http.client
import json
import os
import re
import socket
import time

import pytest

import mqtt_raw as mqtt
from conftest import wait_for
from mqtt_raw import V311, V5


def problem(answer, status, field=None):
    """Asserts an RFC 9457 problem and returns it."""
    assert answer.status == status, answer
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json", answer.headers
    body = answer.json
    assert body["status"] == status and body["title"] and body["detail"], body
    assert body.get("field") == field, body
    return body


# ---- publishing

def test_publish_answers_with_sequence_number_and_workers(start):
    gateway = start(workers=2)
    with gateway.client("c") as client:
        client.subscribe("news")
        first = gateway.publish("news", "hello")
        second = gateway.publish("news", "héllo ☃")
        assert first["workers"] == second["workers"] == 2
        assert second["seq"] > first["seq"] > 0
        client.expect_publish("hello", "news")
        client.expect_publish("héllo ☃", "news")


def test_publish_takes_base64(gateway):
    data = bytes(range(256))
    with gateway.client("c") as client:
        client.subscribe("t")
        answer = gateway.http("POST", "/v1/publish",
                              {"topic": "t", "payload_base64": base64.b64encode(data).decode()})
        assert answer.status == 200, answer
        client.expect_publish(data)
        assert gateway.http("POST", "/v1/publish", {"topic": "t", "payload_base64": ""}).status == 200
        client.expect_publish(b"")


def test_publish_takes_properties(gateway):
    with gateway.client("c") as client, gateway.client("old", V311) as old:
        client.subscribe("t")
        old.subscribe("t")
        gateway.publish("t", "{}", properties={
            "content_type": "application/json", "payload_format": "utf-8", "response_topic": "a/b",
            "correlation_data": base64.b64encode(b"\0\1").decode(), "message_expiry": 60,
            "user": [["b", "2"], ["a", "1"], ["b", "3"]]})
        props = client.expect_publish("{}").props
        assert props.pop("message_expiry") in (59, 60)
        assert props == {"content_type": "application/json", "payload_format": 1, "response_topic": "a/b",
                         "correlation_data": b"\0\1", "user": [("b", "2"), ("a", "1"), ("b", "3")]}
        old.expect_publish("{}")
        gateway.publish("t", "{}", properties={"user": {"one": "1"}})
        assert client.expect_publish("{}").props == {"user": [("one", "1")]}


def test_publish_takes_an_array_all_or_nothing(gateway):
    with gateway.client("c") as client:
        client.subscribe("t")
        messages = [{"topic": "t", "payload": str(i)} for i in range(100)]
        answer = gateway.http("POST", "/v1/publish", messages)
        assert answer.status == 200 and len(answer.json) == 100, answer
        seqs = [one["seq"] for one in answer.json]
        assert seqs == sorted(set(seqs))
        for i in range(100):
            client.expect_publish(str(i))
        messages[57]["topic"] = "a/#"
        problem(gateway.http("POST", "/v1/publish", messages), 400, "[57].topic")
        gateway.publish("t", "next")
        client.expect_publish("next")


def test_publish_to_a_client(gateway):
    with gateway.client("al/ice é") as client:
        gateway.wait_registered(1)
        answer = gateway.http("POST", "/v1/clients/al%2Fice%20%C3%A9/publish", {"payload": "direct"})
        assert answer.status == 200 and answer.json["workers"] == 1, answer
        client.expect_publish("direct", "clients/al/ice é")
        problem(gateway.http("POST", "/v1/clients/nobody/publish", {"payload": "x"}), 404, "id")
        problem(gateway.http("POST", "/v1/clients/al%2Fice%20%C3%A9/publish", {"topic": "t", "payload": "x"}), 400,
                "topic")


def test_broadcast(gateway):
    with gateway.client("a") as a, gateway.client("b", V311) as b:
        assert gateway.http("POST", "/v1/broadcast", {"payload": "to all"}).status == 200
        a.expect_publish("to all", "broadcast")
        b.expect_publish("to all", "broadcast")


BAD_MESSAGES = [
    ({"payload": "x"}, "topic"),
    ({"topic": "", "payload": "x"}, "topic"),
    ({"topic": "a/+", "payload": "x"}, "topic"),
    ({"topic": "a/#", "payload": "x"}, "topic"),
    ({"topic": "a\0b", "payload": "x"}, "topic"),
    ({"topic": "t" * 70000, "payload": "x"}, "topic"),
    ({"topic": "/" * 200, "payload": "x"}, "topic"),
    ({"topic": 5, "payload": "x"}, "topic"),
    ({"topic": "t"}, "payload"),
    ({"topic": "t", "payload": 5}, "payload"),
    ({"topic": "t", "payload": None}, "payload"),
    ({"topic": "t", "payload": "x", "payload_base64": "eA=="}, "payload_base64"),
    ({"topic": "t", "payload_base64": "not base64!"}, "payload_base64"),
    ({"topic": "t", "payload_base64": "eA"}, "payload_base64"),
    ({"topic": "t", "payload": "x", "qos": 3}, "qos"),
    ({"topic": "t", "payload": "x", "qos": -1}, "qos"),
    ({"topic": "t", "payload": "x", "qos": "0"}, "qos"),
    ({"topic": "t", "payload": "x", "retain": 1}, "retain"),
    ({"topic": "t", "payload": "x", "colour": "red"}, "colour"),
    ({"topic": "t", "payload": "x", "properties": []}, "properties"),
    ({"topic": "t", "payload": "x", "properties": {"content_typ": "a"}}, "properties.content_typ"),
    ({"topic": "t", "payload": "x", "properties": {"content_type": 5}}, "properties.content_type"),
    ({"topic": "t", "payload": "x", "properties": {"response_topic": "a/#"}}, "properties.response_topic"),
    ({"topic": "t", "payload": "x", "properties": {"correlation_data": "%"}}, "properties.correlation_data"),
    ({"topic": "t", "payload": "x", "properties": {"payload_format": 1}}, "properties.payload_format"),
    ({"topic": "t", "payload": "x", "properties": {"message_expiry": -1}}, "properties.message_expiry"),
    ({"topic": "t", "payload": "x", "properties": {"message_expiry": 1 << 32}}, "properties.message_expiry"),
    ({"topic": "t", "payload": "x", "properties": {"message_expiry": 1.5}}, "properties.message_expiry"),
    ({"topic": "t", "payload": "x", "properties": {"user": {"a": 1}}}, "properties.user"),
    ({"topic": "t", "payload": "x", "properties": {"user": [["a"]]}}, "properties.user"),
    ([{"topic": "t", "payload": "x"}, {"topic": "t"}], "[1].payload"),
    ([{"topic": "t", "payload": "x"}, "text"], "[1]"),
    ([], None),
    ("text", None),
]


def test_each_wrong_message_is_refused_with_its_field(gateway):
    with gateway.client("witness") as witness:
        witness.subscribe("#")
        for message, field in BAD_MESSAGES:
            answer = gateway.http("POST", "/v1/publish", json.dumps(message))
            assert answer.status == 400, (message, answer)
            body = answer.json
            assert body.get("field") == field or (field is None and body.get("field") in (None, "")), (message, body)
            assert body["detail"], message
        gateway.publish("end", "nothing came before")
        witness.expect_publish("nothing came before")


def test_what_is_not_json_is_refused_with_its_place(gateway):
    for body in ("", "{", '{"topic": "t", "payload": "x",}', "{'topic': 't'}", b"\xff\xfe", '"' + "x" * 100,
                 '{"topic": "t", "topic": "t", "payload": "x"}', "[" * 1000, '{"topic": "t", "payload": "\\ud800"}'):
        problem(gateway.http("POST", "/v1/publish", body), 400)
    assert "line" in gateway.http("POST", "/v1/publish", '{"topic": }').json["detail"]
    problem(gateway.http("POST", "/v1/publish", "topic=t", headers={"Content-Type": "text/plain"}), 415)


def test_a_message_larger_than_a_packet_may_be_is_refused(start):
    gateway = start(mqtt='max_packet_size = "4K"')
    with gateway.client("c") as client:
        client.subscribe("t")
        problem(gateway.http("POST", "/v1/publish", {"topic": "t", "payload": "x" * 4096}), 413, "payload")
        gateway.publish("t", "x" * 4000)
        client.expect_publish("x" * 4000)


def test_a_body_above_max_body_is_refused(start):
    gateway = start(api='max_body = "2K"')
    problem(gateway.http("POST", "/v1/publish", {"topic": "t", "payload": "x" * 2100}), 413)
    # Far above it, the connection may be closed before all of it is read.
    try:
        assert gateway.http("POST", "/v1/publish", {"topic": "t", "payload": "x" * 200000}).status == 413
    except (ConnectionError, http.client.HTTPException):
        pass
    gateway.publish("t", "small")


# ---- clients

@pytest.mark.parametrize("version, name", [(V311, "MQTT 3.1.1"), (V5, "MQTT 5.0")])
def test_a_client_can_be_looked_up(start, version, name):
    gateway = start(workers=2)
    with gateway.client_on(1, "alice", version=version, keepalive=77) as client:
        client.subscribe("news", "a/+/c", "deep/#")
        gateway.wait_registered(1)
        answer = gateway.http("GET", "/v1/clients/alice")
        assert answer.status == 200, answer
        body = answer.json
        assert body["client_id"] == "alice" and body["worker"] == 1 and body["protocol"] == name
        assert body["keepalive"] == 77 and body["listener"] == "clients"
        assert body["address"] == "%s:%d" % client.sock.getsockname()
        assert sorted(body["subscriptions"]) == ["a/+/c", "deep/#", "news"] and body["subscription_count"] == 3
        assert 0 <= body["idle_seconds"] < 5 and body["output_bytes"] == 0
        assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", body["connected_since"])
    wait_for(lambda: gateway.http("GET", "/v1/clients/alice").status == 404, "404")
    problem(gateway.http("GET", "/v1/clients/alice"), 404, "id")


def test_a_client_can_be_disconnected(start):
    gateway = start(workers=2)
    for version in (V5, V311):
        with gateway.client("bob", version) as client, gateway.client("other") as other:
            gateway.wait_registered(2)
            answer = gateway.http("DELETE", "/v1/clients/bob")
            assert answer.status == 204 and answer.body == b"", answer
            client.expect_disconnect(0x98)
            other.ping()
        wait_for(lambda: gateway.http("DELETE", "/v1/clients/bob").status == 404, "404")
        with gateway.client("bob", version) as again:
            again.ping()
    assert gateway.metric("holdfast_connections_closed_total", reason="kicked") == 2


def test_a_wrongly_encoded_client_id_is_refused(gateway):
    for path in ("/v1/clients/%zz", "/v1/clients/%f", "/v1/clients/%ff%fe"):
        problem(gateway.http("GET", path), 400, "id")
    assert gateway.http("GET", "/v1/clients/").status == 404
    assert gateway.http("GET", "/v1/clients/a/b").status == 404


def test_many_requests_that_nobody_waits_for_do_no_harm(gateway):
    with gateway.client("c"):
        gateway.wait_registered(1)
        for _ in range(100):
            with socket.create_connection(gateway.api) as sock:
                sock.sendall(b"GET /v1/clients/c HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gateway.http("GET", "/v1/clients/c").status == 200
    assert not gateway.events("process_died")


# ---- HTTP itself

def test_unknown_paths_and_methods(gateway):
    for path in ("/", "/v1", "/v1/nothing", "/v2/publish", "/metrics/x", "//v1/publish"):
        problem(gateway.http("GET", path), 404)
    answer = gateway.http("GET", "/v1/publish")
    problem(answer, 405)
    assert "POST" in answer.headers["allow"]
    answer = gateway.http("PUT", "/v1/clients/x", "{}")
    problem(answer, 405)
    assert "DELETE" in answer.headers["allow"] and "GET" in answer.headers["allow"]


def test_head_has_no_body(gateway):
    answer = gateway.http("HEAD", "/healthz")
    assert answer.status == 200 and answer.body == b""


def test_a_connection_is_kept_for_several_requests(gateway):
    connection = http.client.HTTPConnection(*gateway.api, timeout=10)
    for _ in range(10):
        connection.request("POST", "/v1/publish", json.dumps({"topic": "t", "payload": "x"}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.close()


def test_slow_and_broken_http_clients_hold_nobody_up(gateway):
    idle = [socket.create_connection(gateway.api) for _ in range(50)]
    for sock in idle[:25]:
        sock.sendall(b"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    with socket.create_connection(gateway.api) as sock:
        sock.sendall(os.urandom(200) + b"\r\n\r\n")
    gateway.publish("t", "x")
    for sock in idle:
        sock.close()
    gateway.publish("t", "x")


def test_large_bodies_on_one_connection_after_the_other(gateway):
    """Regression: a body of more than one read hung when an earlier connection had used the same descriptor."""
    for size in (1000, 30_000, 70_000, 200_000, 600_000, 900_000) * 2:
        answer = gateway.http("POST", "/v1/publish", {"topic": "t", "payload": "x" * size})
        assert answer.status == 200, size


def test_more_connections_than_the_limit_one_after_the_other(gateway):
    """Regression: places of ended connections came back only once a second."""
    began = time.monotonic()
    for _ in range(1500):
        with socket.create_connection(gateway.api, timeout=10) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in sock.recv(4096)
    assert "api_connections_full" not in gateway.text, time.monotonic() - began


# ---- tokens

def token_file(folder, text, mode=0o644):
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return f'token_file = "{path}"'


def test_with_a_token_file_a_token_is_needed(start, folder):
    gateway = start(api=token_file(folder, "# back ends\nfirst-token\n\nsecond-token\n"))
    message = {"topic": "t", "payload": "x"}
    for token in ("first-token", "second-token"):
        assert gateway.http("POST", "/v1/publish", message, token=token).status == 200
        assert gateway.http("GET", "/metrics", token=token).status == 200
        assert gateway.http("GET", "/v1/stats", token=token).status == 200
    for method, path in (("POST", "/v1/publish"), ("POST", "/v1/broadcast"), ("POST", "/v1/clients/x/publish"),
                         ("GET", "/v1/clients/x"), ("DELETE", "/v1/clients/x"), ("GET", "/v1/stats"),
                         ("GET", "/metrics")):
        answer = gateway.http(method, path, message if method == "POST" else None)
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("first-toke", "first-token2", "", "# back ends", "FIRST-TOKEN"):
            problem(gateway.http(method, path, message if method == "POST" else None, token=wrong), 401)
    problem(gateway.http("POST", "/v1/publish", message, headers={"Authorization": "Basic first-token"}), 401)
    assert gateway.http("GET", "/healthz").status == 200
    assert gateway.http("GET", "/readyz").status == 200
    assert "first-token" not in gateway.text


def test_a_token_file_that_only_its_owner_can_read_works_after_privileges_are_dropped(start, folder):
    gateway = start(api=token_file(folder, "secret\n", mode=0o600))
    assert gateway.http("GET", "/metrics", token="secret").status == 200
    problem(gateway.http("GET", "/metrics", token="guess"), 401)
    gateway.kill_child("hf-hub")
    wait_for(lambda: gateway.http("GET", "/metrics", token="secret").status == 200, "the new hub knows the token")


def test_an_empty_token_file_lets_nobody_in(start, folder):
    gateway = start(api=token_file(folder, "# nothing\n\n"))
    for token in (None, "", "x"):
        problem(gateway.http("GET", "/metrics", token=token), 401)


def test_without_a_token_file_the_api_binds_to_loopback_only(start):
    gateway = start(ready=False, api_bind="0.0.0.0:0")
    assert gateway.process.wait(10) != 0
    assert "token_file" in gateway.text and "loopback" in gateway.text, gateway.text


def test_with_a_token_file_the_api_may_bind_anywhere(start, folder):
    gateway = start(api_bind="0.0.0.0:0", api=token_file(folder, "secret\n"))
    gateway.api = ("127.0.0.1", gateway.api[1])
    assert gateway.http("GET", "/metrics", token="secret").status == 200


# ---- health and metrics

def test_health_and_readiness(gateway):
    assert gateway.http("GET", "/healthz").json["status"] == "ok"
    assert gateway.http("GET", "/readyz").json["status"] == "ready"


def test_metrics_are_valid_prometheus_text(start):
    gateway = start(workers=2)
    with gateway.client("c") as client:
        client.subscribe("t")
        gateway.publish("t", "x")
        client.expect_publish("x")
        answer = gateway.http("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        typed, seen = {}, set()
        sample = re.compile(r'^(holdfast_[a-z0-9_]+)(\{(?:[a-z_]+="[^"]*",?)*\})? (-?[0-9.e+]+)$')
        for line in answer.body.decode().splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.split()[2:]
                assert name not in typed and kind in ("counter", "gauge", "histogram")
                assert (kind == "counter") == name.endswith("_total"), line
                typed[name] = kind
            elif not line.startswith("# HELP "):
                match = sample.match(line)
                assert match, line
                family = re.sub("_(bucket|sum|count)$", "", match.group(1))
                assert match.group(1) in typed or typed.get(family) == "histogram", line
                assert match.group(1, 2) not in seen, line
                seen.add(match.group(1, 2))
        assert any(name == "holdfast_pool_bytes" for name, _ in seen)


def test_counters_count_what_happened(gateway):
    with gateway.client("five", V5) as a, gateway.client("three", V311) as b:
        a.subscribe("t")
        for _ in range(3):
            b.ping()
        for i in range(5):
            b.publish("t", f"message {i}")
            a.expect_publish()
        gateway.publish("t", "x")
        a.expect_publish()
        gateway.wait_registered(2)
        metrics = {name: gateway.metric(f"holdfast_{name}") for name in (
            "connections_accepted_total", "connections", "sessions", "mqtt_connects_v5_total",
            "mqtt_connects_v311_total", "heartbeats_total", "publishes_received_total", "published_total",
            "fanouts_total", "deliveries_total", "workers_attached", "registry_clients", "connections_parked",
            "connections_active")}
        assert metrics == {"connections_accepted_total": 2, "connections": 2, "sessions": 2,
                           "mqtt_connects_v5_total": 1, "mqtt_connects_v311_total": 1, "heartbeats_total": 3,
                           "publishes_received_total": 5, "published_total": 6, "fanouts_total": 6,
                           "deliveries_total": 6, "workers_attached": 1, "registry_clients": 2,
                           "connections_parked": 2, "connections_active": 0}
        gateway.wait_metric("holdfast_subscriptions", 1)
        gateway.wait_metric("holdfast_topics", 1)
        assert gateway.metric("holdfast_bytes_received_total") > 50
        assert gateway.metric("holdfast_bytes_sent_total") > 50
    gateway.wait_metric("holdfast_connections_closed_total", 2, reason="peer_closed")
    assert gateway.metric("holdfast_http_requests_total") > 10
    problem(gateway.http("GET", "/nothing"), 404)
    assert gateway.metric("holdfast_http_errors_total") == 1


def test_stats_are_the_same_as_json(gateway):
    with gateway.client("c"):
        stats = gateway.http("GET", "/v1/stats").json
        text = json.dumps(stats)
        assert "hub" in text and "worker/0" in text and "connections" in text
