"""Sessions that outlive their connection: what is kept, for how long, and who gets it; over every kind of death."""

import signal
import time

import pytest

import mqtt_raw as mqtt
from conftest import Gateway, session
from mqtt_raw import PUBACK, PUBCOMP, PUBREC, PUBREL, V311, V5

VERSIONS = [V311, V5]
NEVER = 0xFFFFFFFF


def kept(version=V5, **props):
    """Options of a client whose session outlives its connection, in either version."""
    return session(**props) if version == V5 else {"clean": False}


def publish_all(gateway, topic, payloads, qos=1):
    """Publishes payloads one after the other, each acknowledged, as a client of its own."""
    with gateway.client("", V5) as sender:
        for i, payload in enumerate(payloads):
            sender.publish_acked(topic, payload, qos, 1 + i % 60000)


def restart(gateway, start, sig=signal.SIGTERM):
    """Ends the whole gateway and starts one with the same data directory."""
    if sig == signal.SIGTERM:
        gateway.stop()
    else:
        gateway.kill_all()
    return start(data_dir=gateway.data_dir)


def kill_hub(gateway):
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))


def kill_worker(gateway):
    gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))


# ---- session present, clean start, expiry

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["leave", "close", "abort"])
def test_a_kept_session_is_there_again_with_its_subscriptions(gateway, version, how):
    client = gateway.client("c", version, **kept(version))
    assert client.connack.session_present == 0
    assert client.subscribe(("a/+", 1), ("b", 2), ("c", 0)) == [1, 2, 0]
    getattr(client, how)()
    publish_all(gateway, "a/x", ["one", "two"])
    publish_all(gateway, "b", ["three"], qos=2)
    publish_all(gateway, "elsewhere", ["not for it"])
    with gateway.client("c", version, **kept(version)) as client:
        assert client.connack.session_present == 1
        assert [(m.topic, m.payload, m.qos) for m in client.take_all(3)] == [
            ("a/x", b"one", 1), ("a/x", b"two", 1), ("b", b"three", 2)]
        publish_all(gateway, "c", ["live"])
        client.take("live", qos=0)
        client.expect_silence(0.1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clean_start_begins_from_nothing(gateway, version):
    with gateway.client("c", version, **kept(version)) as client:
        client.subscribe(("t", 1))
    publish_all(gateway, "t", ["missed"])
    with gateway.client("c", version, clean=True) as client:
        assert client.connack.session_present == 0
        publish_all(gateway, "t", ["not subscribed"])
        client.expect_silence()
    with gateway.client("c", version, **kept(version)) as client:
        assert client.connack.session_present == 0
        client.expect_silence(0.1)


def test_a_clean_start_may_begin_a_session_that_is_kept(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("old", 1))
    with gateway.client("c", clean=True, props={"session_expiry": 100}) as client:
        assert client.connack.session_present == 0
        client.subscribe(("new", 1))
    publish_all(gateway, "old", ["no"])
    publish_all(gateway, "new", ["yes"])
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 1
        client.take("yes")
        client.expect_silence(0.1)


@pytest.mark.parametrize("version, options", [(V311, {"clean": True}), (V5, {"clean": True}), (V5, {"clean": False})])
def test_a_session_that_is_not_kept_ends_with_its_connection(gateway, version, options):
    """Clean Start 0 alone keeps nothing in MQTT 5: the interval is 0 when it is absent."""
    with gateway.client("c", version, **options) as client:
        client.subscribe(("t", 1))
    gateway.wait_metric("holdfast_sessions", 0)
    with gateway.client("c", version, **kept(version)) as client:
        assert client.connack.session_present == 0
        publish_all(gateway, "t", ["no"])
        client.expect_silence()


def test_a_kept_session_may_be_resumed_for_the_last_time(gateway):
    """Resumed with interval 0: everything is there, and gone after that connection."""
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    publish_all(gateway, "t", ["missed"])
    with gateway.client("c", clean=False) as client:
        assert client.connack.session_present == 1
        client.take("missed")
    gateway.wait_metric("holdfast_sessions", 0)
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 0


def test_a_session_expires(gateway):
    with gateway.client("c", **session(1)) as client:
        client.subscribe(("t", 1))
    with gateway.client("longer", **session(100)) as client:
        client.subscribe(("t", 1))
    publish_all(gateway, "t", ["missed"])
    time.sleep(2.5)
    with gateway.client("c", **session(1)) as client:
        assert client.connack.session_present == 0
        client.expect_silence(0.1)
    with gateway.client("longer", **session(100)) as client:
        assert client.connack.session_present == 1
        client.take("missed")


def test_a_session_does_not_expire_while_its_client_is_connected(gateway):
    with gateway.client("c", **session(1)) as client:
        client.subscribe(("t", 1))
        time.sleep(2.5)
        publish_all(gateway, "t", ["here"])
        client.take("here")
    with gateway.client("c", **session(1)) as client:
        assert client.connack.session_present == 1


def test_disconnect_may_shorten_and_lengthen_the_expiry(gateway):
    client = gateway.client("ends", **session(100))
    client.leave(props={"session_expiry": 0})
    client = gateway.client("soon", **session(100))
    client.leave(props={"session_expiry": 1})
    client = gateway.client("later", **session(1))
    client.leave(props={"session_expiry": 100})
    client = gateway.client("never", **session(1))
    client.leave(props={"session_expiry": NEVER})
    with gateway.client("ends", **session()) as client:
        assert client.connack.session_present == 0
    time.sleep(2.5)
    for client_id, present in (("soon", 0), ("later", 1), ("never", 1)):
        with gateway.client(client_id, **session()) as client:
            assert client.connack.session_present == present, client_id


def test_disconnect_cannot_keep_a_session_that_was_to_end(gateway):
    client = gateway.client("c", clean=True)
    client.send(mqtt.disconnect(V5, 0, {"session_expiry": 100}))
    client.expect_disconnect(0x82)
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 0


def test_the_next_connect_sets_the_expiry_anew(gateway):
    gateway.client("c", **session(1)).leave()
    gateway.client("c", **session(100)).leave()
    time.sleep(2.5)
    with gateway.client("c", **session(1)) as client:
        assert client.connack.session_present == 1


def test_the_expiry_is_capped_and_the_client_is_told(start):
    gateway = start(mqtt='max_session_expiry = "2s"')
    with gateway.client("c", **session(100)) as client:
        assert client.connack.props["session_expiry"] == 2
    with gateway.client("short", **session(1)) as client:
        assert client.connack.props.get("session_expiry", 1) == 1
    with gateway.client("three", V311, clean=False):
        pass
    time.sleep(3.5)
    for client_id in ("c", "three"):
        with gateway.client(client_id, **session(100)) as client:
            assert client.connack.session_present == 0


def test_sessions_of_v311_clients_expire_by_configuration(start):
    gateway = start(mqtt='session_expiry = "1s"')
    with gateway.client("three", V311, clean=False):
        pass
    with gateway.client("five", **session(100)):
        pass
    time.sleep(2.5)
    with gateway.client("three", V311, clean=False) as client:
        assert client.connack.session_present == 0
    with gateway.client("five", **session(100)) as client:
        assert client.connack.session_present == 1


def test_a_session_goes_over_to_the_other_version(gateway):
    with gateway.client("c", V311, clean=False) as client:
        client.subscribe(("t", 1))
    publish_all(gateway, "t", ["one"])
    with gateway.client("c", V5, **session()) as client:
        assert client.connack.session_present == 1
        client.take("one")
    publish_all(gateway, "t", ["two"])
    with gateway.client("c", V311, clean=False) as client:
        assert client.connack.session_present == 1
        client.take("two")


def test_session_present_is_0_with_a_refused_connect(gateway):
    with gateway.client("c", **session()):
        pass
    with mqtt.Client(gateway.mqtt, "c", connect=False) as client:
        client.send(mqtt.connect(V5, "c", clean=False, props={"auth_method": "none"}))
        answer = client.expect(mqtt.CONNACK)
        assert answer.code == 0x8C and answer.session_present == 0


# ---- what is kept

def test_messages_of_qos_0_are_not_kept(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 2))
    gateway.publish("t", "forgotten", qos=0)
    publish_all(gateway, "t", ["kept"])
    with gateway.client("c", **session()) as client:
        client.take("kept")
        client.expect_silence(0.1)


def test_a_new_session_does_not_get_what_was_published_before(gateway):
    with gateway.client("other", **session()) as other:
        other.subscribe(("t", 1))
    publish_all(gateway, "t", ["before"])
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
        publish_all(gateway, "t", ["after"])
        client.take("after")
        client.expect_silence(0.1)


def test_a_new_subscription_of_an_old_session_does_not_bring_old_messages(gateway):
    client = gateway.client("c", **session(receive_max=1))
    client.subscribe(("a", 1))
    publish_all(gateway, "b", ["before"])
    publish_all(gateway, "a", ["a1", "a2"])
    client.expect_publish("a1")  # and not acknowledged: the cursor stays in front of all this
    publish_all(gateway, "b", ["before too"])
    client.subscribe(("b", 1))
    publish_all(gateway, "b", ["after"])
    client.close()
    with gateway.client("c", **session()) as client:
        assert [m.payload for m in client.take_all(3)] == [b"a1", b"a2", b"after"]
        client.expect_silence(0.1)


def test_unsubscribing_outlives_the_connection_too(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("a", 1), ("b", 1), ("c/#", 2))
        assert client.unsubscribe("a", "nothing", "c/#") == [0, 0x11, 0]
    for topic in ("a", "c/d", "b"):
        publish_all(gateway, topic, [topic])
    with gateway.client("c", **session()) as client:
        client.take("b")
        client.expect_silence(0.1)
        assert client.unsubscribe("a", "b") == [0x11, 0]


def test_options_of_subscriptions_are_kept(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("mine", 1 | mqtt.NO_LOCAL), ("plain", 1))
        client.subscribe(("flag", 1 | mqtt.RETAIN_AS_PUBLISHED), packet_id=2, props={"subscription_id": 300000})
    with gateway.client("c", **session()) as client:
        client.publish_acked("mine", "from me", 1)
        gateway.publish("flag", "with retain", qos=1, retain=True)
        gateway.publish("plain", "without", qos=1, retain=True)
        flag = client.take("with retain")
        assert flag.retain and flag.props["subscription_id"] == [300000]
        plain = client.take("without")
        assert not plain.retain and "subscription_id" not in plain.props
        client.expect_silence(0.1)


def test_no_local_holds_for_what_was_published_before_the_connection_broke(gateway):
    client = gateway.client("c", **session())
    client.subscribe(("t", 1 | mqtt.NO_LOCAL))
    client.publish_acked("t", "mine", 1)
    client.close()
    publish_all(gateway, "t", ["another's"])
    with gateway.client("c", **session()) as client:
        client.take("another's")
        client.expect_silence(0.1)


def test_no_local_holds_over_a_restart(start):
    gateway = start()
    client = gateway.client("c", **session())
    client.subscribe(("t", 1 | mqtt.NO_LOCAL))
    client.publish_acked("t", "mine", 1)
    gateway.kill_all()
    again = start(data_dir=gateway.data_dir)
    publish_all(again, "t", ["another's"])
    with again.client("c", **session()) as client:
        client.take("another's")
        client.expect_silence(0.1)


@pytest.mark.parametrize("version", VERSIONS)
def test_thousands_of_missed_messages_come_in_order(gateway, version):
    with gateway.client("c", version, **kept(version)) as client:
        client.subscribe(("t/#", 1))
    with gateway.client("from") as sender:
        for base in range(0, 2000, 10):
            ids = range(base + 1, base + 11)
            sender.send(b"".join(mqtt.publish(V5, f"t/{i % 3}", str(i), qos=1 + i % 2, packet_id=i) for i in ids))
            waiting = {(PUBACK, i) if i % 2 == 0 else (PUBREC, i) for i in ids}
            while waiting:
                found = sender.recv()
                waiting.remove((found.type, found.packet_id))
                if found.type == PUBREC:
                    sender.ack(PUBREL, found.packet_id)
                    waiting.add((PUBCOMP, found.packet_id))
    with gateway.client("c", version, **kept(version)) as client:
        got = client.take_all(2000, timeout=60)
        for n in range(3):
            assert [int(m.payload) for m in got if m.topic == f"t/{n}"] == [i for i in range(1, 2001) if i % 3 == n]
        client.expect_silence(0.1)


def test_missed_and_new_messages_come_in_order_while_a_client_catches_up(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    publish_all(gateway, "t", [str(i) for i in range(300)])
    with gateway.client("c", **session(receive_max=5)) as client, gateway.client("from") as sender:
        got = []
        for i in range(300, 500):
            sender.publish_acked("t", str(i), 1, 1 + i)
            got += client.take_all(2)
        got += client.take_all(100)
        assert [m.payload.decode() for m in got] == [str(i) for i in range(500)]
        client.expect_silence(0.1)


def test_properties_of_a_missed_message_are_kept(gateway):
    props = {"payload_format": 1, "content_type": "text/plain", "response_topic": "r", "correlation_data": b"\0\1",
             "user": [("b", "1"), ("a", "2"), ("b", "3")]}
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    with gateway.client("from") as sender:
        sender.publish_acked("t", "x", 1, props=props)
    with gateway.client("c", **session()) as client:
        assert client.take("x").props == props


def test_the_waiting_time_is_taken_off_the_message_expiry(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    with gateway.client("from") as sender:
        sender.publish_acked("t", "long", 1, 1, props={"message_expiry": 100})
        sender.publish_acked("t", "short", 1, 2, props={"message_expiry": 1})
        sender.publish_acked("t", "for ever", 1, 3)
    time.sleep(2.2)
    with gateway.client("c", **session()) as client:
        assert 90 <= client.take("long").props["message_expiry"] <= 98
        assert "message_expiry" not in client.take("for ever").props
        client.expect_silence(0.1)


def test_a_message_that_was_sent_before_may_come_again_although_it_has_expired_but_nothing_else_is_lost(gateway):
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    with gateway.client("from") as sender:
        sender.publish_acked("t", "expires", 1, 1, props={"message_expiry": 1})
        sender.publish_acked("t", "stays", 1, 2)
    client.expect_publish("expires")
    client.expect_publish("stays")
    client.close()
    time.sleep(2.2)
    with gateway.client("c", **session()) as client:
        got = client.take_all(until=b"stays")
        assert [m.payload for m in got] in ([b"stays"], [b"expires", b"stays"])
        client.expect_silence(0.1)


def test_implicit_channels_are_kept_for_a_session(start):
    gateway = start(mqtt="implicit_qos = 2")
    with gateway.client("c", **session()), gateway.client("gone"):
        gateway.wait_registered(2)
    gateway.wait_metric("holdfast_connections", 0)
    gateway.publish("clients/c", "for you", qos=1)
    gateway.publish("broadcast", "for all", qos=2)
    gateway.publish("clients/other", "for somebody else", qos=1)
    gateway.publish("broadcast", "qos 0 is not kept", qos=0)
    with gateway.client("c", **session()) as client:
        client.take("for you", "clients/c", qos=1)
        client.take("for all", "broadcast", qos=2)
        client.expect_silence(0.1)
    with gateway.client("gone", **session()) as client:
        client.expect_silence(0.1)


def test_implicit_channels_come_with_the_configured_qos_at_most(start):
    gateway = start(mqtt="implicit_qos = 1")
    with gateway.client("c", **session()) as client:
        gateway.wait_registered(1)
        for qos in (0, 1, 2):
            gateway.publish("clients/c", str(qos), qos=qos)
            client.take(str(qos), qos=min(qos, 1))


def test_many_sleeping_sessions_each_get_a_broadcast_once(start):
    gateway = start(workers=2, mqtt="implicit_qos = 1")
    names = [f"sleeper-{i}" for i in range(150)]
    for name in names:
        gateway.client(name, **session()).leave()
    gateway.wait_metric("holdfast_connections", 0)
    for i in range(3):
        gateway.publish("broadcast", f"news {i}", qos=1)
    for name in names:
        with gateway.client(name, **session()) as client:
            assert client.connack.session_present == 1
            assert [m.payload for m in client.take_all(3)] == [b"news 0", b"news 1", b"news 2"]
            client.ping()


# ---- takeover

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("to_worker", [0, 1])
def test_takeover_hands_the_session_over(start, version, to_worker):
    gateway = start(workers=2)
    old = gateway.client_on(0, "phone", version=version, **kept(version))
    old.subscribe(("t", 2))
    publish_all(gateway, "t", ["one"], qos=1)
    publish_all(gateway, "t", ["two"], qos=2)
    one, two = old.expect_publish("one"), old.expect_publish("two")
    new = gateway.client_on(to_worker, "phone", version=version, **kept(version))
    assert new.connack.session_present == 1
    old.expect_disconnect(0x8E)
    again = [new.expect_publish("one"), new.expect_publish("two")]
    assert [m.packet_id for m in again] == [one.packet_id, two.packet_id] and all(m.dup for m in again)
    for message in again:
        new.acknowledge(message)
    publish_all(gateway, "t", ["three"])
    assert not new.take("three").dup
    new.expect_silence(0.1)
    new.close()


@pytest.mark.parametrize("to_worker", [0, 1])
def test_takeover_with_a_clean_start_drops_what_was_kept(start, to_worker):
    gateway = start(workers=2)
    old = gateway.client_on(0, "phone", **session())
    old.subscribe(("t", 1))
    publish_all(gateway, "t", ["unacknowledged"])
    old.expect_publish("unacknowledged")
    new = gateway.client_on(to_worker, "phone", clean=True)
    assert new.connack.session_present == 0
    old.expect_disconnect(0x8E)
    publish_all(gateway, "t", ["not subscribed"])
    new.expect_silence()
    new.close()


def test_no_message_is_lost_while_a_session_goes_from_worker_to_worker(start):
    gateway = start(workers=2)
    with gateway.client("from") as sender:
        clients, got, sent = [], [], 0
        for hop in range(6):
            client = gateway.client_on(hop % 2, "phone", **session())
            if hop == 0:
                client.subscribe(("t", 2))
            clients.append(client)
            for _ in range(10):
                sender.publish_acked("t", str(sent), 2, 1 + sent)
                sent += 1
            got += [int(m.payload) for m in client.take_all(10)]
            client.ping()  # its last PUBCOMP has arrived
        assert got == list(range(sent))
        clients[-1].expect_silence(0.1)
        for client in clients:
            client.close()


def test_a_session_is_resumed_in_another_worker(start):
    gateway = start(workers=2)
    for n in range(4):
        client = gateway.client_on(n % 2, "c", **session())
        assert client.connack.session_present == (1 if n else 0)
        if n:
            client.take(str(n))
        else:
            client.subscribe(("t", 1))
        client.leave()
        publish_all(gateway, "t", [str(n + 1)])


def test_of_a_fight_for_one_kept_session_one_connection_remains(start):
    gateway = start(workers=2)
    clients = [gateway.client_on(n % 2, "contested", **session()) for n in range(10)]
    clients[-1].subscribe(("t", 1))
    publish_all(gateway, "t", ["who is it"])
    clients[-1].take("who is it")
    for client in clients[:-1]:
        client.expect_disconnect(0x8E)
        client.close()
    clients[-1].close()


# ---- deaths: worker, hub, all

DEATHS = {"worker": kill_worker, "hub": kill_hub}


@pytest.fixture(params=["worker", "hub", "stop", "all"])
def after_death(request, start):
    """A function that lets something die and gives the gateway that is there afterwards."""
    def die(gateway):
        if request.param in DEATHS:
            DEATHS[request.param](gateway)
            return gateway
        return restart(gateway, start, signal.SIGTERM if request.param == "stop" else signal.SIGKILL)
    return die


def test_sessions_and_what_waits_for_them_survive(gateway, after_death):
    with gateway.client("c", **session()) as client:
        client.subscribe(("t/+", 2), ("u", 1 | mqtt.RETAIN_AS_PUBLISHED))
    publish_all(gateway, "t/1", [str(i) for i in range(20)], qos=2)
    publish_all(gateway, "u", ["u"])
    gateway = after_death(gateway)
    publish_all(gateway, "t/2", ["after"])
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 1
        assert [m.payload.decode() for m in client.take_all(22)] == [str(i) for i in range(20)] + ["u", "after"]
        client.expect_silence(0.1)
        publish_all(gateway, "t/3", ["live"])
        client.take("live", qos=1)


def test_a_connected_session_survives(gateway, after_death):
    """Nobody has disconnected in order; the subscription was acknowledged, so it must be there."""
    client = gateway.client("c", **session())
    client.subscribe(("t", 1))
    publish_all(gateway, "t", ["before"])
    client.take("before")
    client.ping()
    gateway = after_death(gateway)
    publish_all(gateway, "t", ["after"])
    with gateway.client("c", **session()) as new:
        assert new.connack.session_present == 1
        got = new.take_all(until=b"after")
        assert [m.payload for m in got] in ([b"after"], [b"before", b"after"])  # QoS 1: a duplicate is allowed
        new.expect_silence(0.1)
    client.close()


def test_outgoing_qos_2_is_not_duplicated(gateway, after_death):
    """One message at each station of its way; a message that was received is not sent again."""
    client = gateway.client("c", **session())
    client.subscribe(("t", 2))
    publish_all(gateway, "t", ["sent", "received", "released", "complete"], qos=2)
    sent, received, released, complete = [client.expect_publish() for _ in range(4)]
    client.acknowledge(complete)
    client.ack(PUBREC, released.packet_id)
    client.expect_ack(PUBREL, released.packet_id)
    client.ack(PUBREC, received.packet_id)
    client.expect_ack(PUBREL, received.packet_id)
    client.ack(PUBCOMP, released.packet_id)
    client.ping()
    gateway = after_death(gateway)
    client.close()
    with gateway.client("c", **session()) as new:
        assert new.connack.session_present == 1
        found = [new.recv()]
        with pytest.raises(mqtt.Silence):
            while True:
                found.append(new.recv(0.5))
        # PUBLISH may come for what was not received in the gateway's eyes, always under its old identifier; the
        # client drops those it knows. PUBREL may come for everything that was received. What was released for good
        # and then comes as a new PUBLISH is a duplicate.
        known = {sent.packet_id: b"sent", received.packet_id: b"received", released.packet_id: b"released"}
        for packet_ in found:
            if packet_.type == mqtt.PUBLISH:
                assert known.get(packet_.packet_id) == packet_.payload and packet_.dup, found
        published = {p.packet_id for p in found if p.type == mqtt.PUBLISH}
        assert sent.packet_id in published, found
        assert released.packet_id not in published and complete.packet_id not in published, found
        assert received.packet_id in published | {p.packet_id for p in found if p.type == PUBREL}, found
        for packet_ in found:
            if packet_.type == PUBREL:
                new.ack(PUBCOMP, packet_.packet_id)
            else:
                new.acknowledge(packet_)
        publish_all(gateway, "t", ["next"], qos=2)
        new.take("next")
        new.expect_silence(0.1)


@pytest.mark.parametrize("qos", [1, 2])
def test_retained_messages_that_were_not_sent_yet_survive(gateway, after_death, qos):
    """A subscription has called for them and was granted; of QoS 2 none that is complete comes as new."""
    topics = {f"t/{i}" for i in range(100)}
    with gateway.client("from") as sender:
        for topic in topics:
            sender.publish_acked(topic, "x", 1, retain=True)
            sender.publish_acked(topic, "x", 2, retain=True)
    client = gateway.client("c", **session(receive_max=1))
    client.subscribe(("t/#", qos))
    complete = [client.acknowledge(client.expect_publish()).topic for _ in range(20)]
    gateway = after_death(gateway)
    client.close()
    with gateway.client("c", **session()) as new:
        assert new.connack.session_present == 1
        came = []
        with pytest.raises(mqtt.Silence):
            while True:
                packet_ = new.recv(1)
                if packet_.type == PUBREL:
                    new.ack(PUBCOMP, packet_.packet_id)
                    continue
                came.append(packet_.topic)
                assert packet_.retain
                new.ack(PUBACK if qos == 1 else PUBREC, packet_.packet_id)
        assert set(complete) | set(came) == topics
        if qos == 2:
            assert len(complete) + len(came) == len(topics)


def test_incoming_qos_2_is_not_duplicated(gateway, after_death):
    with gateway.client("to", **session()) as to:
        to.subscribe(("t", 2))
    sender = gateway.client("from", **session())
    sender.publish("t", "once", qos=2, packet_id=21)
    sender.expect_ack(PUBREC, 21)
    sender.publish("t", "twice?", qos=2, packet_id=22)
    sender.expect_ack(PUBREC, 22)
    gateway = after_death(gateway)
    sender.close()
    with gateway.client("from", **session()) as sender:
        assert sender.connack.session_present == 1
        for packet_id, payload in ((21, "once"), (22, "twice?")):
            sender.publish("t", payload, qos=2, packet_id=packet_id, dup=True)
            sender.expect_ack(PUBREC, packet_id)
        for packet_id in (21, 22):
            sender.ack(PUBREL, packet_id)
            sender.expect_ack(PUBCOMP, packet_id, 0)
        sender.publish_acked("t", "end", 2, 21)
    with gateway.client("to", **session()) as to:
        assert [m.payload for m in to.take_all(3)] == [b"once", b"twice?", b"end"]
        to.expect_silence(0.1)


def test_the_expiry_runs_from_the_death_of_the_connection(gateway, after_death):
    client = gateway.client("c", **session(3))
    other = gateway.client("other", **session(100))
    client.ping()
    gateway = after_death(gateway)
    client.close()
    other.close()
    time.sleep(5)
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 0
    with gateway.client("other", **session()) as client:
        assert client.connack.session_present == 1


def test_a_session_that_ended_stays_ended(gateway, after_death):
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    with gateway.client("c", clean=True) as client:
        client.ping()
    gateway = after_death(gateway)
    publish_all(gateway, "t", ["no"])
    with gateway.client("c", **session()) as client:
        assert client.connack.session_present == 0
        client.expect_silence(0.1)


def test_the_hubs_death_costs_no_connection(gateway):
    with gateway.client("c", **session()) as client, gateway.client("from") as sender:
        client.subscribe(("t", 2))
        for i in range(5):
            sender.publish_acked("t", str(i), 2, 1 + i)
            client.take(str(i))
            kill_hub(gateway)
        sender.publish_acked("t", "end", 2, 100)
        client.take("end")
        assert client.unsubscribe("t") == [0]
        client.expect_silence(0.1)


def test_a_publish_during_the_hubs_absence_is_answered_when_it_is_back(gateway):
    with gateway.client("c", **session()) as client, gateway.client("from") as sender:
        client.subscribe(("t", 2))
        old = gateway.kill_child("hf-hub")
        sender.publish("t", "one", qos=1, packet_id=1)
        sender.publish("t", "two", qos=2, packet_id=2)
        sender.expect_ack(PUBACK, 1, timeout=30)
        sender.expect_ack(PUBREC, 2, timeout=30)
        assert [m.payload for m in client.take_all(2)] == [b"one", b"two"]
        client.expect_silence(0.1)
        gateway.wait_successor("hf-hub", old)


def test_a_connect_during_the_hubs_absence_is_answered_when_it_is_back(gateway):
    with gateway.client("c", **session()) as client:
        client.subscribe(("t", 1))
    publish_all(gateway, "t", ["missed"])
    old = gateway.kill_child("hf-hub")
    with mqtt.Client(gateway.mqtt, "c", connect=False) as client:
        assert client.login(timeout=30, **session()).session_present == 1
        client.take("missed")
    gateway.wait_successor("hf-hub", old)


def test_numbers_are_never_used_again(gateway, start):
    numbers = []
    for death in (kill_hub, kill_worker, Gateway.kill_all, None):
        numbers += [gateway.publish("t", "x", qos=qos)["seq"] for qos in (0, 1, 2, 1)]
        if death:
            death(gateway)
        if death is Gateway.kill_all:
            gateway = start(data_dir=gateway.data_dir)
    assert numbers == sorted(set(numbers))
