"""Real nodes: their disks, processes, exit codes, and how they stand.

Each node has a folder with its disk (`disk/home`), its log and its recordings, which stay when the disk fails. Nodes
reach each other through `fusion relay`, so that any direction can be cut, delayed or made lossy at any time.
"""

import glob
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import disk
import wires as wiring

# Those that the load of the driver sends to.
ROLLUPS = (1001, 1002)
OPAQUE = tuple(f"{rollup}:opaque:fcfs" for rollup in ROLLUPS)
BLOCK_INTERVAL_MS = 20
# The least there is, so that runs of minutes see new segments, and a full disk is met within seconds.
SEGMENT_BYTES = 8 * 1024 * 1024
PORTS = (10_000, 32_000)
LOOPBACK = "127.0.0.1"
STARTED_WITHIN_SECONDS = 30


class ClusterError(Exception):
    """The cluster cannot be started or controlled; nothing was learnt about the product."""


def call(url, method, params=(), timeout=3):
    """The result of one JSON-RPC call; an error object is raised as ValueError."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        answer = json.load(response)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["result"]


def free_ports(count, host):
    """Ports of `host` that are free for TCP and UDP now, below those that the kernel gives out, so that a killed node finds its own."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(*PORTS)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as trial:
                    trial.bind((host, port))
        except OSError:
            continue
        ports.append(port)
    return ports


class Node:
    """One validator; with a wire it is in that network namespace."""

    def __init__(self, binary, index, folder, with_image, host, wire=None):
        self.binary, self.index, self.name, self.host, self.wire = binary, index, f"node{index}", host, wire
        self.folder = os.path.join(folder, self.name)
        self.disk = disk.Image(self.folder) if with_image else disk.Folder(self.folder)
        self.home = os.path.join(self.disk.path, "home")
        self.log = os.path.join(self.folder, "node.log")
        self.p2p, self.rpc_port, self.metrics = self.take_ports(3)
        self.rpc = f"http://{host}:{self.rpc_port}"
        self.process, self.starts, self.exits = None, 0, []
        # Whether it ought to run.
        self.wanted = False

    def take_ports(self, count):
        """Ports where it, or a second process beside it, may listen."""
        return self.wire.take_ports(count) if self.wire else free_ports(count, self.host)

    def fusion(self, *arguments, timeout=60):
        """Runs a command of the program to its end."""
        command = [self.binary, *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)

    def configure(self, peers, is_recorded):
        lines = [
            f'[node]\nname = "{self.name}"\nrole = "validator"',
            f'[p2p]\nlisten = "{self.host}:{self.p2p}"\n{peers}',
            f"[consensus]\nblock_interval_min_ms = {BLOCK_INTERVAL_MS}",
            f"[storage]\nsegment_bytes = {SEGMENT_BYTES}",
            f'[rpc]\nlisten = "{self.host}:{self.rpc_port}"',
            f'[metrics]\nlisten = "{self.host}:{self.metrics}"',
        ]
        if is_recorded:
            lines.append(f'[debug]\nrecord = "{self.folder}/votes"')
        with open(os.path.join(self.home, "config.toml"), "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self, prefix=(), env=None, home=None, extra=()):
        """Starts the process; `prefix` are words before its command, such as strace's."""
        inside = self.wire.prefix if self.wire else []
        command = [*inside, *prefix, self.binary, "start", "--home", home or self.home, *extra]
        with open(self.log, "a") as log:
            log.write(f"\nchaos: start {self.starts} of {self.name}: {' '.join(command)}\n")
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                preexec_fn=disk.die_with_parent,
            )
        if home is None:
            self.process, self.wanted = process, True
            self.starts += 1
        return process

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.is_running():
            os.kill(self.process.pid, number)

    def kill(self):
        """kill -9, and the end of it."""
        self.wanted = False
        self.signal(signal.SIGKILL)
        self.ended()

    def ended(self, timeout=30):
        """Waits for the process's end; notes and returns its exit code."""
        code = self.process.wait(timeout=timeout)
        self.wanted = False
        self.exits.append({"at": time.time(), "code": code})
        self.process = None
        return code

    def stop(self):
        if self.is_running():
            self.wanted = False
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            return self.ended()
        return None

    def status(self, timeout=1.0):
        try:
            return call(self.rpc, "fusion_status", timeout=timeout)
        except (OSError, ValueError):
            return None

    def said(self, since):
        """What its log says from byte `since` on."""
        with open(self.log, errors="replace") as log:
            log.seek(since)
            return log.read()

    def log_length(self):
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0


class Relay:
    """`fusion relay` between the nodes."""

    def __init__(self, binary, genesis, host):
        command = [binary, "relay", "--genesis", genesis, "--listen", host, "--control", "127.0.0.1:0", "--json"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=disk.die_with_parent
        )
        ready = self.process.stdout.readline()
        if not ready:
            raise ClusterError("fusion relay did not start")
        ready = json.loads(ready)
        self.peers = {entry["node"]: entry["set"] for entry in ready["peers"]}
        host, port = ready["control"].rsplit(":", 1)
        self.lines = socket.create_connection((host, int(port)), timeout=10).makefile("rw")

    def order(self, **request):
        self.lines.write(json.dumps(request) + "\n")
        self.lines.flush()
        answer = json.loads(self.lines.readline())
        if not answer["ok"]:
            raise ClusterError(f"the relay refused {request}: {answer}")
        return answer

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Cluster:
    """All nodes, and the relay between them; with `wired`, each node is in a network namespace of its own; with `hosts`,
    each has an address of its own, there is no relay and nothing is recorded."""

    def __init__(self, binary, folder, count, with_images, wired=False, hosts=None, rollups=OPAQUE):
        self.binary, self.folder = binary, folder
        self.is_relayed, self.rollups = hosts is None, rollups
        wires = [wiring.Wire(index) if wired else None for index in range(count)]
        hosts = hosts or [wire.host if wire else LOOPBACK for wire in wires]
        self.host = wiring.HOST if wired else LOOPBACK
        self.nodes = [Node(binary, index, folder, with_images, hosts[index], wires[index]) for index in range(count)]
        self.relay = None
        # Processes beside the nodes, such as twins: killed at the end whatever happened.
        self.others = []

    def begin(self):
        keys = []
        for node in self.nodes:
            os.makedirs(node.folder)
            node.disk.make()
            if node.wire:
                node.wire.make()
            made = self.checked(node.fusion("keygen", "--out", os.path.join(node.home, "keys")))
            keys.append(json.loads(made))
        self.genesis = os.path.join(self.folder, "genesis.json")
        words = ["genesis", "new", "--name", "chaos", "--out", self.genesis]
        for node, key in zip(self.nodes, keys):
            node.key, node.peer = key["consensus"], key["peer"]
            about = f"name={node.name},consensus={node.key},peer={node.peer},power=1,address={node.host}:{node.p2p}"
            words += ["--validator", about]
        for rollup in self.rollups:
            words += ["--rollup", rollup]
        self.network = self.checked(self.nodes[0].fusion(*words)).split()[-1]
        if self.is_relayed:
            self.relay = Relay(self.binary, self.genesis, self.host)
        for node in self.nodes:
            shutil.copy(self.genesis, node.home)
            peers = self.relay.peers[node.name].removeprefix("p2p.") if self.is_relayed else ""
            node.configure(peers, self.is_relayed)
            self.checked(node.fusion("guard", "init", "--home", node.home, "--at-height", "0", "--i-understand"))
            shutil.copytree(node.home, os.path.join(node.folder, "kept"))
            disk.settle(node.home)
            node.start()
        if not self.wait(lambda: self.is_healthy() and self.height() > 3, STARTED_WITHIN_SECONDS):
            raise ClusterError(f"no blocks within {STARTED_WITHIN_SECONDS} s; the logs are in {self.folder}")

    @staticmethod
    def checked(done):
        if done.returncode:
            raise ClusterError(f"{' '.join(done.args)}: {done.stdout}")
        return done.stdout

    @staticmethod
    def wait(holds, seconds, pause=0.02):
        """Seconds until `holds`, or None when they were not enough."""
        begin = time.monotonic()
        while not holds():
            if time.monotonic() - begin > seconds:
                return None
            time.sleep(pause)
        return max(time.monotonic() - begin, 1e-3)

    def height(self):
        """The greatest height that any node shows."""
        heights = [status["height"] for status in map(Node.status, self.nodes) if status]
        return max(heights, default=0)

    def has_everywhere(self, height):
        """Whether all nodes that ought to run have decided `height`."""
        status = [node.status() for node in self.nodes if node.wanted]
        return all(one and height <= one["height"] for one in status)

    def is_healthy(self):
        """Whether all that ought to run vote near the same height."""
        wanted = [node for node in self.nodes if node.wanted]
        status = [node.status() for node in wanted]
        if not wanted or not all(status) or not all(one["voting"] for one in status):
            return False
        heights = [one["height"] for one in status]
        return max(heights) - min(heights) <= 10

    def fallen(self):
        """Nodes that ought to run and do not."""
        return [node for node in self.nodes if node.wanted and not node.is_running()]

    def recordings(self):
        return sorted(glob.glob(os.path.join(self.folder, "node*", "votes*")))

    def lowest_peer(self):
        """The node that dials all others."""
        return min(self.nodes, key=lambda node: node.peer)

    def next_proposer(self):
        """Who proposes next, when nobody was benched lately: who proposed a whole turn ago."""
        known = [(status["height"], node) for node in self.nodes if (status := node.status())]
        height, reader = max(known, key=lambda one: one[0])
        block = call(reader.rpc, "fusion_getBlock", [max(1, height + 1 - len(self.nodes))])
        return next(node for node in self.nodes if node.key == block["header"]["proposer"])

    def end(self):
        """Kills whatever still runs and unmounts. Safe to call at any moment, and twice."""
        for process in self.others + [node.process for node in self.nodes if node.process]:
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.relay and self.relay.process.poll() is None:
            self.relay.stop()
        for node in self.nodes:
            try:
                node.disk.unmount()
            except disk.DiskError:
                # It goes with the namespace.
                pass
            if node.wire:
                node.wire.end()


def tracer_of(pid):
    """The process that traces `pid`, or 0."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"TracerPid:\s*(\d+)", status.read()).group(1))
