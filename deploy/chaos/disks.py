"""Faults of disks: power cuts, no space, failing and slow calls, a file system that is gone."""

import os
import re
import signal
import subprocess
import time

from cluster import tracer_of
from fault import QUICK_EXIT_SECONDS, Fault, power_of_faults

SYNCS = "fdatasync,fsync"


class PowerOne(Fault):
    kind, about = "power-one", "power cut of one node: it goes on from a copy of its mounted image"
    needs, hold, weight = ("images",), (0, 1), 3

    def nodes(self):
        return [self.target]

    def begin(self):
        # Stopped first: what a node signed after its picture was taken would be a disk that lies, not a power cut.
        for node in self.nodes():
            node.wanted = False
            node.signal(signal.SIGSTOP)
        for node in self.nodes():
            node.disk.copy()
        for node in self.nodes():
            node.signal(signal.SIGKILL)
        for node in self.nodes():
            node.ended()
            node.disk.continue_from_copy()

    def end(self):
        self.over()
        for node in self.nodes():
            self.restart(node)


class PowerAll(PowerOne):
    kind, about = "power-all", "power cut of all nodes at one instant"
    keeps_going = False

    def nodes(self):
        return self.cluster.nodes


class Full(Fault):
    kind, about = "disk-full", "no space left on one node's disk: it stands still, and goes on without a restart"
    needs, hold = ("images",), (16, 20)
    # A segment's space is taken in advance; so much fills one in seven seconds.
    payload_bytes = 8 * 1024

    def nodes(self):
        return [self.target]

    def begin(self):
        self.said = {node.name: node.log_length() for node in self.nodes()}
        for node in self.nodes():
            node.wanted = False
            node.disk.fill()

    def end(self):
        for node in self.nodes():
            noticed = "disk full: the node stands still" in node.said(self.said[node.name])
            self.notes.append(f"{node.name} {'ran out of space' if noticed else 'had room enough'}")
            node.disk.free()
        self.over()
        for node in self.nodes():
            if not node.is_running():
                self.violation(f"{node.name} ended with {node.ended()} for want of space")
                self.restart(node)
            node.wanted = True


class FullSome(Full):
    kind, about = "disks-full", "no space left on one disk more than may fail: all stand still, and go on without a restart"
    keeps_going = False

    def nodes(self):
        nodes = self.cluster.nodes
        return [nodes[(self.target.index + step) % len(nodes)] for step in range(power_of_faults(len(nodes)) + 1)]


class ReadOnly(Fault):
    kind, about = "read-only", "the file system turns read-only under the node: exit 71, mended, started again"
    needs, hold = ("images",), (0, 1)

    def harm(self):
        self.target.disk.abort()

    def begin(self):
        self.target.wanted = False
        self.harm()
        seconds = self.cluster.wait(lambda: not self.target.is_running(), 15)
        if seconds is None:
            self.violation("went on for 15 s with a disk that takes nothing")
            self.target.kill()
            return
        code = self.target.ended()
        self.notes.append(f"ended with {code} after {seconds:.2f} s")
        if code != 71:
            self.violation(f"ended with {code}, not 71")

    def end(self):
        self.target.disk.mend()
        self.over()
        self.restart()


class Gone(ReadOnly):
    kind, about = "disk-gone", "the file system is shut down under the node: exit 71, mounted again, started again"

    def harm(self):
        self.target.disk.shut_down()


def injected_at(path):
    """Unix time of the first injected call in a trace, or None."""
    with open(path, errors="replace") as trace:
        for line in trace:
            if "INJECTED" in line or "SIGKILL" in line:
                found = re.search(r"(\d{9,}\.\d+)", line)
                return float(found.group(1)) if found else None
    return None


class Traced(Fault):
    """The node is started again under strace, which disturbs its calls."""

    needs = ("strace",)
    hold = (0, 0)
    lives_seconds = 8

    def start_traced(self, trace, inject, options=()):
        self.trace = os.path.join(self.target.folder, "trace")
        if os.path.exists(self.trace):
            os.remove(self.trace)
        if self.target.is_running():
            self.target.kill()
        # -D: the node stays our child, and its exit code ours to see.
        prefix = [
            "strace",
            "-D",
            "-f",
            *options,
            "-ttt",
            "-o",
            self.trace,
            "-e",
            f"trace={trace}",
            "-e",
            f"inject={inject}",
        ]
        self.target.start(prefix=prefix)
        self.target.wanted = False

    def end(self):
        self.over()
        if self.target.is_running():
            self.target.kill()
        self.restart()


class SyncError(Traced):
    kind, about = "fsync-error", "one fsync answers EIO: exit 71 at once, and a clean start afterwards"

    @classmethod
    def choose(cls, choice, count):
        return {"when": choice.choice([1, 2, 3, 5, 8, 13, 30, 60, 120])}

    def begin(self):
        self.start_traced(SYNCS, f"{SYNCS}:error=EIO:when={self.entry['when']}", ["--seccomp-bpf"])
        if self.cluster.wait(lambda: not self.target.is_running(), self.lives_seconds) is None:
            if injected_at(self.trace):
                self.violation(f"goes on after fsync number {self.entry['when']} of a thread failed")
            self.notes.append("no thread came that far")
            return
        ended, code, failed = time.time(), self.target.ended(), injected_at(self.trace)
        if code != 71:
            self.violation(f"ended with {code}, not 71, when fsync number {self.entry['when']} of a thread failed")
        if failed and ended - failed > QUICK_EXIT_SECONDS:
            self.violation(f"ended {ended - failed:.1f} s after the failed fsync")


class CrashPoint(Traced):
    kind, about = (
        "crash-point",
        "killed at its k-th write, sync, rename or removal, as strace counts them in a thread",
    )
    # Each with the greatest number that threads come to within seconds.
    calls = {
        "pwrite64": 400,
        "write": 400,
        "fdatasync": 100,
        "fsync": 8,
        "rename": 4,
        "ftruncate": 4,
        "unlink": 8,
        "openat": 60,
    }
    weight = 3

    @classmethod
    def choose(cls, choice, count):
        call = choice.choice(list(cls.calls))
        return {"call": call, "when": int(cls.calls[call] ** choice.random())}

    def begin(self):
        call, when = self.entry["call"], self.entry["when"]
        # Without --seccomp-bpf, under which strace forgets its signals.
        self.start_traced(call, f"{call}:signal=SIGKILL:when={when}")
        if self.cluster.wait(lambda: not self.target.is_running(), self.lives_seconds) is None:
            self.notes.append("no thread came that far")
            return
        code = self.target.ended()
        if code != -signal.SIGKILL:
            self.violation(f"ended with {code} where it was to be killed at {call} number {when}")


class SlowSync(Fault):
    kind, about = "fsync-slow", "each fsync of one node takes 2 s longer"
    needs, hold = ("strace",), (6, 10)

    def begin(self):
        self.target.wanted = False
        command = ["strace", "-f", "-p", str(self.target.process.pid), "-o", "/dev/null", "-e", f"trace={SYNCS}"]
        self.tracer = subprocess.Popen(
            command + ["-e", f"inject={SYNCS}:delay_enter=2000000"], stderr=subprocess.DEVNULL
        )
        self.cluster.others.append(self.tracer)
        if self.cluster.wait(lambda: tracer_of(self.target.process.pid) != 0, 5) is None:
            self.notes.append("strace did not attach")

    def end(self):
        self.tracer.terminate()
        try:
            self.tracer.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.tracer.kill()
            self.tracer.wait()
        if self.target.is_running():
            # A thread that strace left while it was stopped stays so without this.
            self.target.signal(signal.SIGCONT)
        else:
            self.violation(f"ended with {self.target.ended()} on a slow disk")
            self.restart()
        self.target.wanted = True
        self.over()


KINDS = [PowerOne, PowerAll, Full, FullSome, ReadOnly, Gone, SyncError, CrashPoint, SlowSync]
