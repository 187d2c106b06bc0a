"""Faults of processes: killed, stopped, twice."""

import os
import shutil
import signal

from fault import Fault, power_of_faults


class KillOne(Fault):
    kind, about = "kill-one", "kill -9 of one node, started again at once or a moment later"
    hold, weight = (0, 1), 4

    def begin(self):
        self.target.kill()

    def end(self):
        self.over()
        self.restart()


class KillAll(Fault):
    kind, about = "kill-all", "kill -9 of all nodes within a moment"
    hold, keeps_going, weight = (0, 1), False, 3

    def begin(self):
        for node in self.cluster.nodes:
            node.wanted = False
            node.signal(signal.SIGKILL)
        for node in self.cluster.nodes:
            node.ended()

    def end(self):
        self.over()
        for node in self.cluster.nodes:
            self.restart(node)


class StopOne(Fault):
    kind, about = "stop-one", "SIGSTOP of one node, SIGCONT later"
    hold = (3, 8)

    def stopped(self):
        return [self.target]

    def begin(self):
        self.held = self.stopped()
        for node in self.held:
            node.wanted = False
            node.signal(signal.SIGSTOP)

    def end(self):
        for node in self.held:
            node.signal(signal.SIGCONT)
            node.wanted = True
        self.over()


class StopSome(StopOne):
    kind, about = "stop-f", "SIGSTOP of as many nodes as may fail"

    def stopped(self):
        count = len(self.cluster.nodes)
        return [self.cluster.nodes[(self.target.index + step) % count] for step in range(power_of_faults(count))]


class StopLeader(StopOne):
    kind, about = "stop-leader", "SIGSTOP of the node that proposes next"
    hold = (1, 3)

    def stopped(self):
        try:
            self.target = self.cluster.next_proposer()
        except (OSError, ValueError, StopIteration):
            self.notes.append("nobody told who proposes next: took the planned one")
        return [self.target]


class Twin(Fault):
    kind, about = "twin", "a second process with one node's key, from a copy of its home: one of the two ends with 70"
    hold, may_double_sign, weight = (0, 0), True, 1
    ends_within_seconds = 60
    # The one that is left may learn only now that the other signed.
    allowed_exits = (70,)

    def begin(self):
        # A validator dials those above it: of the lowest peer key both processes reach all others.
        self.target = self.cluster.lowest_peer()
        self.copy = os.path.join(self.target.folder, "twin")
        self.target.signal(signal.SIGSTOP)
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.target.home, self.copy)
        self.target.signal(signal.SIGCONT)
        words = []
        for field, port in zip(("p2p", "rpc", "metrics"), self.target.take_ports(3)):
            words += ["--set", f"{field}.listen={self.target.host}:{port}"]
        words += ["--set", f"debug.record={self.target.folder}/votes-twin"]
        self.target.wanted = False
        self.twin = self.target.start(home=self.copy, extra=words)
        self.cluster.others.append(self.twin)
        ended = lambda: self.twin.poll() is not None or not self.target.is_running()
        seconds = self.cluster.wait(ended, self.ends_within_seconds)
        if seconds is None:
            self.violation(f"both processes of one key still ran after {self.ends_within_seconds} s")
        elif self.twin.poll() is not None:
            self.notes.append(f"the second one ended with {self.twin.returncode} after {seconds:.1f} s")
            if self.twin.returncode != 70:
                self.violation(f"the second process ended with {self.twin.returncode}, not 70")
        else:
            code = self.target.ended()
            self.notes.append(f"the first one ended with {code} after {seconds:.1f} s")
            if code != 70:
                self.violation(f"the first process ended with {code}, not 70")

    def end(self):
        if self.twin.poll() is None:
            self.twin.kill()
            self.twin.wait()
        self.over()
        if not self.target.is_running():
            # It ended because the other one signed: with that one gone it listens first, as after any start.
            self.target.process = None
            self.restart()
        self.target.wanted = True
        shutil.rmtree(self.copy, ignore_errors=True)


KINDS = [KillOne, KillAll, StopOne, StopSome, StopLeader, Twin]
