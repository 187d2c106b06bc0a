"""Faults of a node's network as its kernel sees them: what the relay cannot do, since calls fail here instead of packets.

Peers and users alike are cut off.
"""

import time

from fault import Fault, power_of_faults
from wires import NETWORK, PACKET_BYTES


class Away(Fault):
    """Some nodes that neither peers nor users reach; the rest go on."""

    needs, hold = ("wires",), (4, 8)

    def nodes(self):
        return [self.target]

    def cut(self, node):
        node.wire.plug(False)

    def mend(self, node):
        node.wire.plug(True)

    def begin(self):
        for node in self.nodes():
            node.wanted = False
            self.cut(node)

    def end(self):
        for node in self.nodes():
            self.mend(node)
            node.wanted = True
        self.over()


class Pulled(Away):
    kind, about = "cable-pulled", "the cables of as many nodes as may fail are pulled: no peers, no users"

    def nodes(self):
        nodes = self.cluster.nodes
        held = power_of_faults(len(nodes))
        return [nodes[(self.target.index + step) % len(nodes)] for step in range(held)]


class Dark(Away):
    kind, about = "switch-off", "the switch is off: nobody reaches anybody"
    hold, keeps_going = (3, 6), False

    def nodes(self):
        return self.cluster.nodes


class Loose(Away):
    kind, about = "cable-loose", "the cable of one node has contact for half a second, and none for the next"
    hold = (0, 0)

    @classmethod
    def choose(cls, choice, count):
        return {"times": choice.randrange(4, 10)}

    def cut(self, node):
        for turn in range(2 * self.entry["times"]):
            node.wire.plug(turn % 2 == 1)
            time.sleep(0.5)


class NoRoute(Away):
    kind, about = "no-route", "one node's kernel refuses to send to anybody: EACCES, EHOSTUNREACH or EINVAL"
    hold = (3, 6)

    @classmethod
    def choose(cls, choice, count):
        return {"answer": choice.choice(["prohibit", "unreachable", "blackhole"])}

    def route(self, node, do):
        # Two halves, each more specific than the cable's own /24, so that they win.
        for half in (f"{NETWORK}.0/25", f"{NETWORK}.128/25"):
            node.wire.inside("ip", "route", do, self.entry["answer"], half)

    def cut(self, node):
        self.route(node, "add")

    def mend(self, node):
        self.route(node, "delete")


class NoAddress(Away):
    kind, about = "no-address", "one node's address is gone and comes back, as with a lease that ran out"
    hold = (3, 6)

    def cut(self, node):
        node.wire.inside("ip", *node.wire.address("delete"))

    def mend(self, node):
        node.wire.inside("ip", *node.wire.address("add"))


class SmallPackets(Fault):
    kind, about = "small-packets", "one node's cable takes packets of 1,280 bytes instead of 1,500, while it sends"
    needs, hold = ("wires",), (4, 8)
    packet_bytes = 1280

    def begin(self):
        self.target.wire.allow(self.packet_bytes)

    def end(self):
        self.target.wire.allow(PACKET_BYTES)
        self.over()


KINDS = [Pulled, Dark, Loose, NoRoute, NoAddress, SmallPackets]
