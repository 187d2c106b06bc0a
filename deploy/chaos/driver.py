"""A run: the cluster under load, the faults of the plan one by one, then everything written down for the checker."""

import collections
import json
import os
import time

from cluster import ROLLUPS, call
from load import PAYLOAD_BYTES, Load
from plan import KINDS, line

RECOVERED_WITHIN_SECONDS = 60
# Others are to go on while less than a third is faulty. A round that fails costs about a second, and this machine may
# be busy.
GAP_SECONDS_MAX = 10
BLOCKS_PER_CALL = 50
SETTLE_SECONDS = 30
# A node that ends by itself is started again so often during one fault; then it stays down until the end.
RAISED_MAX = 2
# Less than this says nothing about throughput.
HELD_SECONDS_MIN = 3


class Driver:
    """Carries out a plan and keeps what happened."""

    def __init__(self, cluster, folder, plan, rate, seed, say):
        self.cluster, self.folder, self.plan, self.say = cluster, folder, plan, say
        self.events, self.violations = [], []
        self.load = Load(cluster.nodes, os.path.join(folder, "receipts.jsonl"), rate, seed)
        self.begun = time.monotonic()

    def run(self, seconds):
        for entry in self.plan:
            time.sleep(max(0, self.begun + entry["at"] - time.monotonic()))
            if seconds and time.monotonic() - self.begun > seconds:
                self.say(f"time is up: {len(self.plan) - len(self.events)} faults of the plan were not reached")
                break
            if self.all_run():
                self.carry_out(entry)
            else:
                self.violations.append(
                    f"{entry['kind']} at {entry['at']} s left out: a node is down since an earlier fault"
                )

    def all_run(self):
        """Starts what an earlier fault left down, once more; a fault on top would say nothing about itself."""
        for node in self.cluster.nodes:
            if not node.is_running():
                node.start()
        return self.cluster.wait(self.cluster.is_healthy, RECOVERED_WITHIN_SECONDS, pause=0.2) is not None

    def carry_out(self, entry):
        """One fault from its begin until all is well again."""
        self.raised = collections.Counter()
        fault, begin = KINDS[entry["kind"]](self.cluster, entry), time.monotonic()
        weather = KINDS[entry["under"]](self.cluster, entry) if entry.get("under") else None
        try:
            if weather:
                weather.begin()
            fault.begin()
            self.load.payload_bytes = fault.payload_bytes or PAYLOAD_BYTES
            held = time.monotonic()
            self.hold(fault, entry["hold"])
            gap = self.load.longest_gap(begin, time.monotonic())
            share = self.load.share(held, time.monotonic())
            if weather:
                weather.end()
            fault.end()
        except (
            Exception
        ) as error:  # A fault that cannot be done is a line of the report; the run goes on and is judged.
            fault.violation(f"the driver failed: {type(error).__name__}: {error}")
            gap, share = 0.0, None
            self.undo(fault, weather)
        self.load.payload_bytes = PAYLOAD_BYTES
        event = {**entry, "target": fault.target.index, "begin": begin - self.begun, "gap": round(gap, 3)}
        event["share"] = share if entry["hold"] >= HELD_SECONDS_MIN else None
        if fault.keeps_going and not weather and gap > GAP_SECONDS_MAX:
            fault.violation(f"the others ordered nothing for {gap:.1f} s")
        self.recover(fault, event)
        event.update(
            notes=fault.notes, violations=fault.violations, key=fault.target.key, mayDoubleSign=fault.may_double_sign
        )
        event["end"] = time.monotonic() - self.begun
        self.events.append(event)
        self.violations += fault.violations
        self.tell(entry, event)

    def undo(self, fault, weather):
        """As much of a fault's end as can be had, so that the next one meets a whole cluster."""
        for one in filter(None, (weather, fault)):
            try:
                one.end()
            except Exception as error:
                fault.notes.append(f"not undone: {type(error).__name__}: {error}")

    def hold(self, fault, seconds):
        """Waits, and looks that nobody falls who is not faulty."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.raise_the_fallen(fault)
            time.sleep(min(0.2, max(0, until - time.monotonic())))

    def raise_the_fallen(self, fault):
        for node in self.cluster.fallen():
            code = node.ended()
            if code in fault.allowed_exits:
                fault.notes.append(f"{node.name} ended with {code} afterwards")
            else:
                fault.violation(f"{node.name} ended with {code}")
            if self.raised[node.name] < RAISED_MAX:
                self.raised[node.name] += 1
                node.start()

    def recover(self, fault, event):
        """Times from the fault's end to the first new block, and to all that ought to run voting again."""
        since = fault.since or time.monotonic()
        before = self.cluster.height()
        for name, holds in (("block", lambda: self.cluster.height() > before), ("voting", self.cluster.is_healthy)):
            left = RECOVERED_WITHIN_SECONDS - (time.monotonic() - since)
            waited = self.cluster.wait(lambda: self.raise_the_fallen(fault) or holds(), max(1, left))
            event[name] = None if waited is None else round(time.monotonic() - since, 3)
            if waited is None:
                shown = [node.status() for node in self.cluster.nodes]
                shown = [
                    one and {key: one[key] for key in ("name", "height", "round", "step", "voting", "peers")}
                    for one in shown
                ]
                fault.violation(f"no {name} {RECOVERED_WITHIN_SECONDS} s after its end: {json.dumps(shown)}")
                return

    def tell(self, entry, event):
        times = ", ".join(
            f"{name} after {event[name]:.2f} s" for name in ("block", "voting") if event.get(name) is not None
        )
        notes = f"; {'; '.join(event['notes'])}" if event["notes"] else ""
        self.say(f"{line(entry)}: {times}, longest without a receipt {event['gap']:.2f} s{notes}")
        for text in event["violations"]:
            self.say(f"    VIOLATION: {text}")

    def finish(self):
        """Lets the load come to rest, reads every chain back, stops the nodes, and writes run.json."""
        unfinished = self.load.stop(SETTLE_SECONDS)
        if unfinished:
            self.violations.append(
                f"{unfinished} transactions were not final {SETTLE_SECONDS} s after the last fault"
            )
        # What is final at one node reaches the others a little later, and all are judged by it.
        decided = self.cluster.height()
        if self.cluster.wait(lambda: self.cluster.has_everywhere(decided), SETTLE_SECONDS) is None:
            self.violations.append(f"not all nodes had block {decided} {SETTLE_SECONDS} s after the load ended")
        for node in self.cluster.nodes:
            try:
                self.read_chain(node)
                self.look_up(node)
            except (OSError, ValueError, KeyError) as error:
                self.violations.append(f"{node.name} does not answer at the end: {type(error).__name__}: {error}")
        evidence = {}
        for node in self.cluster.nodes:
            if node.is_running():
                evidence[node.name] = call(node.rpc, "fusion_evidence")
        for node in self.cluster.nodes:
            code = node.stop()
            if code not in (0, None):
                self.violations.append(f"{node.name} ended with {code} when it was asked to stop")
        self.write(unfinished, evidence)

    def read_chain(self, node):
        """All of its blocks, from the first to its tip, as it serves them."""
        tip = call(node.rpc, "fusion_status")["height"]
        with open(os.path.join(self.folder, f"chain-{node.name}.jsonl"), "w") as out:
            for first in range(1, tip + 1, BLOCKS_PER_CALL):
                for height in range(first, min(first + BLOCKS_PER_CALL, tip + 1)):
                    block = call(node.rpc, "fusion_getBlock", [height], timeout=10)
                    out.write(json.dumps(block, separators=(",", ":")) + "\n")

    def look_up(self, node, most=200):
        """Some of the receipts again, by the node's index."""
        with open(os.path.join(self.folder, "receipts.jsonl")) as lines:
            kept = lines.readlines()
        with open(os.path.join(self.folder, f"lookups-{node.name}.jsonl"), "w") as out:
            for text in kept[:: max(1, len(kept) // most)]:
                one = json.loads(text)
                answer = call(
                    node.rpc, "fusion_getReceipt", [one["rollup"], one["receipt"]["transaction"]], timeout=10
                )
                out.write(
                    json.dumps({"rollup": one["rollup"], "receipt": answer.get("receipt"), "was": one["receipt"]})
                    + "\n"
                )

    def write(self, unfinished, evidence):
        nodes = [
            {"name": node.name, "key": node.key, "exits": node.exits, "starts": node.starts}
            for node in self.cluster.nodes
        ]
        summary = {
            "network": self.cluster.network,
            "rollups": ROLLUPS,
            "nodes": nodes,
            "events": self.events,
            "violations": self.violations,
            "seconds": time.monotonic() - self.begun,
            "sent": self.load.sent,
            "unfinished": unfinished,
            "answers": self.load.answers,
            "evidence": evidence,
        }
        with open(os.path.join(self.folder, "run.json"), "w") as file:
            json.dump(summary, file, indent=1)
