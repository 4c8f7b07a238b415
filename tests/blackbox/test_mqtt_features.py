"""What MQTT 5 has besides: topic aliases, subscription identifiers, sizes, reasons, request and response, sharing."""

import collections

import pytest

import mqtt_raw as mqtt
from conftest import session, wait_for
from mqtt_raw import NO_LOCAL, PUBACK, PUBREC, PUBREL, V311, V5

VERSIONS = [V311, V5]
ALIAS_INVALID, TOO_LARGE, PROTOCOL_ERROR = 0x94, 0x95, 0x82


def test_what_a_v5_client_is_told(start):
    gateway = start(mqtt='receive_maximum = 17 max_topic_alias = 9 max_packet_size = "64K"')
    with gateway.client("c") as client:
        props = client.connack.props
        assert props["receive_max"] == 17
        assert props["topic_alias_max"] == 9
        assert props["maximum_packet_size"] == 64 << 10
        for name in ("maximum_qos", "retain_available", "shared_available", "subscription_id_available",
                     "wildcard_available"):
            assert props.get(name, 1) == 1, name  # absent means: all of it
        assert "maximum_qos" not in props or props["maximum_qos"] in (0, 1), "2 is said by leaving it out"


class TestTopicAliasOfTheClient:
    def test_an_alias_stands_for_its_topic(self, gateway):
        with gateway.client("to") as to, gateway.client("from") as sender:
            limit = sender.connack.props["topic_alias_max"]
            assert limit >= 1
            to.subscribe(("#", 2))
            sender.publish("a/b", "1", props={"topic_alias": 1})
            sender.publish("", "2", props={"topic_alias": 1})
            sender.publish("c", "3", props={"topic_alias": limit})
            sender.publish("", "4", props={"topic_alias": 1})
            sender.publish("", "5", props={"topic_alias": limit})
            got = [to.take() for _ in range(5)]
            assert [(m.topic, m.payload) for m in got] == [("a/b", b"1"), ("a/b", b"2"), ("c", b"3"), ("a/b", b"4"),
                                                          ("c", b"5")]
            assert all("topic_alias" not in m.props for m in got)  # it is the sender's own

    def test_an_alias_can_be_given_another_topic(self, gateway):
        with gateway.client("to") as to, gateway.client("from") as sender:
            to.subscribe(("#", 2))
            for topic in ("a", "b", "a"):
                sender.publish(topic, "x", props={"topic_alias": 1})
                sender.publish("", "x", props={"topic_alias": 1})
                assert [to.take().topic for _ in range(2)] == [topic, topic]

    def test_aliases_work_with_every_qos_and_retain(self, gateway):
        with gateway.client("to") as to, gateway.client("from") as sender:
            to.subscribe(("t", 2))
            sender.publish_acked("t", "1", 1, 1, props={"topic_alias": 1})
            sender.publish_acked("", "2", 2, 2, props={"topic_alias": 1})
            sender.publish_acked("", "3", 1, 3, retain=True, props={"topic_alias": 1})
            assert [m.payload for m in to.take_all(3)] == [b"1", b"2", b"3"]
            with gateway.client("late") as late:
                late.subscribe(("t", 1))
                assert "topic_alias" not in late.take("3", "t").props

    @pytest.mark.parametrize("what", ["zero", "above the maximum", "unknown"])
    def test_a_bad_alias_ends_the_connection(self, start, what):
        gateway = start(mqtt="max_topic_alias = 5")
        with gateway.client("from") as sender:
            alias = {"zero": 0, "above the maximum": 6, "unknown": 5}[what]
            sender.publish("" if what == "unknown" else "t", "x", props={"topic_alias": alias})
            said = sender.expect_closed()
            allowed = (PROTOCOL_ERROR, ALIAS_INVALID) if what == "unknown" else (ALIAS_INVALID,)
            assert [p.code for p in said] in [[code] for code in allowed], said

    def test_aliases_end_with_the_connection(self, gateway):
        with gateway.client("from", **session()) as sender:
            sender.publish("t", "x", props={"topic_alias": 1})
            sender.ping()
        with gateway.client("from", **session()) as sender:
            sender.publish("", "x", props={"topic_alias": 1})
            assert [p.code for p in sender.expect_closed()] in ([PROTOCOL_ERROR], [ALIAS_INVALID])

    def test_aliases_can_be_switched_off(self, start):
        gateway = start(mqtt="max_topic_alias = 0")
        with gateway.client("from") as sender:
            assert sender.connack.props.get("topic_alias_max", 0) == 0
            sender.publish("t", "x", props={"topic_alias": 1})
            sender.expect_disconnect(ALIAS_INVALID)


class TestTopicAliasOfTheGateway:
    @staticmethod
    def resolve(messages, limit):
        """The topics, as a client with this Topic Alias Maximum must understand them."""
        known, topics = {}, []
        for message in messages:
            alias = message.props.get("topic_alias")
            if alias is not None:
                assert 1 <= alias <= limit, message
                if message.topic:
                    known[alias] = message.topic
                topics.append(known[alias])
            else:
                assert message.topic, message
                topics.append(message.topic)
        return topics

    def test_none_is_used_towards_a_client_that_has_not_asked(self, gateway):
        with gateway.client("five") as five, gateway.client("three", V311) as three:
            for client in (five, three):
                client.subscribe(("t", 1))
            for i in range(5):
                gateway.publish("t", str(i), qos=i % 2)
                for client in (five, three):
                    message = client.take(str(i), "t")
                    assert "topic_alias" not in message.props

    @pytest.mark.parametrize("limit", [1, 3, 65535])
    def test_aliases_stay_within_the_clients_maximum_and_mean_the_right_topic(self, gateway, limit):
        with gateway.client("to", props={"topic_alias_max": limit}) as to:
            to.subscribe(("t/#", 1))
            topics = [f"t/{i * i % 7}" for i in range(60)]
            for i, topic in enumerate(topics):
                gateway.publish(topic, str(i), qos=i % 2)
            got = to.take_all(60)
            assert self.resolve(got, limit) == [topics[int(m.payload)] for m in got]

    def test_a_topic_that_comes_often_is_replaced_by_its_alias(self, gateway):
        topic = "a/rather/long/topic/that/is/worth/an/alias"
        with gateway.client("to", props={"topic_alias_max": 10}) as to:
            to.subscribe((topic, 1))
            for i in range(20):
                gateway.publish(topic, str(i), qos=1)
            got = to.take_all(20)
            assert self.resolve(got, 10) == [topic] * 20
            assert sum(not m.topic for m in got) > 0

    def test_what_is_sent_again_names_its_topic(self, gateway):
        """Aliases of the last connection mean nothing in the next one."""
        to = gateway.client("to", **session(topic_alias_max=10))
        to.subscribe(("t", 1))
        for i in range(5):
            gateway.publish("t", str(i), qos=1)
        first = [to.expect_publish(str(i)) for i in range(5)]
        assert self.resolve(first, 10) == ["t"] * 5
        to.close()
        with gateway.client("to", **session(topic_alias_max=10)) as to:
            assert self.resolve(to.take_all(5), 10) == ["t"] * 5
            to.ping()
        with gateway.client("to", **session()) as to:
            gateway.publish("t", "plain", qos=1)
            assert "topic_alias" not in to.take("plain", "t").props


class TestSubscriptionIdentifiers:
    @pytest.mark.parametrize("number", [1, 127, 128, 268435455])
    def test_an_identifier_comes_with_each_message(self, gateway, number):
        with gateway.client("to") as to, gateway.client("plain") as plain:
            assert to.subscribe(("t", 1), props={"subscription_id": number}) == [1]
            plain.subscribe(("t", 1))
            for qos in (0, 1, 2):
                gateway.publish("t", "x", qos=qos)
                assert to.take("x").props["subscription_id"] == [number]
                assert "subscription_id" not in plain.take("x").props

    def test_one_identifier_may_stand_for_several_filters(self, gateway):
        with gateway.client("to") as to:
            to.subscribe(("a", 1), ("b/+", 1), props={"subscription_id": 5})
            to.subscribe(("c", 1), packet_id=2)
            for topic, expected in (("a", [5]), ("b/x", [5]), ("c", None)):
                gateway.publish(topic, "x", qos=1)
                assert to.take("x", topic).props.get("subscription_id") == expected

    def test_a_message_that_matches_several_subscriptions_names_all_of_them(self, gateway):
        with gateway.client("to") as to:
            to.subscribe(("a/b", 0), packet_id=1, props={"subscription_id": 1})
            to.subscribe(("a/+", 2), packet_id=2, props={"subscription_id": 2})
            to.subscribe(("#", 1), packet_id=3, props={"subscription_id": 300})
            to.subscribe(("a/#", 1), packet_id=4)
            for qos in (0, 1, 2):
                gateway.publish("a/b", "x", qos=qos)
                message = to.take("x", qos=qos)
                assert sorted(message.props["subscription_id"]) == [1, 2, 300]
            to.expect_silence(0.1)

    def test_subscribing_again_changes_and_removes_the_identifier(self, gateway):
        with gateway.client("to") as to:
            for props, expected in (({"subscription_id": 1}, [1]), ({"subscription_id": 2}, [2]), (None, None)):
                to.subscribe(("t", 1), props=props)
                gateway.publish("t", "x", qos=1)
                assert to.take("x").props.get("subscription_id") == expected
                to.expect_silence(0.05)

    def test_identifiers_are_kept_with_missed_messages(self, gateway):
        with gateway.client("to", **session()) as to:
            to.subscribe(("a/#", 1), packet_id=1, props={"subscription_id": 9})
            to.subscribe(("a/b", 2), packet_id=2, props={"subscription_id": 200})
        gateway.publish("a/b", "x", qos=2)
        gateway.publish("a", "y", qos=1)
        with gateway.client("to", **session()) as to:
            x = to.take("x", qos=2)
            assert sorted(x.props["subscription_id"]) == [9, 200]
            assert to.take("y").props["subscription_id"] == [9]

    def test_identifier_0_is_a_protocol_error(self, gateway):
        with gateway.client("to") as to:
            to.send(mqtt.subscribe(V5, ["t"], 1, {"subscription_id": 0}))
            to.expect_disconnect(PROTOCOL_ERROR)


class TestNoLocal:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_a_client_does_not_hear_itself(self, gateway, qos):
        with gateway.client("me") as me, gateway.client("you") as you:
            me.subscribe(("chat", 2 | NO_LOCAL))
            you.subscribe(("chat", 2))
            me.publish_acked("chat", "from me", qos) if qos else me.publish("chat", "from me")
            you.take("from me")
            you.publish_acked("chat", "from you", 1) if qos else you.publish("chat", "from you")
            if qos:
                you.take("from you", qos=1)
            me.take("from you")
            me.expect_silence(0.1)

    def test_another_subscription_without_it_brings_the_message(self, gateway):
        with gateway.client("me") as me:
            me.subscribe(("chat", 1 | NO_LOCAL), ("#", 1))
            me.publish("chat", "x", qos=1)
            kinds = sorted((me.recv() for _ in range(2)), key=lambda p: p.type)
            assert [p.type for p in kinds] == [mqtt.PUBLISH, PUBACK]

    def test_a_push_over_http_is_nobodys_own(self, gateway):
        with gateway.client("me") as me:
            me.subscribe(("chat", 1 | NO_LOCAL))
            gateway.publish("chat", "x", qos=1)
            me.take("x")


class TestPropertiesOnTheWay:
    ALL = {"payload_format": 1, "content_type": "application/json", "response_topic": "answers/here",
           "correlation_data": bytes(range(256)), "user": [("b", "2"), ("a", "1"), ("b", "2 again"), ("", ""), ("b", "2")]}

    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_they_are_forwarded_unchanged_and_in_order(self, gateway, qos):
        with gateway.client("to") as to, gateway.client("from") as sender, gateway.client("old", V311) as old:
            to.subscribe(("t", 2))
            old.subscribe(("t", 2))
            if qos:
                sender.publish_acked("t", '{"x": 1}', qos, props=self.ALL)
            else:
                sender.publish("t", '{"x": 1}', props=self.ALL)
            assert to.take('{"x": 1}', qos=qos).props == self.ALL
            old.take('{"x": 1}', qos=qos)

    def test_request_and_response(self, gateway):
        with gateway.client("asks") as asks, gateway.client("answers") as answers:
            answers.subscribe(("requests", 1))
            asks.subscribe(("responses/asks", 1))
            asks.publish_acked("requests", "2+2", 1, props={"response_topic": "responses/asks", "correlation_data": b"7"})
            request = answers.take("2+2")
            answers.publish_acked(request.props["response_topic"], "4", 1,
                                  props={"correlation_data": request.props["correlation_data"]})
            assert asks.take("4", "responses/asks").props["correlation_data"] == b"7"

    def test_who_asks_for_response_information_gets_none_or_a_text(self, gateway):
        with gateway.client("c", props={"request_response": 1}) as client:
            assert isinstance(client.connack.props.get("response_info", ""), str)
        with gateway.client("c", props={"request_response": 0}) as client:
            assert "response_info" not in client.connack.props

    def test_user_properties_in_other_packets_are_accepted(self, gateway):
        user = {"user": [("k", "v"), ("k", "v")]}
        with gateway.client("c", props=user) as client:
            assert client.subscribe(("t", 1), props=user) == [1]
            client.send(mqtt.unsubscribe(V5, ["t"], 2, user))
            assert client.expect(mqtt.UNSUBACK).codes == [0]
            client.leave(0, user)


class TestSizes:
    def test_a_message_above_the_clients_maximum_is_left_out_and_counts_as_delivered(self, gateway):
        with gateway.client("small", **session(maximum_packet_size=100, receive_max=1)) as small:
            small.subscribe(("t", 2))
            for qos in (0, 1, 2):
                gateway.publish("t", "x" * 200, qos=qos)
            gateway.publish("t", "short", qos=1)
            small.take("short")
            small.expect_silence(0.1)
        gateway.publish("t", "y" * 200, qos=1)
        gateway.publish("t", "short", qos=1)
        with gateway.client("small", **session(maximum_packet_size=100)) as small:
            small.take("short")
            small.ping()
        with gateway.client("small", **session()) as small:
            small.expect_silence(0.2)

    def test_the_whole_packet_counts(self, gateway):
        """The limit is exact: a packet of just so many bytes comes."""
        with gateway.client("c", props={"maximum_packet_size": 64}) as client:
            client.subscribe(("t", 0))
            room = 64 - len(mqtt.publish(V5, "t", ""))
            gateway.publish("t", "x" * (room + 1))
            gateway.publish("t", "y" * room)
            client.take("y" * room)

    def test_a_packet_above_the_gateways_maximum_ends_the_connection(self, start):
        gateway = start(mqtt="max_packet_size = 1000")
        with gateway.client("c") as client:
            assert client.connack.props["maximum_packet_size"] == 1000
            client.publish_acked("t", "x" * (1000 - len(mqtt.publish(V5, "t", "", qos=1)) - 1), 1)
            client.publish("t", "x" * 1000, qos=1)
            client.expect_disconnect(TOO_LARGE)


class TestReasons:
    def test_no_reason_string_for_who_does_not_want_one(self, gateway):
        """Request Problem Information 0: reason strings only in CONNACK, DISCONNECT and PUBLISH."""
        with gateway.client("c", props={"request_problem": 0}) as client:
            client.send(mqtt.subscribe(V5, [("t", 1)], 1))
            answers = [client.expect(mqtt.SUBACK)]
            client.send(mqtt.unsubscribe(V5, ["t", "never"], 2))
            answers.append(client.expect(mqtt.UNSUBACK))
            client.publish("t", "x", qos=1)
            answers.append(client.expect(PUBACK))
            client.publish("$SYS/not/allowed", "x", qos=1)
            answers.append(client.expect(PUBACK))
            client.ack(PUBREL, 99)
            answers.append(client.expect(mqtt.PUBCOMP))
            client.ack(PUBREC, 99)
            answers.append(client.expect(PUBREL))
            for answer in answers:
                assert "reason_string" not in answer.props and "user" not in answer.props, answer

    def test_a_refusal_says_why_in_words(self, gateway):
        with gateway.client("c") as client:
            client.publish("$SYS/not/allowed", "x", qos=1)
            assert client.expect(PUBACK).props["reason_string"] == "the topic is the gateway's own"
        with gateway.client("c", connect=False) as client:
            client.send(mqtt.connect(V5, "c", props={"auth_method": "x"}))
            assert client.expect_closed()[0].props["reason_string"] == "enhanced authentication is not supported"

    def test_a_reason_string_fits_the_clients_maximum(self, gateway):
        with gateway.client("c", props={"maximum_packet_size": 20}) as client:
            client.send(mqtt.packet(mqtt.PUBLISH, 6, b"\0\1a\0\1\0"))
            said = client.expect_closed()
            assert all(len(p.body) + 2 <= 20 for p in said)

    def test_a_disconnect_may_say_why_in_words(self, gateway):
        with gateway.client("c") as client:
            client.send(mqtt.packet(mqtt.SUBSCRIBE, 2, b"\0\1\0"))
            said = client.expect_closed()
            assert [p.type for p in said] == [mqtt.DISCONNECT] and said[0].code in (0x81, 0x82)
            assert len(said[0].props.get("reason_string", "none")) > 0


class TestFlowControl:
    def test_a_full_window_delays_publishes_only(self, gateway):
        with gateway.client("to", props={"receive_max": 1}) as to:
            to.subscribe(("t", 1))
            for i in range(3):
                gateway.publish("t", str(i), qos=1)
            first = to.expect_publish("0")
            to.publish_acked("elsewhere", "x", 1, 1)
            to.publish_acked("elsewhere", "x", 2, 2)
            assert to.subscribe(("u", 1), packet_id=3) == [1]
            assert to.unsubscribe("u", packet_id=4) == [0]
            to.ping()
            to.acknowledge(first)
            to.take_all(2)

    def test_a_client_that_does_not_read_gets_everything_kept_in_the_end(self, start):
        gateway = start(mqtt='output_limit = "16K"')
        with gateway.client("slow", rcvbuf=4096, props={"receive_max": 65535}) as slow:
            slow.subscribe(("t", 1))
            with gateway.client("from") as sender:
                for i in range(300):
                    sender.publish_acked("t", f"{i:04} " + "x" * 2000, 1, 1 + i)
            got = slow.take_all(300, timeout=30)
            assert [int(m.payload[:4]) for m in got] == list(range(300))
            slow.expect_silence(0.1)

    def test_receive_maximum_0_is_a_protocol_error(self, gateway):
        with mqtt.Client(gateway.mqtt, "c", connect=False) as client:
            client.send(mqtt.connect(V5, "c", props={"receive_max": 0}))
            assert [p.code for p in client.expect_closed()] == [PROTOCOL_ERROR]


class TestSharedSubscriptions:
    """$share/group/filter: one member of the group gets each message."""

    @staticmethod
    def members(gateway, count, topic_filter="$share/g/t", qos=1, workers=1, **options):
        found = []
        for n in range(count):
            client = gateway.client_on(n % workers, f"member-{n}", **options) if workers > 1 else \
                gateway.client(f"member-{n}", **options)
            assert client.subscribe((topic_filter, qos)) == [min(qos, 1)]  # more is not granted
            found.append(client)
        return found

    @staticmethod
    def publish(gateway, count, topic="t", qos=1):
        with gateway.client("") as sender:
            for i in range(count):
                sender.publish_acked(topic, str(i), qos, 1 + i)

    @staticmethod
    def collect(clients, count):
        """Everything the members get, by member, until `count` messages have come and nothing more comes."""
        got = collections.defaultdict(list)

        def one_round():
            for n, client in enumerate(clients):
                try:
                    while True:
                        got[n].append(client.take(timeout=0.05).payload)
                except mqtt.Silence:
                    pass
            return sum(map(len, got.values())) >= count

        wait_for(one_round, f"{count} messages")
        one_round()
        assert sum(map(len, got.values())) == count, got
        return got

    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_each_message_goes_to_one_member(self, gateway, qos):
        clients = self.members(gateway, 3, qos=qos)
        self.publish(gateway, 60, qos=2)
        got = self.collect(clients, 60)
        assert sorted(p for share in got.values() for p in share) == sorted(str(i).encode() for i in range(60))

    def test_the_choice_is_fair(self, gateway):
        """As long as no member's window is full; these four read one after the other."""
        clients = self.members(gateway, 4)
        self.publish(gateway, 120)
        got = self.collect(clients, 120)
        assert all(20 <= len(got[n]) <= 40 for n in range(4)), {n: len(p) for n, p in got.items()}

    def test_members_in_all_workers_share(self, start):
        gateway = start(workers=2)
        clients = self.members(gateway, 4, workers=2)
        self.publish(gateway, 100)
        got = self.collect(clients, 100)
        assert all(got[n] for n in range(4)), {n: len(p) for n, p in got.items()}

    def test_groups_and_plain_subscriptions_do_not_touch_each_other(self, gateway):
        with gateway.client("a") as a, gateway.client("b") as b, gateway.client("plain") as plain:
            a.subscribe(("$share/g1/t/+", 1))
            b.subscribe(("$share/g2/t/#", 1), ("$share/g3/other", 1))
            plain.subscribe(("t/x", 1))
            gateway.publish("t/x", "m", qos=1)
            for client in (a, b, plain):
                client.take("m", "t/x")
                client.expect_silence(0.1)

    def test_one_client_in_a_group_and_beside_it_gets_the_message_twice_or_once(self, gateway):
        """Shared and not shared are two subscriptions; both are served."""
        with gateway.client("c") as client:
            client.subscribe(("$share/g/t", 1), ("t", 1))
            gateway.publish("t", "m", qos=1)
            client.take("m")
            with pytest.raises(mqtt.Silence):
                client.take("m", timeout=0.5)
                client.take(timeout=0.3)

    def test_a_member_that_leaves_gets_no_more(self, gateway):
        clients = self.members(gateway, 2)
        assert clients[0].unsubscribe("$share/g/t") == [0]
        self.publish(gateway, 10)
        assert len(self.collect(clients, 10)[1]) == 10
        clients[1].leave()
        self.publish(gateway, 1)
        clients[0].expect_silence(0.2)

    def test_what_a_member_had_not_acknowledged_goes_to_another_when_its_session_ends(self, gateway):
        clients = self.members(gateway, 2)
        self.publish(gateway, 20)
        held = []
        with pytest.raises(mqtt.Silence):
            while True:
                held.append(clients[0].expect_publish(timeout=0.3).payload)
        assert held
        mine = []
        with pytest.raises(mqtt.Silence):
            while True:
                mine.append(clients[1].take(timeout=0.3).payload)
        assert len(held) + len(mine) == 20
        clients[0].abort()
        wait_for(lambda: mine.append(clients[1].take(timeout=5).payload) or len(mine) == 20, "what the other one held")
        assert sorted(mine) == sorted(str(i).encode() for i in range(20))

    def test_a_sleeping_member_is_passed_over_while_others_are_awake(self, gateway):
        sleeping = gateway.client("sleeping", **session())
        sleeping.subscribe(("$share/g/t", 1))
        sleeping.leave()
        with gateway.client("awake") as awake:
            awake.subscribe(("$share/g/t", 1))
            self.publish(gateway, 10)
            assert len(awake.take_all(10)) == 10

    def test_messages_wait_for_a_group_whose_members_all_sleep(self, gateway):
        with gateway.client("c", **session()) as client:
            client.subscribe(("$share/g/t", 1))
        self.publish(gateway, 5)
        with gateway.client("c", **session()) as client:
            assert [m.payload for m in client.take_all(5)] == [str(i).encode() for i in range(5)]
            client.expect_silence(0.1)

    def test_retained_messages_are_not_sent_to_shared_subscriptions(self, gateway):
        gateway.publish("t", "state", qos=1, retain=True)
        with gateway.client("c") as client:
            client.subscribe(("$share/g/t", 1))
            client.expect_silence()

    def test_no_local_is_not_allowed_with_a_shared_subscription(self, gateway):
        with gateway.client("c") as client:
            client.send(mqtt.subscribe(V5, [("$share/g/t", 1 | NO_LOCAL)]))
            client.expect_disconnect(PROTOCOL_ERROR)

    @pytest.mark.parametrize("name", ["$share/g", "$share//t", "$share/g/", "$share/a+b/t", "$share/#/t"])
    def test_a_bad_shared_filter_is_refused(self, gateway, name):
        with gateway.client("c") as client:
            client.send(mqtt.subscribe(V5, [(name, 1)]))
            try:
                answer = client.recv()
                assert answer.type in (mqtt.SUBACK, mqtt.DISCONNECT), answer
                assert (answer.codes[0] if answer.type == mqtt.SUBACK else answer.code) in (0x81, 0x82, 0x8F), answer
            except mqtt.Closed:
                pass

    def test_unsubscribe_names_the_whole_filter(self, gateway):
        with gateway.client("c") as client:
            client.subscribe(("$share/g/t", 1))
            assert client.unsubscribe("t", "$share/h/t", "$share/g/t") == [0x11, 0x11, 0]

    def test_the_qos_is_that_of_the_member(self, gateway):
        with gateway.client("c") as client:
            client.subscribe(("$share/g/t", 1))
            for qos in (0, 1, 2):
                gateway.publish("t", "x", qos=qos)
                client.take("x", qos=min(qos, 1))

    def test_a_v311_client_may_be_a_member(self, gateway):
        with gateway.client("c", V311) as client:
            assert client.subscribe(("$share/g/t", 1)) == [1]
            gateway.publish("t", "x", qos=1)
            client.take("x", "t")
