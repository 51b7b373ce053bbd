#!/usr/bin/env python3
"""An executable model of the sync protocol that the engine keeps (ARCHITECTURE.md).

It runs random schedules of local transactions, log readers, appliers and conflict resolutions over two nodes
and over chains and stars of bridges, with crashes of a bridge, cut connections, commits whose answer is lost,
inserts that slip into a rendezvous, lock time-outs and wrong clocks. At rest it checks that
  * all nodes hold the same rows;
  * lww:      the surviving row was not overwritten by a later local write made on top of it;
  * additive: a counter column holds its first value plus every local delta, each exactly once.

    python3 model.py                          # every mode, a few thousand schedules, well under a minute
    python3 model.py --schedules 2000 --keys 3 --writes 24
    python3 model.py --without fence          # leave out one rule: schedules fail (--rules lists them)
    python3 model.py --show MODE DELETES CRASH_RATE SEED [--chain]     # replay one schedule, step by step

Columns: v and w are plain, n is the counter. Modes: lww (last writer wins), merge (by column), additive (merge,
and n is additive).
"""
import argparse
import random
import sys
from dataclasses import dataclass, field

PLAIN, COUNTER = ("v", "w"), "n"
COLUMNS = (*PLAIN, COUNTER)
RULES = {
    "exact": "what is applied ahead of the watermark is durable too",
    "order": "a run shares no key with an earlier transaction still in hand",
    "skip": "a change that a resolution covers is skipped, before its before image is looked at",
    "delete": "a delete compares every column, counters too (rare: try --schedules 600 --keys 2 --writes 14)",
    "fence": "a rendezvous waits till both logs are read up to its fences",
    "reread": "a rendezvous decides on the rows as they were at the fence, and starts again if they moved",
    "seen": "writes before the bridge's own last write of a key were seen, and no longer contend",
    "complete": "half-done keys are completed before anything else touches them",
    "yield": "an applier that waits for its turn gives its locks to a rendezvous that wants them (spares time-outs)",
    "timeout": "every wait for a lock ends: all is let go and taken again",
    "prune": "a resolution is forgotten on A, then on B, when both have passed its fences",
}


class Crash(Exception):
    """The bridge process dies. Everything it held in memory is gone; the databases are not."""


class Timeout(Exception):
    """A lock could not be had in time."""


@dataclass
class Entry:
    """One committed transaction in a node's log."""
    time: int
    origin: str                 # "" for an application's, else the name of the bridge that tagged it
    changes: list               # of (key, before, after); None is an absent row


@dataclass
class Resolution:
    """Durable on the node it was committed on, in the same transaction as the row it settled."""
    id: int
    other_fence: int            # the other node's changes of this key up to here are settled here
    own_fence: int              # where this node's own log stood
    other_row: dict             # the other node's row at its fence
    time: int                   # the latest commit time among the writes that were settled


@dataclass
class Durable:
    """What one bridge keeps in one node, committed with the rows it describes."""
    checkpoint: int = 0         # all of the other node's log up to here is applied here
    ahead: set = field(default_factory=set)           # and these positions beyond it
    resolutions: dict = field(default_factory=dict)   # key -> the latest Resolution

    def has_applied(self, position):
        return position <= self.checkpoint or position in self.ahead

    def mark_applied(self, positions):
        self.ahead.update(positions)
        while self.checkpoint + 1 in self.ahead:
            self.checkpoint += 1
            self.ahead.discard(self.checkpoint)


@dataclass
class Node:
    name: str
    skew: int
    rows: dict = field(default_factory=dict)
    log: list = field(default_factory=list)
    locks: dict = field(default_factory=dict)         # key -> (bridge, purpose)
    clock: int = 0


def absent(chain):
    return any(before is None or after is None for _, before, after in chain)


def delta(chain):
    return sum(after[COUNTER] - before[COUNTER] for _, before, after in chain)


def last_change(chain, column):
    """When column last changed in the chain, or None where its net change is nothing."""
    if chain[0][1][column] == chain[-1][2][column]:
        return None
    return max((time for time, before, after in chain if before[column] != after[column]), default=None)


class World:
    """The nodes, the applications that write to them, the bridges between them, and the dice."""

    def __init__(self, seed, mode, deletes, crash_rate, keys, writes, links, rules, trace=None):
        self.rng = random.Random(seed)
        self.mode, self.deletes, self.crash_rate, self.rules, self.trace = mode, deletes, crash_rate, rules, trace
        self.values = self.rng.choice([None, None, "xyz"])      # few values: rows come back to what they were
        self.odd_clock = self.rng.random() < 0.3                # commit times at random, often equal
        self.in_order = self.rng.random() < 0.5                 # commits become visible in source order
        self.nodes = {n: Node(n, self.rng.randint(-50, 50)) for n in sorted({n for link in links for n in link})}
        self.keys, self.writes_left, self.time, self.unique = range(keys), writes, 0, 0
        self.deltas = {k: 0 for k in self.keys}
        self.overwritten = set()
        for k in self.keys:
            if not deletes or self.rng.random() < 0.5:
                for node in self.nodes.values():
                    node.rows[k] = {"v": "x", "w": "x", COUNTER: 100}
        self.bridges = [Bridge(self, self.nodes[a], self.nodes[b]) for a, b in links]

    def note(self, text):
        if self.trace is not None:
            self.trace.append(text)

    def local_transaction(self, node):
        keys = self.rng.sample(list(self.keys), self.rng.choice([1, 1, 2]) if len(self.keys) > 1 else 1)
        for k in keys:      # a row is locked by whoever locked it; an absent row only by an insert under way
            if k in node.locks and (node.rows.get(k) is not None or node.locks[k][1] == "inserted"):
                return
        changes = []
        for k in keys:
            self.unique += 1
            before = node.rows.get(k)
            value = lambda: self.rng.choice(self.values) if self.values else f"{node.name}{self.unique}"
            if before is None:
                if not self.deletes:
                    continue
                after = {"v": value(), "w": value(), COUNTER: 100}
            elif self.deletes and self.rng.random() < 0.3:
                after = None
            else:
                after = dict(before)
                touched = "vn" if self.mode == "lww" else self.rng.choice(["v", "w", "n", "vn", "vw"])
                for column in PLAIN:
                    if column in touched:
                        after[column] = value()
                if COUNTER in touched:
                    d = self.rng.choice([-3, -2, -1, 1, 2])
                    after[COUNTER] += d
                    self.deltas[k] += d
            if after == before:
                continue            # an update that changes nothing is no change
            changes.append((k, before, after))
            if before is not None:
                self.overwritten.add((k, repr(before)))
        if not changes:
            return
        self.time += 1
        node.clock = max(node.clock + 1, self.time + node.skew)
        time = self.rng.choice([0, 5, 5, self.rng.randint(0, 40)]) if self.odd_clock else node.clock
        for k, _, after in changes:
            node.rows[k] = after
        node.log.append(Entry(time, "", changes))
        self.note(f"{node.name} local @{len(node.log)} time={time} {changes}")
        self.writes_left -= 1

    def at_rest(self):
        return (self.writes_left <= 0 and not any(n.locks for n in self.nodes.values())
                and all(bridge.at_rest() for bridge in self.bridges))

    def run(self):
        for _ in range(60_000):
            if self.at_rest():
                return self.check()
            dice, bridge = self.rng.random(), self.rng.choice(self.bridges)
            if dice < 0.25 and self.writes_left > 0:
                self.local_transaction(self.rng.choice(list(self.nodes.values())))
            elif dice < 0.5:
                node = self.rng.choice([bridge.a, bridge.b])
                bridge.read[node.name] += bridge.read[node.name] < len(node.log)
            else:
                if self.rng.random() < 0.05:
                    bridge.forget()
                try:
                    next(self.rng.choice(bridge.tasks), None)
                except Crash:
                    self.note(f"{bridge.name} crashes")
                    bridge.start()
        raise AssertionError("it never came to rest")

    def check(self):
        nodes = list(self.nodes.values())
        for k in self.keys:
            row = nodes[0].rows.get(k)
            assert all(n.rows.get(k) == row for n in nodes), f"diverged: {k} {[n.rows.get(k) for n in nodes]}"
            if self.mode == "lww" and row is not None and not self.values:
                assert (k, repr(row)) not in self.overwritten, f"a later write was lost: {k}"
            if self.mode == "additive" and not self.deletes:
                assert row[COUNTER] == 100 + self.deltas[k], f"a delta was lost or doubled: {k}"


class Bridge:
    def __init__(self, world, a, b):
        self.world, self.a, self.b, self.name = world, a, b, a.name + b.name
        self.rng, self.mode, self.rules = world.rng, world.mode, world.rules
        self.durable = {a.name: Durable(), b.name: Durable()}
        self.priority = {a.name: 1, b.name: 0}
        self.last_id = 0
        self.start()

    def other(self, node):
        return self.b if node is self.a else self.a

    def at_rest(self):
        at_a, at_b = self.durable[self.a.name], self.durable[self.b.name]
        return (not self.resolving and not self.half_done
                and at_a.checkpoint == len(self.b.log) and at_b.checkpoint == len(self.a.log))

    # ---- start, and start again after a crash, from what the two databases hold -------------------

    def start(self):
        for d in self.durable.values():
            if "exact" not in self.rules:
                d.ahead.clear()
        self.read = {self.a.name: self.durable[self.b.name].checkpoint, self.b.name: self.durable[self.a.name].checkpoint}
        self.resolving, self.wanted = False, set()
        self.claimed = {self.a.name: set(), self.b.name: set()}
        for node in (self.a, self.b):
            for k in [k for k, (bridge, _) in node.locks.items() if bridge is self]:
                del node.locks[k]
        self.half_done = self.find_half_done() if "complete" in self.rules else set()
        self.tasks = [self.apply(source, self.other(source)) for source in (self.a, self.b) for _ in range(2)]

    def find_half_done(self):
        """Keys whose resolution reached A, where it is written first, and not B."""
        at_a, at_b = (self.durable[n.name].resolutions for n in (self.a, self.b))
        return {k for k in self.world.keys if k in at_a and (k not in at_b or at_b[k].id < at_a[k].id)}

    def forget(self):
        """Resolutions that no log can reach any more: on A first, so that one on B alone is never taken for half done."""
        k = self.rng.choice(list(self.world.keys))
        at_a, at_b = self.durable[self.a.name], self.durable[self.b.name]
        in_a, in_b = at_a.resolutions.get(k), at_b.resolutions.get(k)
        if "prune" not in self.rules:
            d = self.rng.choice([at_a, at_b])
            d.resolutions.pop(k, None)
        elif k in self.half_done or k in self.wanted:
            return
        elif in_b and not in_a:
            del at_b.resolutions[k]
        elif in_a and in_b and at_a.checkpoint >= in_a.other_fence and at_b.checkpoint >= in_b.other_fence:
            del at_a.resolutions[k]

    def may_crash(self):
        if self.rng.random() < self.world.crash_rate:
            raise Crash

    # ---- locks ------------------------------------------------------------------------------------

    def lock(self, node, keys, purpose):
        """Takes all or none. The bridge's own registry of keys stands in for the lock that an absent row has not."""
        mine, waited = [], 0
        for k in keys:
            while k in node.locks:
                waited += 1
                if "timeout" in self.rules and waited > self.rng.randint(20, 120):
                    self.unlock(node, mine)
                    raise Timeout
                yield
            node.locks[k] = (self, purpose)
            mine.append(k)
            yield

    def unlock(self, node, keys):
        for k in keys:
            node.locks.pop(k, None)

    def back_off(self):
        for _ in range(self.rng.randint(1, 30)):
            yield

    # ---- the way without conflict ------------------------------------------------------------------

    def local(self, entry):
        return entry.origin != self.name        # another bridge's write is a local one to us

    def settled(self, source, key, position):
        r = self.durable[self.other(source).name].resolutions.get(key)
        return r is not None and r.other_fence >= position

    def matches(self, row, before, after):
        """Is the target's row the one that the change was made on? Counters don't count, their deltas commute: but a
        delete takes them along."""
        if row is None or before is None:
            return row is None and before is None
        if self.mode == "additive" and after is not None and all(before[c] == after[c] for c in PLAIN):
            return True
        additive = self.mode == "additive" and not (after is None and "delete" in self.rules)
        return all(row[c] == before[c] for c in (PLAIN if additive else COLUMNS))

    def claim(self, source, target):
        """The next run of neighbouring transactions for an idle applier: none of them shares a key with an earlier one
        still in hand, so the order of each key is kept."""
        busy, run, done = set(), [], self.durable[target.name]
        for position in range(done.checkpoint + 1, self.read[source.name] + 1):
            entry = source.log[position - 1]
            keys = {k for k, _, _ in entry.changes}
            if done.has_applied(position):
                if run:
                    break
            elif position in self.claimed[source.name] or ("order" in self.rules and keys & busy and self.local(entry)):
                if run:
                    break
                busy |= keys
            else:
                run.append(position)
                if len(run) == self.rng.choice([1, 2, 3]):
                    break
        self.claimed[source.name].update(run)
        return run

    def play(self, source, target, positions, rows):
        """Applies changes to rows; returns the keys whose before image is not there."""
        conflicts = set()
        for position in positions:
            for k, before, after in source.log[position - 1].changes:
                if k in conflicts or ("skip" in self.rules and self.settled(source, k, position)):
                    continue
                row = rows[k]
                if not self.matches(row, before, after):
                    conflicts.add(k)
                elif after is None or row is None:
                    rows[k] = after
                else:
                    rows[k] = new = dict(row)
                    for c in COLUMNS:
                        if before[c] != after[c]:
                            additive = self.mode == "additive" and c == COUNTER
                            new[c] = row[c] + after[c] - before[c] if additive else after[c]
        return sorted(conflicts)

    def apply(self, source, target):
        """One applier: runs of source's transactions, each run one transaction on target, exactly once."""
        done = self.durable[target.name]
        while True:
            run = self.claim(source, target)
            if not run:
                yield
                continue
            positions = [p for p in run if self.local(source.log[p - 1])]      # the rest is our own write coming back
            keys = sorted({k for p in positions for k, _, _ in source.log[p - 1].changes})
            while True:
                try:
                    yield from self.lock(target, keys, "apply")
                except Timeout:
                    yield from self.back_off()
                    continue
                if self.half_done & set(keys):
                    self.unlock(target, keys)
                    yield from self.rendezvous(sorted(self.half_done & set(keys)))
                    continue
                before = {k: target.rows.get(k) for k in keys}
                rows = dict(before)
                conflicts = self.play(source, target, positions, rows)
                if conflicts:                       # roll back, settle, try again
                    self.unlock(target, keys)
                    self.may_crash()
                    yield from self.rendezvous(conflicts)
                    continue
                if self.world.in_order and not (yield from self.turn(done, run, keys)):
                    self.unlock(target, keys)
                    yield from self.back_off()
                    continue
                if all(target.rows.get(k) == before[k] for k in keys):
                    break
                self.unlock(target, keys)           # an insert slipped in: unique violation
                yield
            writes = [(k, before[k], rows[k]) for k in keys if rows[k] != before[k]]
            self.commit(target, writes, max([source.log[p - 1].time for p in positions], default=0))
            done.mark_applied(run)
            self.claimed[source.name].difference_update(run)
            self.unlock(target, keys)
            self.world.note(f"{self.name} applied {source.name}{run} to {target.name}: {writes}")
            self.may_crash()
            yield

    def turn(self, done, run, keys):
        """Wait till all before the run is visible. False: give the locks back and come again."""
        waited = 0
        while done.checkpoint < run[0] - 1:
            waited += 1
            if "yield" in self.rules and self.wanted & set(keys):
                return False
            if "timeout" in self.rules and waited > self.rng.randint(5, 40):
                return False
            yield
        return True

    def commit(self, node, writes, time):
        for k, _, new in writes:
            node.rows[k] = None if new is None else dict(new)
        if writes:
            node.log.append(Entry(time, self.name, writes))

    # ---- settling a conflict -----------------------------------------------------------------------

    def rendezvous(self, keys):
        while self.resolving:
            yield
        self.resolving, self.wanted = True, set(keys)
        while not (yield from self.try_rendezvous(keys)):
            for node in (self.a, self.b):
                self.unlock(node, [k for k in keys if node.locks.get(k, (None, ""))[0] is self and node.locks[k][1] != "apply"])
            yield from self.back_off()
        self.resolving, self.wanted = False, set()

    def try_rendezvous(self, keys):
        a, b = self.a, self.b
        try:
            for node in (a, b):
                yield from self.lock(node, keys, "rendezvous")
        except Timeout:
            return False
        locked = {(n.name, k): n.rows.get(k) for n in (a, b) for k in keys}
        yield
        fence = {n.name: len(n.log) for n in (a, b)}
        rows = {(n.name, k): n.rows.get(k) for n in (a, b) for k in keys}
        if "reread" in self.rules and rows != locked:
            return False                            # an insert slipped in between lock and fence
        if "fence" in self.rules:
            while self.read[a.name] < fence[a.name] or self.read[b.name] < fence[b.name]:
                yield
        if "reread" not in self.rules:
            rows = {(n.name, k): n.rows.get(k) for n in (a, b) for k in keys}
        self.upto = fence if "reread" in self.rules else dict(self.read)
        verdict, records = {}, {}
        half_done = self.find_half_done() if "complete" in self.rules else set()
        for k in keys:
            row = {n.name: rows[n.name, k] for n in (a, b)}
            verdict[k] = self.complete(k, row) if k in half_done else self.decide(k, row)
            self.last_id += 1
            times = [time for n in (a, b) for time, _, _ in self.pending(n, k, False)]
            for n in (a, b):
                records[k, n.name] = Resolution(self.last_id, fence[self.other(n).name], fence[n.name],
                                                row[self.other(n).name], max(times, default=0))
        # The statements run on both nodes before either commits: an insert that finds a row starts all over.
        for n in (a, b):
            for k in keys:
                if verdict[k] is not None and rows[n.name, k] is None:
                    if n.rows.get(k) is not None:
                        return False
                    n.locks[k] = (self, "inserted")
        self.world.note(f"{self.name} settles {verdict} fences={fence} half_done={half_done}")
        for n in (a, b):
            cut = n is b and self.rng.random() < 0.1
            landed = not cut or self.rng.random() < 0.5         # the answer to this commit is lost
            if landed:
                writes = [(k, n.rows.get(k), verdict[k]) for k in keys if rows[n.name, k] != verdict[k]]
                self.commit(n, writes, max(records[k, n.name].time for k in keys))
                for k in keys:
                    self.durable[n.name].resolutions[k] = records[k, n.name]
            self.unlock(n, keys)
            if cut:                                 # read back what there is; what is half done is completed next
                self.world.note(f"{self.name} lost its connection to {n.name}, landed={landed}")
                self.half_done = self.find_half_done() if "complete" in self.rules else set()
                yield from self.back_off()
                self.may_crash()
                return not self.half_done & set(keys)
            self.may_crash()
            yield
        self.half_done -= set(keys)
        return True

    def pending(self, source, key, unseen):
        """Source's local writes of key that the other node has not got. unseen: only those after the bridge's own last write
        of key on source, which was made on top of, and so supersedes, whatever source had written before."""
        chain, done = [], self.durable[self.other(source).name]
        for position in range(1, self.read[source.name] + 1):
            entry = source.log[position - 1]
            for k, before, after in entry.changes:
                _after = after
                if k != key:
                    continue
                if not self.local(entry):
                    if unseen and "seen" in self.rules and not self.counts(before, _after):
                        chain = []
                elif not done.has_applied(position) and not self.settled(source, key, position):
                    chain.append((entry.time, before, after))
        return chain

    def counts(self, before, after):
        return self.mode == "additive" and before is not None and after is not None and all(before[c] == after[c] for c in PLAIN)

    def decide(self, key, row):
        """The row that both nodes shall hold."""
        a, b = self.a, self.b
        row_a, row_b = row[a.name], row[b.name]
        all_a, all_b = self.pending(a, key, False), self.pending(b, key, False)
        new_a, new_b = self.pending(a, key, True), self.pending(b, key, True)
        additive = self.mode == "additive"
        if row_a == row_b and not (additive and all_a and all_b):
            return row_a
        if not new_a and not new_b:
            new_a, new_b = all_a, all_b
            assert new_a or new_b, "the rows differ and no write explains it: drift"

        def with_counter(winner):
            if not additive or row_a is None or row_b is None or absent(all_a + all_b):
                return winner
            total = row_a[COUNTER] + delta(all_b)
            assert self.world.deletes or total == row_b[COUNTER] + delta(all_a), "the two sums differ"
            return {**winner, COUNTER: total}

        if not new_a:
            return with_counter(row_b)
        if not new_b:
            return with_counter(row_a)
        a_later = (new_a[-1][0], self.priority[a.name]) > (new_b[-1][0], self.priority[b.name])
        later = row_a if a_later else row_b
        if self.mode == "lww" or row_a is None or row_b is None or absent(new_a + new_b):
            return later
        merged = {}
        for c in COLUMNS:
            at, bt = last_change(new_a, c), last_change(new_b, c)
            if at is None and bt is None:
                merged[c] = later[c]
            else:
                from_a = bt is None or (at is not None and (at, self.priority[a.name]) > (bt, self.priority[b.name]))
                merged[c] = row_a[c] if from_a else row_b[c]
        return with_counter(merged)

    def complete(self, key, rows):
        """A has the settled row, B has not. Settle again: A's row with what B wrote since its fence."""
        r = self.durable[self.a.name].resolutions[key]
        row, other, base = rows[self.a.name], rows[self.b.name], r.other_row
        mine, theirs = self.since(self.a, key, r.own_fence), self.since(self.b, key, r.other_fence)
        if not theirs:
            return row
        if not mine and row == base:                # what B wrote was written on top of the settled row
            return other
        mine_time = mine[-1][0] if mine else r.time
        a_later = (mine_time, self.priority[self.a.name]) > (theirs[-1][0], self.priority[self.b.name])
        if self.mode == "lww" or row is None or other is None or base is None or absent(mine + theirs):
            return row if a_later else other
        merged = {}
        for c in COLUMNS:
            if self.mode == "additive" and c == COUNTER:
                merged[c] = row[c] + delta(theirs)
                continue
            their_time = last_change(theirs, c)
            my_time = max([time for time, before, after in mine if before[c] != after[c]], default=r.time)
            wins = row[c] != base[c] and (their_time is None or (my_time, self.priority[self.a.name]) > (their_time, self.priority[self.b.name]))
            merged[c] = row[c] if wins else other[c]
        return merged

    def since(self, node, key, fence):
        chain = []
        for entry in node.log[fence:self.upto[node.name]]:
            for k, before, after in entry.changes:
                if k == key:
                    if self.local(entry):
                        chain = chain + [(entry.time, before, after)]
                    elif not self.counts(before, after):
                        chain = []
        return chain


TOPOLOGIES = {"pair": [("A", "B")], "chain": [("A", "B"), ("B", "C")], "star": [("A", "B"), ("A", "C"), ("A", "D")]}


def main():
    p = argparse.ArgumentParser(description="Random schedules of the sync protocol.")
    p.add_argument("--schedules", type=int, default=60, help="of each mode, with and without deletes, at three crash rates")
    p.add_argument("--keys", type=int, default=3)
    p.add_argument("--writes", type=int, default=20)
    p.add_argument("--topology", choices=TOPOLOGIES, help="default: all")
    p.add_argument("--without", choices=RULES, action="append", default=[], help="leave out a rule")
    p.add_argument("--rules", action="store_true", help="list the rules")
    p.add_argument("--show", nargs=4, metavar=("MODE", "DELETES", "CRASH_RATE", "SEED"), help="replay one schedule (with --topology)")
    o = p.parse_args()
    if o.rules:
        for name, text in RULES.items():
            print(f"{name:9} {text}")
        return 0
    rules = set(RULES) - set(o.without)
    if o.show:
        mode, deletes, crash_rate, seed = o.show
        trace = []
        try:
            World(int(seed), mode, deletes == "True", float(crash_rate), o.keys, o.writes, TOPOLOGIES[o.topology or "pair"], rules, trace).run()
            trace.append("at rest, and right")
        except (AssertionError, ValueError, KeyError, TypeError) as error:
            trace.append(f"wrong: {error}")
        print("\n".join(trace))
        return 0
    failed = total = 0
    for topology in [o.topology] if o.topology else TOPOLOGIES:
        for mode in ("lww", "merge", "additive"):
            for deletes in (False, True):
                bad = []
                for crash_rate in (0, 0.1, 0.3):
                    for seed in range(o.schedules):
                        total += 1
                        try:
                            World(seed, mode, deletes, crash_rate, o.keys, o.writes, TOPOLOGIES[topology], rules).run()
                        except (AssertionError, ValueError, KeyError, TypeError) as error:
                            bad.append(f"--show {mode} {deletes} {crash_rate} {seed}: {error}")
                failed += len(bad)
                print(f"{topology:6} {mode:8} deletes={deletes!s:5} schedules={3 * o.schedules} failed={len(bad)}", *bad[:1], flush=True)
    print(f"{failed} of {total} schedules failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
