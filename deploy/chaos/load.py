"""Clients that send transactions to all nodes all the time and keep every answer.

Each transaction is tried until it is final, on one node after the other, so that retries meet the nodes' memory of
what they know. Every receipt that any node showed is written down as it came. One client in four asks any node; the
others do as good clients would, and leave a node alone for a while that just did not answer one of them, or had no
receipt to show.
"""

import collections
import http.client
import json
import random
import socket
import threading
import time

from cluster import ROLLUPS

CLIENTS = 12
PAYLOAD_BYTES = 96
ANSWER_MS = 2500
# Whoever has no receipt to show after so long is cut off from the others, or behind.
SLOW_SECONDS = 1.0
CARELESS_ONE_IN = 4
LEFT_ALONE_SECONDS = 5.0


class Load:
    """`rate` transactions a second over all clients, as far as the nodes take them."""

    def __init__(self, nodes, path, rate, seed):
        self.nodes, self.rate, self.seed = nodes, rate, seed
        self.file, self.lock = open(path, "w"), threading.Lock()
        self.answers, self.finals = collections.Counter(), []
        # Receipts of careful clients, and until when they leave each node alone.
        self.careful_finals, self.alone_until = [], [0.0] * len(nodes)
        self.sent = self.open = 0
        self.stopped = self.hurried = False
        self.payload_bytes = PAYLOAD_BYTES
        self.threads = [
            threading.Thread(target=self.client, args=(number,), daemon=True) for number in range(CLIENTS)
        ]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        choice, count = random.Random(f"{self.seed}/{number}"), 0
        connections = [None] * len(self.nodes)
        due = time.monotonic()
        while not self.stopped:
            due = max(due + CLIENTS / self.rate, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
            count += 1
            payload = f"client {number} transaction {count} of seed {self.seed} at {time.time_ns()} ".ljust(
                self.payload_bytes, "."
            )
            with self.lock:
                self.sent += 1
                self.open += 1
            careful = number % CARELESS_ONE_IN != 0
            if self.until_final(choice, connections, ROLLUPS[count % 2], "0x" + payload.encode().hex(), careful):
                with self.lock:
                    self.open -= 1
                    if careful:
                        self.careful_finals.append(time.monotonic())

    def until_final(self, choice, connections, rollup, payload, careful):
        """Tries until a node shows the receipt. False when told to hurry before."""
        at, known = choice.randrange(len(self.nodes)), None
        if careful:
            at = self.good_from(at)
        while not self.hurried:
            asked, is_slow = time.monotonic(), False
            try:
                if known is None:
                    answer = self.ask(connections, at, "fusion_sendTransactionSync", [rollup, payload, ANSWER_MS])
                    receipt = answer.get("result")
                else:
                    answer = self.ask(connections, at, "fusion_getReceipt", [rollup, known])
                    receipt = answer.get("result", {}).get("receipt")
                    known = known if receipt else None
            except (OSError, ValueError, http.client.HTTPException) as error:
                connections[at] = None
                self.note(type(error).__name__)
                receipt, answer, is_slow = None, {}, True
            if receipt:
                self.alone_until[at] = 0.0
                self.keep(at, rollup, payload, receipt)
                return True
            if is_slow or time.monotonic() - asked > SLOW_SECONDS:
                self.alone_until[at] = time.monotonic() + LEFT_ALONE_SECONDS
            if "error" in answer:
                data = answer["error"].get("data")
                name = data.get("name") if isinstance(data, dict) else None
                self.note(name or answer["error"]["code"])
                if name in ("already_known", "already_decided") and data.get("transaction"):
                    known = data["transaction"]
            time.sleep(0.05)
            if known is None or choice.random() < 0.2:
                at = (at + 1) % len(self.nodes)
                if careful:
                    at = self.good_from(at)
        return False

    def good_from(self, at):
        """The first node from `at` on that is not left alone. Whoever asks one again first keeps the others off it."""
        with self.lock:
            now, count = time.monotonic(), len(self.nodes)
            for step in range(count):
                node = (at + step) % count
                if self.alone_until[node] <= now:
                    if self.alone_until[node]:
                        self.alone_until[node] = now + LEFT_ALONE_SECONDS
                    return node
        return at

    def ask(self, connections, at, method, params):
        connection = connections[at]
        if connection is None:
            connection = http.client.HTTPConnection(
                self.nodes[at].host, self.nodes[at].rpc_port, timeout=ANSWER_MS / 1000 + 0.5
            )
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections[at] = connection
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"content-type": "application/json"})
        return json.loads(connection.getresponse().read())

    def note(self, what):
        with self.lock:
            self.answers[str(what)] += 1

    def keep(self, at, rollup, payload, receipt):
        line = json.dumps(
            {"at": time.time(), "node": at, "rollup": rollup, "payload": payload, "receipt": receipt},
            separators=(",", ":"),
        )
        with self.lock:
            self.answers["receipt"] += 1
            self.finals.append(time.monotonic())
            self.file.write(line + "\n")

    def longest_gap(self, since, until):
        """The longest time in which no client got a receipt."""
        with self.lock:
            times = [at for at in self.finals if since < at < until]
        times = [since, *sorted(times), until]
        return max(after - before for before, after in zip(times, times[1:]))

    def share(self, since, until):
        """What careful clients had final in a time, as a part of what they offer in it: above one where they make up for
        earlier ones."""
        with self.lock:
            finals = sum(since < at <= until for at in self.careful_finals)
        careful = sum(number % CARELESS_ONE_IN != 0 for number in range(CLIENTS)) / CLIENTS
        return finals / (self.rate * careful * max(until - since, 1e-3))

    def stop(self, patience):
        """Sends nothing new, lets the clients finish theirs; returns how many transactions did not become final."""
        self.stopped = True
        deadline = time.monotonic() + patience
        for thread in self.threads:
            thread.join(max(0, deadline - time.monotonic()))
        self.hurried = True
        for thread in self.threads:
            thread.join(ANSWER_MS / 1000 + 1)
        with self.lock:
            self.file.close()
        return self.open
