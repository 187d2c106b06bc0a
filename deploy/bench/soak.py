#!/usr/bin/env python3
"""Twenty minutes under load with a fault every five seconds: what grows that should not?

    deploy/bench/soak.py [--minutes 20] [--rate 10000] [--size 128] [--seed 1] [--binary target/release/fusion]

A devnet carries `fusion bench`, and a follower reads a rollup's stream from every node. Every five seconds one of the
nodes is stopped for up to a second, every minute the last one is killed and started again. Promised, of the nodes that
live all the time, after a quarter of it: memory grows by at most a MiB a minute, file descriptors and threads do not,
the log grows no faster in the second half than in the first, and the index, which grows in steps as its runs are
merged, stays smaller than the log; and the follower is at the end of the stream. Takes a gigabyte of disk for each
million transactions of 128 bytes. Exit code 0: all of it held; 1: not; 2: it was stopped.
Needs python3 alone.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

from faults import OPAQUE, Cluster, call, wait_until

FAULT_SECONDS, KILL_EVERY = 5, 12
MEMORY_GROWTH_MAX = 1.0
# A connection that is being made, or a thread of the pool that has just begun.
COUNT_SLACK = 8
# By how much faster the log may grow in the second half; and MB a minute that are nothing: segments are taken whole.
BYTES_FACTOR_MAX, BYTES_SLACK = 1.2, 64.0


def megabytes(folder):
    """On the disk; files come and go meanwhile."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(base, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total / 1e6


class Sample:
    """One node at one moment."""

    def __init__(self, node, pid):
        self.at = time.monotonic()
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        self.memory = int(fields["VmRSS"].split()[0]) / 1024
        self.threads, self.files = int(fields["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))
        self.log, self.index = (megabytes(os.path.join(node["home"], name)) for name in ("log", "index"))


class Follower:
    """`fusion follow` at all nodes, and how far it is."""

    def __init__(self, binary, home, nodes):
        command = [binary, "follow", "--devnet", home, "--rollup", str(OPAQUE)]
        for node in nodes:
            command += ["--url", node["rpc"]]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.last, self.lines = "", 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.last, self.lines = line, self.lines + 1

    def sequence(self):
        """The last one it wrote: `sequence N  …`."""
        words = self.last.split()
        return int(words[1]) if len(words) > 1 else -1


def growth(samples, what):
    """Least squares, a minute."""
    times = [sample.at / 60 for sample in samples]
    values = [getattr(sample, what) for sample in samples]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    return sum((at - middle) * (value - mean) for at, value in zip(times, values)) / spread


def disturb(cluster, options, choice, taken):
    """Faults and samples until the time is up."""
    until, turn = time.monotonic() + options.minutes * 60, 0
    while time.monotonic() < until:
        turn += 1
        due = time.monotonic() + FAULT_SECONDS
        if turn % KILL_EVERY == 0:
            last = len(cluster.nodes) - 1
            cluster.kill([last])
            cluster.start([last])
            cluster.back([last])
        else:
            victim = cluster.pid(choice.randrange(len(cluster.nodes)))
            os.kill(victim, signal.SIGSTOP)
            try:
                time.sleep(choice.uniform(0.1, 1.0))
            finally:
                os.kill(victim, signal.SIGCONT)
        for index, samples in enumerate(taken):
            samples.append(Sample(cluster.nodes[index], cluster.pid(index)))
        if turn % KILL_EVERY == 0:
            memory = ", ".join(f"{samples[-1].memory:.0f}" for samples in taken)
            print(f"{turn * FAULT_SECONDS / 60:.0f} minutes: {turn} faults, memory {memory} MiB", flush=True)
        time.sleep(max(0, due - time.monotonic()))


def judge(taken):
    """Prints a line a node; returns what did not hold."""
    broken = []
    print("| node | memory, MiB | a minute | threads | files | log, MB a minute | log, index, MB |\n|---|---|---|---|---|---|---|")
    for index, samples in enumerate(taken):
        name, samples = f"node{index}", samples[len(samples) // 4 :]
        half = len(samples) // 2
        first, last = samples[0], samples[-1]
        cells = [name, f"{first.memory:.0f} to {last.memory:.0f}", f"{growth(samples, 'memory'):+.2f}"]
        if growth(samples, "memory") > MEMORY_GROWTH_MAX:
            broken.append(f"{name} grows by {growth(samples, 'memory'):.2f} MiB a minute")
        for what in ("threads", "files"):
            before = max(getattr(sample, what) for sample in samples[:half])
            after = max(getattr(sample, what) for sample in samples[half:])
            cells.append(f"{before}, then {after}")
            if after > before + COUNT_SLACK:
                broken.append(f"{name} has {after} {what}, and had {before}")
        rates = [growth(part, "log") for part in (samples[:half], samples[half:])]
        cells += [f"{rates[0]:.1f}, then {rates[1]:.1f}", f"{last.log:.0f}, {last.index:.0f}"]
        if rates[1] > rates[0] * BYTES_FACTOR_MAX + BYTES_SLACK:
            broken.append(f"{name}'s log grows by {rates[1]:.1f} MB a minute, and did by {rates[0]:.1f}")
        if last.index > last.log:
            broken.append(f"{name}'s index has {last.index:.0f} MB, its log {last.log:.0f}")
        print("| " + " | ".join(cells) + " |")
    return broken


def soak(options, home):
    cluster = Cluster(options.binary, home, options.base_port)
    # The last one is killed again and again, so it is nothing to measure.
    taken, follower, bench = [[] for _ in cluster.nodes[:-1]], None, None
    try:
        follower = Follower(options.binary, home, cluster.nodes)
        words = ["--rate", str(options.rate), "--size", str(options.size), "--duration", f"{round(options.minutes * 60)}s"]
        bench = subprocess.Popen(
            [options.binary, "bench", "--devnet", home, "--json", *words], stdout=subprocess.PIPE, text=True
        )
        disturb(cluster, options, random.Random(options.seed), taken)
        report = json.loads(bench.communicate()[0])
        mark = call(cluster.nodes[0]["rpc"], "fusion_sendTransactionSync", [OPAQUE, "0x6d61726b", 3000])
        sequence = mark["result"]["sequence"]
        wait_until(lambda: sequence <= follower.sequence(), f"the follower is at sequence {sequence}")
    finally:
        for process in filter(None, (bench, follower and follower.process)):
            process.kill()
            process.wait()
        codes = cluster.stop()
    total, latency = report["total"], report["finalLatencyMs"]
    print(f"{total['submitted']} transactions, {total['final']} final, {total['unfinished']} not, refused: {total['rejected']};", end=" ")
    print(f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms; the follower read all {follower.lines}; exit codes {codes}")
    return judge(taken) + [f"exit code {code}" for code in codes if code]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/fusion")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=int, default=10_000, help="transactions a second")
    parser.add_argument("--size", type=int, default=128, help="bytes of a transaction")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base-port", type=int, default=27000)
    options = parser.parse_args()
    if options.minutes < 1:
        parser.error(f"--minutes is {options.minutes:g}; it is at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    with tempfile.TemporaryDirectory(prefix="fusion-soak-") as home:
        broken = soak(options, home)
    print("\n".join(f"BROKEN: {text}" for text in broken) or "every promise held")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
