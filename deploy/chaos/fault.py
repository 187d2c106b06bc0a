"""What every fault is: chosen by the plan, begun, held, ended, and over when the cluster is as before.

A kind says in its class what it needs and what the product promises under it. `begin` and `end` act on the cluster;
`since` is when the fault is over and the time to recovery starts. A promise that does not hold goes to `violation`,
and the run goes on.
"""

import time

QUICK_EXIT_SECONDS = 2


class Fault:
    """One fault of one kind. Subclasses set the class attributes and override `choose`, `begin` and `end`."""

    kind = ""
    about = ""
    # What it needs: "images", "wires", "strace", "faketime".
    needs = ()
    # Seconds that it is held, least and most.
    hold = (2, 4)
    # Whether the others are to go on ordering meanwhile.
    keeps_going = True
    # Whether ARCHITECTURE.md lets this key sign twice under it.
    may_double_sign = False
    # Codes with which a node may end by itself before all is well again.
    allowed_exits = ()
    # Bytes of a payload meanwhile, if more than usual.
    payload_bytes = None
    # How often the mixed plan takes it, beside the others.
    weight = 2

    def __init__(self, cluster, entry):
        self.cluster, self.entry = cluster, entry
        self.target = cluster.nodes[entry["target"]]
        self.since, self.violations, self.notes = None, [], []

    @classmethod
    def choose(cls, choice, count):
        """What the plan says beside kind, target and hold: drawn now, so that a plan can be replayed."""
        return {}

    def begin(self):
        raise NotImplementedError

    def end(self):
        raise NotImplementedError

    def over(self):
        """The fault is over: recovery counts from here."""
        self.since = time.monotonic()

    def violation(self, text):
        self.violations.append(f"{self.kind} of {self.target.name}: {text}")

    def others(self):
        return [node for node in self.cluster.nodes if node is not self.target]

    def restart(self, node=None, **how):
        (node or self.target).start(**how)


def power_of_faults(count):
    """How many of `count` may fail: f."""
    return (count - 1) // 3
