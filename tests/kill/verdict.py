"""What the subscribers of the kill test have got, against what they must have got."""


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
        for n in sorted(set(got) & world.refused[topic]):
            complain(f"{topic}: {n} was refused, and has come")
        qos = 2 if topic.split("/")[2].startswith(("q2", "two")) else 1
        seen, last = set(), -1
        for n in got:
            if n in seen:
                subscriber.duplicates += 1
                if min(qos, subscriber.qos) == 2:
                    complain(f"{topic}: {n} twice")
            elif n < last and subscriber.is_alone:
                complain(f"{topic}: {n} for the first time after {last}")
            seen.add(n)
            last = max(last, n)
    return complaints == 0


def missing(world, subscriber):
    """topic -> numbers that must arrive still."""
    found = {}
    for topic, acked in world.acked.items():
        if subscriber.since is not None and subscriber.filter_matches(topic):
            lacking = {n for n in acked if n >= subscriber.since.get(topic, 0)} - subscriber.has(topic)
            if lacking:
                found[topic] = lacking
    return found
