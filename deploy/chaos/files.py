"""Faults of files and clocks: damaged, old, lost; ahead and behind.

What an operator would do afterwards is done here from the node's own words: a code without a command that helps is a
violation.
"""

import glob
import os
import shutil
import time

from disk import settle
from fault import Fault

MENDED_WITHIN_SECONDS = 60
LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class Damage(Fault):
    kind, about = (
        "corrupt-file",
        "one file of a stopped node is flipped, cut, zeroed or removed; it serves or says what to do",
    )
    hold, weight = (0, 0), 4

    @classmethod
    def choose(cls, choice, count):
        how = choice.choice(["flip", "flip", "cut", "zero", "remove"])
        return {"file": round(choice.random(), 6), "how": how, "place": round(choice.random(), 6)}

    def files(self):
        """What may be hit. Not the configuration: a digit less in a port is a wrong port, and nothing that a node could
        notice."""
        found = []
        for folder, _, names in os.walk(self.target.home):
            found += [os.path.join(folder, name) for name in names if name not in ("config.toml", "lock")]
        return sorted(found)

    def chosen(self):
        """Each folder of the home as often as any other, however many files it has; then one of its files."""
        folders = {}
        for path in self.files():
            folders.setdefault(os.path.relpath(path, self.target.home).split(os.sep)[0], []).append(path)
        at = self.entry["file"] * len(folders)
        files = folders[sorted(folders)[int(at)]]
        return files[int(at % 1 * len(files))]

    def begin(self):
        self.target.kill()
        self.path = self.chosen()
        self.harm()
        shown = os.path.relpath(self.path, self.target.home)
        self.notes.append(f"{self.entry['how']} {shown}")

    def used(self):
        """Its length without the zeros at the end: logs take their space in advance."""
        with open(self.path, "rb") as file:
            return len(file.read().rstrip(b"\0"))

    def harm(self):
        how, size = self.entry["how"], self.used()
        at = int(self.entry["place"] * size)
        if how == "remove":
            os.remove(self.path)
            return
        with open(self.path, "r+b") as file:
            if how == "cut":
                file.truncate(at)
            elif size:
                file.seek(at)
                old = file.read(1 if how == "flip" else 4096)
                file.seek(at)
                file.write(
                    bytes([old[0] ^ 1 << int(self.entry["place"] * 997) % 8]) if how == "flip" else bytes(len(old))
                )

    def end(self):
        self.over()
        deadline = time.monotonic() + MENDED_WITHIN_SECONDS
        for _ in range(4):
            since = self.target.log_length()
            self.restart()
            up = lambda: not self.target.is_running() or (self.target.status() or {}).get("voting")
            came = self.cluster.wait(up, max(1, deadline - time.monotonic()))
            if self.target.is_running():
                break
            self.mend(self.target.ended(), self.target.said(since))
        if came is None or not self.target.is_running():
            self.violation(f"not voting {MENDED_WITHIN_SECONDS} s after {'; '.join(self.notes)}")
        self.mend_silent_damage()

    def mend(self, code, said):
        """Does what the node's last words say."""
        last = said.strip().splitlines()[-1:] or [""]
        self.notes.append(f"exit {code}")
        urls = [word for node in self.others() for word in ("--url", node.rpc)]
        if code == 71 and "fusion db repair" in said:
            self.notes.append("db repair")
            done = self.target.fusion("db", "repair", "--home", self.target.home, *urls)
        elif code == 78 and "fusion guard init" in said:
            self.notes.append("guard init")
            height = str(self.cluster.height() + 1)
            done = self.target.fusion(
                "guard", "init", "--home", self.target.home, "--at-height", height, "--i-understand"
            )
        elif code in (74, 78) and self.is_own_file() and os.path.basename(self.path) in said:
            self.notes.append("put back")
            shutil.copy2(
                os.path.join(self.target.folder, "kept", os.path.relpath(self.path, self.target.home)), self.path
            )
            settle(self.path)
            return
        else:
            self.violation(f"after {self.notes[0]}: exit {code} without a way out: {last[0]}")
            return
        if done.returncode:
            self.violation(
                f"after {self.notes[0]}: the named command ended with {done.returncode}: {done.stdout.strip()[-300:]}"
            )

    def is_own_file(self):
        """Keys and genesis are the operator's, who has a copy."""
        return os.path.relpath(self.path, self.target.home).startswith(("keys", "genesis"))

    def mend_silent_damage(self):
        """A damaged old block is not read at a start. Its reader gets an error; here its owner looks and repairs."""
        if not self.target.is_running():
            return
        self.target.stop()
        if self.target.fusion("db", "check", "--home", self.target.home).returncode == 1:
            self.notes.append("db check finds it")
            self.mend(71, "fusion db repair")
        self.restart()


class LostWal(Fault):
    kind, about = (
        "lost-wal",
        "the write-ahead log is removed: no second signature, votes again from the next height on",
    )
    hold = (0, 1)

    def begin(self):
        self.target.kill()
        lost = glob.glob(os.path.join(self.target.home, "wal*"))
        if not lost:
            self.notes.append("no write-ahead log found")
        for path in lost:
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def end(self):
        self.over()
        self.restart()


class OldCopy(Fault):
    kind, about = (
        "old-copy",
        "the whole home is put back from a copy some seconds old: nothing is signed against what was",
    )
    hold = (2, 5)

    def begin(self):
        self.target.kill()
        self.copy = os.path.join(self.target.folder, "old")
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.target.home, self.copy)
        self.restart()

    def end(self):
        self.target.kill()
        shutil.rmtree(self.target.home)
        shutil.copytree(self.copy, self.target.home)
        shutil.rmtree(self.copy)
        settle(self.target.home)
        self.over()
        self.restart()


def faked(folder, offset):
    """Environment of a process whose wall clock is off by what a file says; its timers are right."""
    path = os.path.join(folder, "clock")
    with open(path, "w") as file:
        file.write(offset)
    return {
        "LD_PRELOAD": glob.glob(LIBRARIES)[0],
        "FAKETIME_TIMESTAMP_FILE": path,
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class Jump(Fault):
    kind, about = "clock-hour", "one node's clock jumps an hour ahead or back while it runs, and back again"
    needs, hold = ("faketime",), (5, 8)

    @classmethod
    def choose(cls, choice, count):
        return {"offset": choice.choice(["+3600", "-3600"])}

    def begin(self):
        self.target.kill()
        self.restart(env=faked(self.target.folder, "+0"))
        if self.cluster.wait(self.cluster.is_healthy, 20) is None:
            self.notes.append("did not vote under libfaketime")
        faked(self.target.folder, self.entry["offset"])
        self.target.wanted = False

    def end(self):
        faked(self.target.folder, "+0")
        if not self.target.is_running():
            self.violation(f"ended with {self.target.ended()} when its clock jumped")
            self.restart()
        self.target.wanted = True
        self.over()


class Skew(Fault):
    kind, about = "clock-skew", "all nodes' clocks are off by up to 250 ms, each by its own"
    needs, hold = ("faketime",), (4, 6)

    @classmethod
    def choose(cls, choice, count):
        return {"offsets": [round(choice.uniform(-0.25, 0.25), 3) for _ in range(count)]}

    def begin(self):
        for node, offset in zip(self.cluster.nodes, self.entry["offsets"]):
            node.kill()
            self.restart(node, env=faked(node.folder, f"{offset:+}"))
            self.cluster.wait(self.cluster.is_healthy, 20)

    def end(self):
        for node in self.cluster.nodes:
            faked(node.folder, "+0")
        self.over()


KINDS = [Damage, LostWal, OldCopy, Jump, Skew]
