"""What shows of a cluster from outside while something goes on: its block rate, its memory, and what a user meets who
opens a new connection."""

import http.client
import json
import socket
import threading
import time

PAUSE_SECONDS = 0.1
PATIENCE_SECONDS = 5


class Watch:
    """Watches from `with` to its end."""

    def __init__(self, nodes):
        self.nodes, self.over = nodes, threading.Event()
        self.heights, self.opened, self.refused, self.memory = [], [], 0, 0.0
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.visit, self.weigh)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def visit(self):
        """One new connection after the other, to the first node: the one under attack, if any is."""
        while not self.over.wait(PAUSE_SECONDS):
            begin = time.monotonic()
            try:
                self.heights.append((time.monotonic(), self.ask()))
                self.opened.append(time.monotonic() - begin)
            except (OSError, ValueError, KeyError, http.client.HTTPException):
                self.refused += 1

    def ask(self):
        node = self.nodes[0]
        connection = http.client.HTTPConnection(node.host, node.rpc_port, timeout=PATIENCE_SECONDS)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "fusion_status", "params": []})
            connection.request("POST", "/", body, {"content-type": "application/json"})
            return json.loads(connection.getresponse().read())["result"]["height"]
        finally:
            connection.close()

    def weigh(self):
        while not self.over.wait(PAUSE_SECONDS):
            for node in self.nodes:
                self.memory = max(self.memory, resident_mib(node.process.pid))

    def seen(self):
        """Blocks a second; connections opened, refused, and the 99th percentile of their milliseconds; MiB."""
        blocks = 0.0
        if len(self.heights) > 1:
            (first, low), (last, high) = self.heights[0], self.heights[-1]
            blocks = (high - low) / (last - first)
        times = sorted(self.opened)
        connect = times[min(len(times) - 1, int(0.99 * len(times)))] * 1000 if times else float("inf")
        return {
            "blocks": blocks,
            "connect": connect,
            "opened": len(times) + self.refused,
            "refused": self.refused,
            "memory": self.memory,
        }


def resident_mib(pid):
    """Memory of a process, or 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            lines = [line for line in status if line.startswith("VmRSS:")]
    except OSError:
        return 0.0
    return int(lines[0].split()[1]) / 1024 if lines else 0.0
