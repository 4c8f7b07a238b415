"""What all clients of the kill test share, and what is noted about them."""

import collections
import random
import time

QUIET = 60  # seconds: in the end something must arrive at least so often until all is there
HISTORY = 300000  # events that are remembered, of all clients together
STEADY = 20  # seconds without a kill after which nobody may be kept waiting any longer


class World:
    """What all clients share: where the gateway is, what was acknowledged or refused, what was wrong. `padding` is how many
    bytes more each message has."""

    def __init__(self, seed, quiet=QUIET, padding=0):
        self.dice = random.Random(seed)
        self.quiet, self.started = quiet, time.monotonic()
        self.padding = "." * padding
        self.history = collections.deque(maxlen=HISTORY)  # (when, who, what)
        self.address = None
        self.is_over = False  # no more kills: everybody stays awake and takes what there is
        self.acked = collections.defaultdict(set)  # topic -> numbers
        self.refused = collections.defaultdict(set)  # the same of those that the gateway said it would not keep
        self.taken = self.refusals = 0  # messages acknowledged; publishes refused
        self.publishers = []
        self.complaints = []
        self.counts = collections.Counter()
        self.progress = 0
        self.last_kill = 0.0

    def count(self, what):
        self.counts[what] += 1

    def complain(self, what, who=None):
        self.complaints.append(what)
        print(f"WRONG: {what}", flush=True)
        if who and len(self.complaints) <= 5:
            lines = [event for event in self.history if event[1] in (who, "killer")][-80:]
            print("\n".join(f"    {when:9.4f} {name:12} {text}" for when, name, text in lines), flush=True)

    def tell(self, who, what):
        self.history.append((time.monotonic() - self.started, who, what))

    def unanswered(self, client_id, number):
        if time.monotonic() - self.last_kill > STEADY:
            self.complain(f"{client_id}: {number} publishes are not answered, and nothing was killed", client_id)
        self.count("publishers without an answer for long")

    def acknowledged(self, topic, n):
        self.acked[topic].add(n)
        self.taken += 1
        self.progress += 1

    def refuse(self, topic, n, is_certain):
        self.refusals += 1
        if is_certain:
            self.refused[topic].add(n)

    def payload(self, n, times):
        """Of the message with this number, when it was sent so often before."""
        return f"{n}/{times}{self.padding}"

    def sent(self):
        """topic -> how many messages have been sent to it so far."""
        return {topic: n for p in self.publishers for topic, n in p.next.items()}
