"""Faults of the network between nodes, by the relay."""

import time

from fault import Fault, power_of_faults


class Weather(Fault):
    """Something that the relay does to directions until it is reset."""

    hold = (4, 8)

    def begin(self):
        raise NotImplementedError

    def set(self, **what):
        self.cluster.relay.order(do="set", **what)

    def names(self, nodes):
        return [node.name for node in nodes]

    def end(self):
        # So that a report shows that the fault was there.
        links = self.cluster.relay.order(do="count")["links"]
        gone = sum(link["lost"] + link["cut"] for link in links)
        self.notes.append(f"{gone} of {sum(link['received'] for link in links)} datagrams gone since the start")
        self.cluster.relay.order(do="reset")
        self.over()

    def parts(self, size):
        """`size` nodes from the target on, and the rest."""
        count = len(self.cluster.nodes)
        first = [self.cluster.nodes[(self.target.index + step) % count] for step in range(size)]
        return self.names(first), self.names([node for node in self.cluster.nodes if node not in first])

    def cut(self, first, second):
        self.set(**{"from": first, "to": second, "cut": True})


class Isolate(Weather):
    kind, about = "partition-3-1", "as many nodes as may fail are cut off from the rest"

    def begin(self):
        first, second = self.parts(power_of_faults(len(self.cluster.nodes)))
        self.cut(first, second)
        self.cut(second, first)


class Halves(Weather):
    kind, about = "partition-2-2", "two halves that do not hear each other: nobody can decide"
    keeps_going = False

    def begin(self):
        first, second = self.parts(len(self.cluster.nodes) // 2)
        self.cut(first, second)
        self.cut(second, first)


class Deaf(Weather):
    kind, about = "one-way-in", "one node hears nobody, and is heard"

    def begin(self):
        first, second = self.parts(1)
        self.cut(second, first)


class Mute(Weather):
    kind, about = "one-way-out", "one node is heard by nobody, and hears"

    def begin(self):
        first, second = self.parts(1)
        self.cut(first, second)


class Ring(Weather):
    kind, about = "one-way-ring", "each node hears all but the one before it"
    keeps_going = False

    def begin(self):
        nodes = self.cluster.nodes
        for node in nodes:
            self.cut([node.name], [nodes[(node.index + 1) % len(nodes)].name])


class Flapping(Weather):
    kind, about = "flapping", "one node is cut off and back every 500 ms"
    hold, keeps_going = (0, 0), False

    @classmethod
    def choose(cls, choice, count):
        return {"times": choice.randrange(4, 10)}

    def begin(self):
        for turn in range(2 * self.entry["times"]):
            self.set(node=self.target.name, cut=turn % 2 == 0)
            time.sleep(0.5)


class Loss1(Weather):
    kind, about = "loss-1", "1 % of all datagrams are lost"
    loss = 0.01

    def begin(self):
        self.set(loss=self.loss)


class Loss20(Loss1):
    kind, about = "loss-20", "20 % of all datagrams are lost"
    loss, keeps_going = 0.2, False


class Loss40(Loss1):
    kind, about = "loss-40", "40 % of all datagrams are lost"
    loss, keeps_going = 0.4, False


class Storm(Weather):
    kind, about = "storm", "20 % of all datagrams are lost, the others take 50 to 150 ms"
    keeps_going = False

    def begin(self):
        self.set(delayMs=50, jitterMs=100, loss=0.2)


class LeaderCut(Weather):
    kind, about = "leader-cut", "whoever proposes next is cut off from the rest, again and again"
    hold = (0, 0)
    cut_seconds = 1.0

    @classmethod
    def choose(cls, choice, count):
        return {"times": choice.randrange(4, 10)}

    def begin(self):
        for _ in range(self.entry["times"]):
            try:
                leader = self.cluster.next_proposer().name
            except (OSError, ValueError, StopIteration):
                leader = self.target.name
            self.set(node=leader, cut=True)
            time.sleep(self.cut_seconds)
            self.set(node=leader, cut=False)


class Delay(Weather):
    kind, about = "delay", "all datagrams take 60 to 90 ms"

    def begin(self):
        self.set(delayMs=60, jitterMs=30)


class LossAndDelay(Weather):
    kind, about = "loss-delay", "1 % of all datagrams are lost, the others take 50 to 60 ms"
    keeps_going = False

    def begin(self):
        self.set(delayMs=50, jitterMs=10, loss=0.01)


KINDS = [Isolate, Halves, Deaf, Mute, Ring, Flapping, LeaderCut, Loss1, Loss20, Loss40, Delay, LossAndDelay, Storm]
