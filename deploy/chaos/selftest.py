"""Shows of the checker that it finds what it is there to find.

    deploy/chaos/run --only kill-one --times 1 --keep DIR && python3 deploy/chaos/selftest.py DIR

Breaks copies of a run that was good, one promise at a time, and fails when the checker does not name the break.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile

import checker
import crypto
from formats import header_id, rlp, unhex, vote_bytes


def sign(seed, message):
    """ed25519 as in RFC 8032, for a vote that the node would never sign."""

    def encode(point):
        inverse = pow(point[2], crypto.P - 2, crypto.P)
        x, y = point[0] * inverse % crypto.P, point[1] * inverse % crypto.P
        return (y | (x & 1) << 255).to_bytes(32, "little")

    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    key = encode(crypto.multiply(scalar, crypto.BASE))
    nonce = int.from_bytes(hashlib.sha512(digest[32:] + message).digest(), "little") % crypto.ORDER
    point = encode(crypto.multiply(nonce, crypto.BASE))
    challenge = int.from_bytes(hashlib.sha512(point + key + message).digest(), "little") % crypto.ORDER
    return key, point + ((nonce + challenge * scalar) % crypto.ORDER).to_bytes(32, "little")


class Copy:
    """A copy of a run that may be broken."""

    def __init__(self, source, folder):
        self.folder = folder
        ignored = shutil.ignore_patterns("image*", "disk", "twin", "old")
        shutil.copytree(source, folder, ignore=ignored, dirs_exist_ok=True)

    def edit(self, name, change):
        """Replaces the parsed lines of a file by what `change` makes of them."""
        path = os.path.join(self.folder, name)
        with open(path) as file:
            lines = change([json.loads(text) for text in file])
        with open(path, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def append(self, name, text):
        with open(os.path.join(self.folder, name), "a") as file:
            file.write(text)

    def about(self, change):
        self.edit_json("run.json", change)

    def edit_json(self, name, change):
        path = os.path.join(self.folder, name)
        with open(path) as file:
            content = json.load(file)
        change(content)
        with open(path, "w") as file:
            json.dump(content, file)


def with_transactions(blocks):
    return next(block for block in blocks[len(blocks) // 2 :] if block["lanes"])


def two_blocks(copy):
    def change(blocks):
        block = with_transactions(blocks)
        block["header"]["timeMs"] += 1
        block["id"] = "0x" + header_id(block["header"]).hex()
        return blocks

    copy.edit("chain-node1.jsonl", change)


def other_content(copy):
    def change(blocks):
        with_transactions(blocks)["lanes"][0]["transactions"][0] += "00"
        return blocks

    copy.edit("chain-node2.jsonl", change)


def no_content_anywhere(copy):
    def change(blocks):
        with_transactions(blocks)["lanes"].pop(0)
        return blocks

    for node in range(4):
        copy.edit(f"chain-node{node}.jsonl", change)


def hole(copy):
    copy.edit("chain-node0.jsonl", lambda blocks: blocks[:5] + blocks[6:])


def short(copy):
    for node in range(4):
        copy.edit(f"chain-node{node}.jsonl", lambda blocks: blocks[: len(blocks) // 2])


def moved(copy):
    def change(lines):
        lines[3]["receipt"]["sequence"] += 1
        return lines

    copy.edit("receipts.jsonl", change)


def forged(copy):
    def change(lines):
        entry = lines[7]["receipt"]["certificate"]["signatures"][0]
        entry["signature"] = entry["signature"][:-2] + ("00" if entry["signature"][-2:] != "00" else "01")
        return lines

    copy.edit("receipts.jsonl", change)


def no_quorum(copy):
    def change(lines):
        lines[7]["receipt"]["certificate"]["signatures"] = lines[7]["receipt"]["certificate"]["signatures"][:2]
        return lines

    copy.edit("receipts.jsonl", change)


def signed_twice(copy):
    with open(os.path.join(copy.folder, "run.json")) as file:
        network = unhex(json.load(file)["network"])
    with open(os.path.join(copy.folder, "node0", "kept", "keys", "consensus.json")) as file:
        seed = unhex(json.load(file)["secret"])
    for block in (b"\1" * 32, b"\2" * 32):
        key, signature = sign(seed, vote_bytes(network, 0, 4, 0, 2, block))
        frame = b"\2" + rlp([4, 0, 2, block, key, signature])
        copy.append("node1/votes", f"1 in 0x{'00' * 32} {frame.hex()}\n")


BREAKS = [
    (two_blocks, "TWO BLOCKS"),
    (other_content, "another content"),
    (no_content_anywhere, "lanes root is not"),
    (hole, "serves height"),
    (short, "LOST"),
    (moved, "sequence does not follow"),
    (forged, "is not valid"),
    (no_quorum, "no quorum"),
    (signed_twice, "DOUBLE SIGNED"),
    (lambda copy: copy.append("node3/node.log", "thread 'fusion-node' panicked at src/x.rs\n"), "log: thread"),
    (
        lambda copy: copy.about(lambda about: about["nodes"][0]["exits"].append({"at": 0, "code": 101})),
        "ended with 101",
    ),
    (lambda copy: copy.about(lambda about: about["evidence"].update(node0=[{"x": 1}])), "holds evidence"),
]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    _, problems = checker.judge(sys.argv[1])
    if problems:
        sys.exit(f"that run was not good: {problems[0]}")
    missed = 0
    for change, expected in BREAKS:
        with tempfile.TemporaryDirectory(prefix="fusion-chaos-self-") as folder:
            change(Copy(sys.argv[1], folder))
            _, problems = checker.judge(folder)
        found = any(expected in text for text in problems)
        missed += not found
        print(f"{'found ' if found else 'MISSED'}  {expected}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
