"""A network namespace for each node: an address of its own, on a cable of its own to the switch where the relay and the
users are.

All of it is in a network namespace of the driver's own (`disk.own_namespace`), so that nothing stays however it ends.
"""

import os
import shutil
import subprocess
import time

from disk import MARK, DiskError, die_with_parent, run

NETWORK = "10.78.0"
SWITCH, HOST = "switch", f"{NETWORK}.254"
# Where a node listens; a second process beside it takes the next ones.
FIRST_PORT = 7100
PACKET_BYTES = 1500


class WireError(DiskError):
    """A namespace, a cable or an address cannot be made."""


LOOPBACK_UP = ("ip", "link", "set", "lo", "up")
TOOLS = ("ip", "nsenter", "unshare")


def has_tools():
    return all(map(shutil.which, TOOLS))


def why_none():
    """Why nodes cannot have namespaces, or None when they can: tried, not guessed."""
    if os.geteuid() != 0:
        return "not root"
    for tool in TOOLS:
        if not shutil.which(tool):
            return f"no {tool}"
    if "--net" not in os.environ.get(MARK, "").split():
        return "no network namespace of its own"
    try:
        make_switch()
        trial = Wire(0)
        trial.make()
        trial.end()
    except (DiskError, OSError) as error:
        return f"no namespaces: {error}"
    return None


def make_switch():
    """What all cables end in. The driver's own namespace begins with nothing, not even a loopback."""
    run(*LOOPBACK_UP)
    run("ip", "link", "add", SWITCH, "type", "bridge")
    # Set by hand, it does not follow the least of its cables; and only what differs counts as set.
    for packet_bytes in (PACKET_BYTES - 1, PACKET_BYTES):
        run("ip", "link", "set", SWITCH, "mtu", str(packet_bytes))
    run("ip", "address", "add", f"{HOST}/24", "dev", SWITCH)
    run("ip", "link", "set", SWITCH, "up")


class Wire:
    """One node's namespace and its cable."""

    def __init__(self, index):
        self.host, self.cable = f"{NETWORK}.{index + 1}", f"cable{index}"
        self.holder, self.ports = None, FIRST_PORT

    def make(self):
        # The namespace lasts as long as a process is in it; nodes come and go.
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=die_with_parent)
        own, its = os.stat("/proc/self/ns/net").st_ino, f"/proc/{self.holder.pid}/ns/net"
        until = time.monotonic() + 5
        while self.holder.poll() is None and os.stat(its).st_ino == own and time.monotonic() < until:
            time.sleep(0.005)
        if self.holder.poll() is not None or os.stat(its).st_ino == own:
            raise WireError("unshare --net did not begin")
        self.prefix = ["nsenter", f"--net={its}"]
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", self.cable, "master", SWITCH, "up")
        for words in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up"), self.address("add")):
            self.inside("ip", *words)

    def address(self, do):
        return ("address", do, f"{self.host}/24", "dev", "eth0")

    def inside(self, *command):
        """Runs a command in the namespace."""
        run(*self.prefix, *command)

    def take_ports(self, count):
        self.ports += count
        return list(range(self.ports - count, self.ports))

    def plug(self, is_in):
        run("ip", "link", "set", self.cable, "up" if is_in else "down")

    def allow(self, packet_bytes):
        """Both ends of the cable take packets of so many bytes."""
        run("ip", "link", "set", self.cable, "mtu", str(packet_bytes))
        self.inside("ip", "link", "set", "eth0", "mtu", str(packet_bytes))

    def end(self):
        if self.holder and self.holder.poll() is None:
            self.holder.kill()
            self.holder.wait()
            # The kernel takes a namespace down a little later, and the cable with it.
            subprocess.run(["ip", "link", "delete", self.cable], stderr=subprocess.DEVNULL)
