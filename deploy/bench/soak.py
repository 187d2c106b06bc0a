#!/usr/bin/env python3
"""Twenty minutes under load with a fault every five seconds: what grows that should not?

    deploy/bench/soak.py [--minutes 20] [--rate 10000] [--size 128] [--seed 1] [--binary target/release/fusion]

A devnet carries `fusion bench`, and a follower reads a rollup's stream from every node. Every five seconds one of the
nodes is stopped for up to a second, every minute the last one is killed and started again. Promised, of the nodes that
live all the time, after a quarter of it: memory grows by at most a MiB a minute, file descriptors and threads do not,
the log grows with what is ordered and the index no faster; and the follower is at the end of the stream. Takes a
gigabyte of disk for each million transactions of 128 bytes. Exit code 0 when all of it held. Needs python3 alone.
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
# Of the time after the warm-up, by how much more a byte may cost in its second half.
BYTES_FACTOR_MAX = 1.2


def megabytes(folder):
    paths = (os.path.join(base, name) for base, _, names in os.walk(folder) for name in names)
    sizes = (os.stat(path).st_blocks * 512 for path in paths if os.path.exists(path))
    return sum(sizes) / 1e6


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

    def stop(self):
        self.process.terminate()
        return self.process.wait()


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
            time.sleep(choice.uniform(0.1, 1.0))
            os.kill(victim, signal.SIGCONT)
        for index, samples in enumerate(taken):
            samples.append(Sample(cluster.nodes[index], cluster.pid(index)))
        time.sleep(max(0, due - time.monotonic()))


def judge(taken):
    """Prints a line a node; returns what did not hold."""
    broken = []
    print("| node | memory, MiB | a minute | threads | files | log, MB/min | index, MB/min |\n|---|---|---|---|---|---|---|")
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
        for what in ("log", "index"):
            rates = [growth(part, what) for part in (samples[:half], samples[half:])]
            cells.append(f"{rates[0]:.1f}, then {rates[1]:.1f}")
            if rates[1] > max(rates[0], 1.0) * BYTES_FACTOR_MAX:
                broken.append(f"{name}'s {what} grows by {rates[1]:.1f} MB a minute, and did by {rates[0]:.1f}")
        print("| " + " | ".join(cells) + " |")
    return broken


def soak(options, home):
    cluster = Cluster(options.binary, home, options.base_port)
    # The last one is killed again and again, so it is nothing to measure.
    taken = [[] for _ in cluster.nodes[:-1]]
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
        wait_until(lambda: follower.last.split()[1:2] == [str(sequence)], f"the follower is at sequence {sequence}")
        follower.stop()
    finally:
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
    with tempfile.TemporaryDirectory(prefix="fusion-soak-") as home:
        broken = soak(options, home)
    print("\n".join(f"BROKEN: {text}" for text in broken) or "every promise held")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
