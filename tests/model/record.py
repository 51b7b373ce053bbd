#!/usr/bin/env python3
"""Schedules of the model in which everything has its order, so that the engine can be taken through the same ones.

    python3 -B record.py > recorded.jsonl        # what tests/simulation/recorded.rs reads

A schedule is of one bridge between A and B. Its steps are an application's transaction on one node, with its commit time,
or one direction that is brought to the end of its log while the other one applies nothing. So it is told what each write
had seen, and the outcome does not depend on who came first: what both logs hold is settled, whatever the order in which
they are read. A step of a bridge may begin with a crash; where there is one key, it may also end with one, between the two
commits of its first settlement. What is half done then is completed before anything else, after whatever has been written
in the meantime.

After each of its steps stand the rows of both nodes (b: only where they are not those of a), and which keys were settled
there that were not the same on both: whose row stands (both: columns of either), and which one that is. A row is text: v/w/n.
"""
import itertools
import json
import random
import sys

from model import COLUMNS, PLAIN, RULES, Bridge, Crash, World

SCHEDULES = 30      # of each mode, with and without deletes, with crashes and without: some hundred, in a small file


def text(row):
    return None if row is None else "/".join(str(row[column]) for column in COLUMNS)


def returns(log):
    """Whether a row comes back: one that was deleted, or one as it was."""
    seen, gone = set(), set()
    for k, before, after in (change for entry in log for change in entry.changes):
        if before is None and k in gone or (k, text(after)) in seen:
            return True
        seen |= {(k, text(before)), (k, text(after))}
        gone |= {k} if after is None else set()
    return False


class Recorded(Bridge):
    """Dies where it is told to, and notes what it settles."""
    dies = False
    told = None

    def may_crash(self):
        if self.dies and self.find_half_done():
            self.dies = False
            raise Crash

    def decide(self, key, row):
        return self.note(key, row, super().decide(key, row))

    def complete(self, key, row):
        return self.note(key, row, super().complete(key, row))

    def note(self, key, row, verdict):
        plain = lambda r: r and [r[column] for column in PLAIN]
        a, b, stands = plain(row["A"]), plain(row["B"]), plain(verdict)
        if a != b:
            self.told.setdefault(str(key), ["a" if stands == a else "b" if stands == b else "both", stands and "/".join(stands)])
        return verdict

    def until(self, done, tasks):
        """Lets tasks go on, and the logs be read, until something is reached."""
        for _ in range(60_000):
            if done():
                return
            for node in (self.a, self.b):
                self.read[node.name] += self.read[node.name] < len(node.log) and self.rng.random() < 0.5
            next(self.rng.choice(tasks), None)
        raise AssertionError("it never came to the end of the log")

    def bring(self, source):
        """Brings one direction to the end of its log."""
        dies, self.dies = self.dies, False
        if self.half_done:
            self.until(lambda: not self.half_done and not self.resolving, [self.rendezvous(sorted(self.half_done))])
        self.dies = dies
        done = self.durable[self.other(source).name]
        self.until(lambda: done.checkpoint == len(source.log), self.tasks[:2] if source is self.a else self.tasks[2:])
        assert not self.a.locks and not self.b.locks


def record(mode, deletes, crashes, seed):
    """The schedule of a seed; None where its outcome may depend on how a log is cut into runs."""
    world = World(f"{mode} {deletes} {crashes} {seed}", mode, deletes, 0, 1 if crashes else 2, 0, [("A", "B")], set(RULES))
    rng, nodes, keys = random.Random(seed), world.nodes, world.keys
    if mode == "additive":
        world.values = None
    bridge = Recorded(world, nodes["A"], nodes["B"])
    first, steps = [text(nodes["A"].rows.get(k)) for k in keys], []

    def write(node):
        length = len(node.log)
        world.local_transaction(node)
        for entry in node.log[length:]:
            rows = {str(k): text(after) for k, _, after in entry.changes}
            steps.append({"write": node.name.lower(), "time": entry.time, "rows": rows})

    def apply(source, may_die):
        step, bridge.told = {"apply": source.name.lower()}, {}
        if rng.random() < 0.2:
            step["restarted"] = True
            bridge.start()
        bridge.dies = may_die
        try:
            bridge.bring(source)
        except Crash:
            step["dies"] = True
            bridge.start()
        bridge.dies = False
        step["a"], step["b"] = ([text(n.rows.get(k)) for k in keys] for n in nodes.values())
        if step["a"] == step["b"]:
            del step["b"]
        if bridge.told:
            step["settled"] = bridge.told
        steps.append(step)

    for _ in range(rng.randint(5, 14)):
        source = rng.choice(list(nodes.values()))
        is_behind = bridge.durable[bridge.other(source).name].checkpoint < len(source.log)
        if is_behind and rng.random() < 0.5:
            apply(source, crashes and rng.random() < 0.7)
        else:
            write(source)
    for node in rng.sample(list(nodes.values()), 2):
        apply(node, False)
    world.check()
    # What is added alone contends with nothing: not so where the row is back as it was, and its way there and back is one
    # run; and it counts on a row that was inserted anew, unless that is settled first.
    if mode == "additive" and any(returns(node.log) for node in nodes.values()):
        return None
    return {"schedule": f"{mode} deletes={deletes} crashes={crashes} seed={seed}", "mode": mode, "first": first, "steps": steps}


def main():
    for mode in ("lww", "merge", "additive"):
        for deletes in (False, True):
            for crashes in (False, True):
                schedules = filter(None, (record(mode, deletes, crashes, seed) for seed in itertools.count()))
                for schedule in itertools.islice(schedules, SCHEDULES):
                    print(json.dumps(schedule, separators=(",", ":")))


if __name__ == "__main__":
    sys.exit(main())
