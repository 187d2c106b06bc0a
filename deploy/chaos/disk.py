"""A disk for each node: an ext4 image on a loop device where this process may mount one, a plain folder elsewhere.

Everything is mounted in a mount namespace of the driver's own (`own_namespace`), so that nothing stays mounted
however it ends.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys

IMAGE_BYTES = 512 * 1024 * 1024
# EXT4_IOC_SHUTDOWN, and its flag that says: lose what is not on the disk.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
MARK = "FUSION_CHAOS_NAMESPACE"
PRIVATE_MOUNTS = ("--mount", "--propagation", "private")


class DiskError(Exception):
    """A mount, a copy or a format failed."""


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise DiskError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


def own_namespace(words=PRIVATE_MOUNTS, as_root=True, trial=("true",)):
    """Starts the driver again in a namespace of its own, by default of mounts: they end with its last process. `trial`
    is what has to work there. Returns whether it is in one."""
    if os.environ.get(MARK):
        return True
    if (as_root and os.geteuid() != 0) or not shutil.which("unshare"):
        return False
    words = list(words) + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    if subprocess.run(["unshare", *words, *trial], stderr=subprocess.DEVNULL).returncode:
        return False
    os.environ[MARK] = " ".join(words)
    os.execvp("unshare", ["unshare", *words, sys.executable] + sys.argv)


def why_no_images(folder):
    """Why loop images cannot be used, or None when they can: tried, not guessed."""
    if os.geteuid() != 0:
        return "not root"
    for tool in ("mkfs.ext4", "mount", "umount", "fallocate"):
        if not shutil.which(tool):
            return f"no {tool}"
    if not os.environ.get(MARK):
        return "no mount namespace of its own"
    disk = Image(os.path.join(folder, "trial"), 16 * 1024 * 1024)
    try:
        disk.make()
        disk.unmount()
    except (DiskError, OSError) as error:
        return f"no loop devices: {error}"
    finally:
        shutil.rmtree(os.path.join(folder, "trial"), ignore_errors=True)
    return None


def settle(path):
    """Writes down what an owner has put there: only what the node wrote is to be at stake in a power cut."""
    run("sync", "-f", path)


class Folder:
    """No disk of its own."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "disk")

    def make(self):
        os.makedirs(self.path)

    def unmount(self):
        pass


class Image:
    """An ext4 file system in a file."""

    def __init__(self, folder, size=IMAGE_BYTES):
        self.folder, self.size = folder, size
        self.path, self.file = os.path.join(folder, "disk"), os.path.join(folder, "image")
        self.is_mounted = False

    def make(self):
        os.makedirs(self.path)
        with open(self.file, "wb") as image:
            image.truncate(self.size)
        run("mkfs.ext4", "-q", "-F", "-m", "0", self.file)
        self.mount()

    def mount(self):
        # A long commit interval: after the processes are stopped for a copy, the journal is to stand still.
        run("mount", "-o", "loop,noatime,commit=300", self.file, self.path)
        self.is_mounted = True

    def unmount(self):
        if self.is_mounted:
            self.is_mounted = False
            try:
                run("umount", self.path)
            except DiskError:
                run("umount", "-l", self.path)

    def copy(self):
        """What is on the disk now, not what the kernel means to write: the picture that a power cut leaves."""
        run("cp", "--sparse=always", self.file, self.file + ".copy")

    def continue_from_copy(self):
        self.unmount()
        os.replace(self.file + ".copy", self.file)
        self.mount()

    def fill(self):
        """Takes all space that is left."""
        filler = os.open(os.path.join(self.path, "filler"), os.O_WRONLY | os.O_CREAT)
        try:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        os.write(filler, b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        finally:
            os.close(filler)

    def free(self):
        os.remove(os.path.join(self.path, "filler"))

    def abort(self):
        """The file system finds itself broken and turns read-only."""
        run("mount", "-o", "remount,abort", self.path)

    def shut_down(self):
        """The disk is gone: everything fails from here on, and what is not on it is lost."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def mend(self):
        """What its owner does after a broken file system: unmount, check, mount."""
        self.unmount()
        checked = subprocess.run(
            ["e2fsck", "-f", "-y", self.file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if checked.returncode > 2:
            raise DiskError(f"e2fsck: {checked.stdout.strip()}")
        self.mount()


def die_with_parent():
    """Run in a child: it ends when the driver does, even by kill -9."""
    ctypes.CDLL(None).prctl(1, 9)
