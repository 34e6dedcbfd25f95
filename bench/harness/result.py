# SPDX-License-Identifier: Apache-2.0
"""What a row found. A row is one line of the targets' table; it has measures (one work each, several contenders), checks of the data,
gaps (peers that could not run) and notes. Only ratios of one round count: vstored and the peer a few seconds apart."""
import statistics

from .loads import Reading
from .machine import Failed

OURS = "vstored"
DISK, NULL = "disk (fio io_uring)", "nbdkit null (ceiling)"
ROWS = {}  # number: (title, function); see `row`


def row(*numbers, titles):
    """Registers a function(bench, rows) that measures these rows in one go; rows: {number: Row} of those that are wanted."""
    def register(function):
        for number, title in zip(numbers, titles):
            ROWS[number] = (title, function)
        return function
    return register


class Measure:
    """One work. better: "more" (a second) or "less" (seconds, bytes). caches: the state that they are in, for the reader."""

    def __init__(self, what, unit, better="more", caches=""):
        self.what, self.unit, self.better, self.caches = what, unit, better, caches
        self.series, self.latency, self.seconds = {}, {}, {}
        self.targets = {}  # peer: (ratio wanted, words)
        self.bounds = []   # (what, value, limit, unit, met)

    def add(self, name, reading):
        reading = reading if isinstance(reading, Reading) else Reading(reading)
        self.series.setdefault(name, []).append(reading.value)
        if reading.latency_us:
            self.latency.setdefault(name, []).append(reading.latency_us)
        if reading.per_second:
            self.seconds.setdefault(name, []).append(reading.per_second)

    def target(self, peer, ratio, words=""):
        self.targets[peer] = (ratio, words)

    def bound(self, what, value, limit, unit, better="less"):
        self.bounds.append({"what": what, "value": value, "limit": limit, "unit": unit,
                            "met": value <= limit if better == "less" else value >= limit, "better": better})

    def ratios(self, peer):
        """vstored's advantage round by round: above 1 it is the better one."""
        ours, theirs = self.series.get(OURS, []), self.series.get(peer, [])
        return [o / t if self.better == "more" else t / o for o, t in zip(ours, theirs) if o and t]

    def judged(self):
        """{peer: {median, min, max, target, met}} for every contender but vstored itself."""
        out = {}
        for peer in self.series:
            ratios = self.ratios(peer)
            if not ratios or (peer.startswith(OURS) and peer not in self.targets):  # other settings of vstored are no peers
                continue
            wanted = self.targets.get(peer, (None, ""))[0]
            median = statistics.median(ratios)
            out[peer] = {"median": median, "min": min(ratios), "max": max(ratios), "target": wanted,
                         "met": None if wanted is None else median >= wanted}
        return out

    def latency_median(self, name):
        rounds = self.latency.get(name)
        return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]} if rounds else None


class Row:
    def __init__(self, number, title):
        self.number, self.title = number, title
        self.measures, self.checks, self.gaps, self.notes = [], [], [], []
        self.profiles = {}  # what: text
        self.error = None
        self.seconds = 0.0

    def measure(self, *args, **kw):
        self.measures.append(Measure(*args, **kw))
        return self.measures[-1]

    def check(self, what, good, words=""):
        self.checks.append({"what": what, "good": bool(good), "words": words})

    def checked(self, what, function):
        """A check that fails by an exception."""
        try:
            function()
            self.check(what, True)
        except Failed as error:
            self.check(what, False, str(error))

    def gap(self, who, why):
        if not any(g["who"] == who for g in self.gaps):
            self.gaps.append({"who": who, "why": why})

    def note(self, words):
        if words not in self.notes:
            self.notes.append(words)

    def missing(self):
        """Why this row says nothing, or None. A row without a ratio or bound, or without checked data, says nothing."""
        if self.error:
            return self.error
        if not any(m.judged() or m.bounds for m in self.measures):
            return "nothing was measured"
        if not self.checks:
            return "no data was checked"
        return None

    def wrong(self):
        return [c for c in self.checks if not c["good"]]


def interleave(row_, measure, contenders, rounds, settle=None):
    """contenders: {name: function that gives a figure}. Each round runs all of them, beginning with another one every time. A peer
    that fails becomes a gap and its figures go; vstored's failure is the row's."""
    names = list(contenders)
    for round_no in range(rounds):
        for name in names[round_no % len(names):] + names[:round_no % len(names)]:
            if any(g["who"] == name for g in row_.gaps):
                continue
            try:
                measure.add(name, contenders[name]())
            except Failed as error:
                if name.startswith(OURS):
                    raise
                row_.gap(name, str(error))
                measure.series.pop(name, None)
            if settle:
                settle()


def start_peer(row_, stack, name, start):
    """The peer's server, or None and a gap."""
    try:
        return stack.enter_context(start())
    except Failed as error:
        row_.gap(name, str(error))
        return None
