"""Faults of a node's network as its kernel sees them: what the relay cannot do, since calls fail here instead of packets.

Peers and users alike are cut off.
"""

import time

from fault import Fault, power_of_faults
from wires import NETWORK, PACKET_BYTES


class Pulled(Fault):
    kind, about = "cable-pulled", "the cables of as many nodes as may fail are pulled: no peers, no users"
    needs, hold = ("wires",), (4, 8)

    def begin(self):
        nodes = self.cluster.nodes
        held = power_of_faults(len(nodes))
        self.held = [nodes[(self.target.index + step) % len(nodes)] for step in range(held)]
        for node in self.held:
            node.wanted = False
            node.wire.plug(False)

    def end(self):
        for node in self.held:
            node.wire.plug(True)
            node.wanted = True
        self.over()


class Dark(Fault):
    kind, about = "switch-off", "the switch is off: nobody reaches anybody"
    needs, hold, keeps_going = ("wires",), (3, 6), False

    def begin(self):
        for node in self.cluster.nodes:
            node.wire.plug(False)

    def end(self):
        for node in self.cluster.nodes:
            node.wire.plug(True)
        self.over()


class Loose(Fault):
    kind, about = "cable-loose", "the cable of one node has contact for half a second, and none for the next"
    needs, hold = ("wires",), (0, 0)

    @classmethod
    def choose(cls, choice, count):
        return {"times": choice.randrange(4, 10)}

    def begin(self):
        self.target.wanted = False
        for turn in range(2 * self.entry["times"]):
            self.target.wire.plug(turn % 2 == 1)
            time.sleep(0.5)

    def end(self):
        self.target.wire.plug(True)
        self.target.wanted = True
        self.over()


class NoRoute(Fault):
    kind, about = "no-route", "one node's kernel refuses to send to anybody: EACCES, EHOSTUNREACH or EINVAL"
    needs, hold = ("wires",), (3, 6)

    @classmethod
    def choose(cls, choice, count):
        return {"answer": choice.choice(["prohibit", "unreachable", "blackhole"])}

    def route(self, do):
        # Two halves, each more specific than the cable's own /24, so that they win.
        for half in (f"{NETWORK}.0/25", f"{NETWORK}.128/25"):
            self.target.wire.inside("ip", "route", do, self.entry["answer"], half)

    def begin(self):
        self.target.wanted = False
        self.route("add")

    def end(self):
        self.route("delete")
        self.target.wanted = True
        self.over()


class NoAddress(Fault):
    kind, about = "no-address", "one node's address is gone and comes back, as with a lease that ran out"
    needs, hold = ("wires",), (3, 6)

    def begin(self):
        self.target.wanted = False
        self.target.wire.inside("ip", *self.target.wire.address("delete"))

    def end(self):
        self.target.wire.inside("ip", *self.target.wire.address("add"))
        self.target.wanted = True
        self.over()


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
