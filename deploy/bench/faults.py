#!/usr/bin/env python3
"""kill -9 and SIGSTOP under load, against real processes of a devnet; then every receipt is looked up again.

    deploy/bench/faults.py [--kills 20] [--stops 4] [--stop-seconds 30] [--seed 1] [--binary target/release/fusion]

Eight clients send transactions and wait for receipts. Meanwhile one random node is killed and started again, then all
four at once, then each node is stopped for a while and continued. Prints how long nodes took to vote again and how long
users got nothing. Fails when a receipt that a client holds is missing, moved or changed on any node, when evidence of a
second signature turned up, or when a process ends badly. Needs python3 and nothing else.
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
import urllib.request

OPAQUE = 1001
CLIENTS = 8
BACK_WITHIN_SECONDS = 30


def call(url, method, params, timeout=4):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=timeout))


def place(receipt):
    header = receipt["header"]
    return (receipt["sequence"], receipt["height"], header["lanesRoot"], header["stateRoot"], header["timeMs"])


class Clients:
    """Send, wait for receipts, and remember every one."""

    def __init__(self, nodes, seed):
        self.nodes, self.seed = nodes, seed
        self.receipts, self.failures, self.finals = {}, {}, []
        self.stopped, self.avoid = False, None
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        choice, count = random.Random(self.seed * 1000 + number), 0
        while not self.stopped:
            count += 1
            payload = f"client {number} transaction {count} at {time.time()}".encode().hex()
            try:
                url = choice.choice([node["rpc"] for node in self.nodes if node is not self.avoid])
                answer = call(url, "fusion_sendTransactionSync", [OPAQUE, "0x" + payload, 3000])
                if "result" in answer:
                    self.receipts[answer["result"]["transaction"]] = place(answer["result"])
                    self.finals.append(time.monotonic())
                else:
                    self.fail(answer["error"]["code"])
            except OSError as error:
                self.fail(type(error).__name__)
                time.sleep(0.05)

    def fail(self, why):
        self.failures[why] = self.failures.get(why, 0) + 1

    def longest_gap(self, since):
        times = [since] + sorted(at for at in list(self.finals) if at > since) + [time.monotonic()]
        return max(after - before for before, after in zip(times, times[1:]))

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()


class Cluster:
    """A devnet, whose killed nodes are started again by hand as its user would."""

    def __init__(self, binary, home, base_port):
        self.binary = binary
        command = [binary, "devnet", "--l1", "none", "--home", home, "--json", "--base-port", str(base_port)]
        self.devnet = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.nodes = json.loads(self.devnet.stdout.readline())["nodes"]
        self.started = {}

    def pid(self, index):
        mine = self.started.get(index)
        return mine.pid if mine else self.nodes[index]["pid"]

    def kill(self, indices):
        for index in indices:
            os.kill(self.pid(index), signal.SIGKILL)
        for index in indices:
            mine = self.started.get(index)
            if mine:
                mine.wait()
            else:
                wait_until(lambda index=index: is_gone(self.nodes[index]["pid"]), "a killed node is gone")

    def start(self, indices):
        for index in indices:
            node = self.nodes[index]
            log = open(os.path.join(node["home"], "restarted.log"), "a")
            self.started[index] = subprocess.Popen([self.binary, "start", "--home", node["home"]], stdin=subprocess.DEVNULL, stderr=log)

    def status(self, index):
        try:
            return call(self.nodes[index]["rpc"], "fusion_status", [], timeout=2)["result"]
        except (OSError, KeyError):
            return None

    def back(self, indices):
        """Seconds until these nodes vote, at the height of the others."""
        begin = time.monotonic()

        def voting():
            for index, process in self.started.items():
                if process.poll() not in (None, -signal.SIGKILL):
                    sys.exit(f"{self.nodes[index]['name']} ended with code {process.returncode}: see its restarted.log")
            all_status = [self.status(index) for index in range(len(self.nodes))]
            if not all(all_status) or not all(all_status[index]["voting"] for index in indices):
                return False
            heights = [status["height"] for status in all_status]
            return max(heights) - min(heights) <= 3

        wait_until(voting, "the nodes vote again")
        return time.monotonic() - begin

    def stop(self):
        for process in self.started.values():
            process.terminate()
        codes = [process.wait() for process in self.started.values()]
        self.devnet.terminate()
        return codes + [self.devnet.wait()]


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(holds, what):
    deadline = time.monotonic() + BACK_WITHIN_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"after {BACK_WITHIN_SECONDS} s it does not hold that {what}")
        time.sleep(0.02)


def spread(seconds):
    ordered = sorted(seconds)
    return f"{ordered[0]:.2f} to {ordered[-1]:.2f} s, median {ordered[len(ordered) // 2]:.2f} s" if ordered else "none"


def inject(cluster, clients, options, choice):
    for name, chosen in (("one node", lambda: [choice.randrange(4)]), ("all nodes", lambda: [0, 1, 2, 3])):
        back = []
        for _ in range(options.kills):
            time.sleep(choice.uniform(0.3, 1.5))
            victims = chosen()
            cluster.kill(victims)
            time.sleep(choice.uniform(0, 0.5))
            cluster.start(victims)
            back.append(cluster.back(victims))
        print(f"kill -9 of {name}, {options.kills} times: votes again after {spread(back)}; {len(clients.receipts)} receipts so far", flush=True)
    for index in range(options.stops):
        victim, since = index % 4, time.monotonic()
        # A client that asks the stopped node hangs there; what counts is what the others give.
        clients.avoid = cluster.nodes[victim]
        os.kill(cluster.pid(victim), signal.SIGSTOP)
        time.sleep(options.stop_seconds)
        gap = clients.longest_gap(since)
        clients.avoid = None
        os.kill(cluster.pid(victim), signal.SIGCONT)
        back = cluster.back([victim])
        print(f"SIGSTOP of node{victim} for {options.stop_seconds} s: longest time without a receipt {gap:.2f} s; votes again after {back:.2f} s", flush=True)


def judge(cluster, clients):
    bad = 0
    for transaction, expected in clients.receipts.items():
        for node in cluster.nodes:
            receipt = call(node["rpc"], "fusion_getReceipt", [OPAQUE, transaction])["result"].get("receipt")
            if not receipt or place(receipt) != expected:
                bad += 1
                print(f"LOST OR CHANGED: {transaction} on {node['name']}: {receipt and place(receipt)}, was {expected}")
    evidence = [call(node["rpc"], "fusion_evidence", [])["result"] for node in cluster.nodes]
    print(f"{len(clients.receipts)} receipts compared on {len(cluster.nodes)} nodes, {bad} lost or changed; evidence: {sum(map(len, evidence))}; requests that failed meanwhile: {clients.failures}")
    return bad == 0 and not any(evidence) and bool(clients.receipts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/fusion")
    parser.add_argument("--kills", type=int, default=20, help="kills of one node, and as many of all four")
    parser.add_argument("--stops", type=int, default=4, help="how many nodes are stopped, one after the other")
    parser.add_argument("--stop-seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base-port", type=int, default=26000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusion-faults-") as home:
        cluster = Cluster(options.binary, home, options.base_port)
        clients = Clients(cluster.nodes, options.seed)
        try:
            inject(cluster, clients, options, random.Random(options.seed))
            clients.stop()
            good = judge(cluster, clients)
        finally:
            clients.stopped = True
            codes = cluster.stop()
    print(f"exit codes: {codes}")
    sys.exit(0 if good and not any(codes) else 1)


if __name__ == "__main__":
    main()
