"""Judges a run from its files alone: what clients got, what nodes serve, what peers saw signed, what logs say.

    python3 deploy/chaos/checker.py DIR          a folder that `run --keep DIR` left

Shares no code with the node: `formats.py` and `crypto.py` are written from the vectors and the docs. Every promise is
one function that returns what breaks it, in words.
"""

import collections
import glob
import json
import multiprocessing
import os
import re
import signal
import sys

import crypto
from formats import (
    header_id,
    initial_head,
    lane_head,
    lane_leaf,
    leaf,
    merkle_root,
    root_of_path,
    sign_bytes,
    signed_in,
    unhex,
    vote_bytes,
)

# Without a fast ed25519 this many signatures are verified, spread evenly; those that contradict each other always are.
SLOW_SIGNATURES = 4000
PANIC = re.compile(r"panicked at|broken invariant|internal error|\bBUG\b", re.IGNORECASE)
NAMED_EXITS = {0, 70, 71, 74, 78, -9}


class Run:
    """The files of a run."""

    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "run.json")) as file:
            self.about = json.load(file)
        with open(os.path.join(folder, "genesis.json")) as file:
            self.genesis = json.load(file)
        self.network = unhex(self.about["network"])
        members = sorted((unhex(one["id"]), one["power"]) for one in self.genesis["validators"])
        self.keys = [key for key, _ in members]
        self.powers = [power for _, power in members]
        self.counts = collections.Counter()
        self.verified = {}

    def lines(self, name):
        path = os.path.join(self.folder, name)
        if os.path.exists(path):
            with open(path) as file:
                for text in file:
                    yield json.loads(text)

    def name(self, key):
        return next((node["name"] for node in self.about["nodes"] if unhex(node["key"]) == key), key.hex())


def check_certificate(run, certificate, header, block):
    """What is wrong with a certificate for `header`, or None. Each is verified once."""
    known = (json.dumps(certificate, sort_keys=True), block)
    if known in run.verified:
        return run.verified[known]
    problem = None
    signers = [entry["validator"] for entry in certificate["signatures"]]
    if (certificate["height"], certificate["epoch"], unhex(certificate["block"])) != (
        header["height"],
        header["epoch"],
        block,
    ):
        problem = "certificate and header differ"
    elif signers != sorted(set(signers)) or not all(0 <= one < len(run.keys) for one in signers):
        problem = "signers out of order or unknown"
    elif 3 * sum(run.powers[one] for one in signers) <= 2 * sum(run.powers):
        problem = "no quorum"
    elif crypto.FAST or run.counts["certificates"] % 10 == 0:
        text = vote_bytes(run.network, header["epoch"], header["height"], certificate["round"], 2, block)
        for entry in certificate["signatures"]:
            run.counts["signatures"] += 1
            if not crypto.verify(run.keys[entry["validator"]], text, unhex(entry["signature"])):
                problem = f"signature of {entry['validator']} is not valid"
    run.counts["certificates"] += 1
    run.verified[known] = problem
    return problem


def check_block(run, block):
    """What is wrong with one block as a node serves it: id, network, lanes, certificate."""
    header, identity = block["header"], header_id(block["header"])
    if identity != unhex(block["id"]) or unhex(header["network"]) != run.network:
        return "id or network is not the header's"
    leaves = []
    for body in block["lanes"]:
        lane = body["lane"]
        hashes = [crypto.keccak256(unhex(transaction)) for transaction in body["transactions"]]
        run.counts["transactions"] += len(hashes)
        if len(hashes) != lane["count"] or merkle_root([leaf(one) for one in hashes]) != unhex(
            lane["transactionsRoot"]
        ):
            return f"transactions of rollup {lane['rollup']} are not its lane's"
        if lane_head(lane, header["height"]) != unhex(lane["head"]):
            return f"head of rollup {lane['rollup']} does not follow"
        body["hashes"] = ["0x" + one.hex() for one in hashes]
        leaves.append(lane_leaf(lane))
    if merkle_root(leaves) != unhex(header["lanesRoot"]):
        return "lanes root is not the lanes'"
    return check_certificate(run, block["certificate"], header, identity)


WORKER = None


def become_worker(folder):
    global WORKER
    # The driver turns signals into an orderly end. A worker that goes to its end in order with the queue's lock in
    # hand leaves the others waiting for it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    WORKER = Run(folder)


def work_on_block(text):
    """What is wrong with a block, and the hashes of its lanes' transactions."""
    block = json.loads(text)
    before = WORKER.counts.copy()
    problem = check_block(WORKER, block)
    return problem, [body.get("hashes", []) for body in block["lanes"]], WORKER.counts - before


def work_on_receipt(text):
    one = json.loads(text)
    before = WORKER.counts.copy()
    receipt = one["receipt"]
    problem = check_receipt(WORKER, one["rollup"], receipt)
    if unhex(receipt["transaction"]) != crypto.keccak256(unhex(one["payload"])):
        problem = "it answers another transaction"
    place = (
        one["rollup"],
        receipt["transaction"],
        receipt["sequence"],
        json.dumps(receipt["header"], sort_keys=True),
    )
    return problem, place, WORKER.counts - before


def check_chains(run, pool):
    """One block per height over all nodes; each block whole, each on its parent; streams gapless and chained, no
    transaction twice."""
    problems, chain, places = [], {}, {}
    for node in run.about["nodes"]:
        seen, fresh = 0, []
        for block in run.lines(f"chain-{node['name']}.jsonl"):
            header = block["header"]
            height, seen = header["height"], seen + 1
            if height != seen:
                problems.append(f"{node['name']} serves height {height} where {seen} is asked")
                break
            content = json.dumps([block["id"], header, block["lanes"]], sort_keys=True)
            if height not in chain:
                fresh.append((height, json.dumps(block)))
                chain[height] = {"id": block["id"], "content": content, "header": header, "lanes": block["lanes"]}
            elif chain[height]["id"] != block["id"]:
                problems.append(
                    f"TWO BLOCKS at height {height}: {chain[height]['id']} and, on {node['name']}, {block['id']}"
                )
            elif chain[height]["content"] != content:
                problems.append(f"{node['name']} serves another content of block {height}")
            else:
                problem = check_certificate(run, block["certificate"], header, unhex(block["id"]))
                if problem:
                    problems.append(f"{node['name']}, height {height}: {problem}")
        for (height, _), (problem, hashes, counts) in zip(
            fresh, pool.imap(work_on_block, (text for _, text in fresh), 32)
        ):
            run.counts += counts
            if problem:
                problems.append(f"{node['name']}, height {height}: {problem}")
            for body, one in zip(chain[height]["lanes"], hashes):
                body["hashes"] = one
        run.counts["blocks"] = max(run.counts["blocks"], seen)
        if not seen:
            problems.append(f"{node['name']} served no chain at the end")
    problems += check_streams(run, chain, places)
    return problems, chain, places


def check_streams(run, chain, places):
    """Streams from sequence 0 on, head to head; fills `places`: (rollup, transaction) → (sequence, height)."""
    problems, cursors = [], {rollup: (0, initial_head(run.network, rollup)) for rollup in run.about["rollups"]}
    for height in sorted(chain):
        if height > 1 and chain[height]["header"]["parent"] != chain[height - 1]["id"]:
            problems.append(f"block {height} is not on block {height - 1}")
        if height > 1 and chain[height]["header"]["timeMs"] <= chain[height - 1]["header"]["timeMs"]:
            problems.append(f"block {height} is not later than the one before")
        for body in chain[height]["lanes"]:
            lane = body["lane"]
            if (lane["firstSequence"], unhex(lane["parentHead"])) != cursors[lane["rollup"]]:
                problems.append(f"stream {lane['rollup']} has a gap or repeat at height {height}")
            cursors[lane["rollup"]] = (lane["firstSequence"] + lane["count"], unhex(lane["head"]))
            for at, one in enumerate(body.get("hashes", ())):
                if (lane["rollup"], one) in places:
                    problems.append(f"transaction {one} twice: {places[lane['rollup'], one]} and height {height}")
                places[lane["rollup"], one] = (lane["firstSequence"] + at, height)
    return problems


def check_receipt(run, rollup, receipt):
    """What is wrong with a receipt by itself, or None."""
    header, lane = receipt["header"], receipt["lane"]
    if unhex(header["network"]) != run.network or lane["rollup"] != rollup:
        return "of another network or rollup"
    problem = check_certificate(run, receipt["certificate"], header, header_id(header))
    if problem:
        return problem
    if root_of_path(receipt["laneProof"], lane_leaf(lane)) != unhex(header["lanesRoot"]):
        return "the lane is not under the header"
    if lane_head(lane, header["height"]) != unhex(lane["head"]):
        return "the lane's head does not follow"
    proof = receipt["transactionProof"]
    if root_of_path(proof, leaf(unhex(receipt["transaction"]))) != unhex(lane["transactionsRoot"]):
        return "the transaction is not under the lane"
    if proof["count"] != lane["count"] or receipt["sequence"] != lane["firstSequence"] + proof["index"]:
        return "sequence does not follow from the place"
    return None


def check_receipts(run, pool, chain, places):
    """Every receipt that a client got proves what it says, and stands there in the chain of every node."""
    problems, headers = [], {height: json.dumps(block["header"], sort_keys=True) for height, block in chain.items()}
    with open(os.path.join(run.folder, "receipts.jsonl")) as lines:
        for problem, (rollup, name, sequence, header), counts in pool.imap(work_on_receipt, lines, 128):
            run.counts += counts
            run.counts["receipts"] += 1
            height = json.loads(header)["height"]
            if problem:
                problems.append(f"receipt of {name}: {problem}")
            if headers.get(height) != header:
                problems.append(f"LOST: the block of {name} at height {height} is not the chain's")
            elif places.get((rollup, name)) != (sequence, height):
                problems.append(f"LOST OR MOVED: {name} was at {sequence}, is at {places.get((rollup, name))}")
    for node in run.about["nodes"]:
        for one in run.lines(f"lookups-{node['name']}.jsonl"):
            run.counts["lookups"] += 1
            now, was = one["receipt"], one["was"]
            if not now or (now["sequence"], now["header"]) != (was["sequence"], was["header"]):
                problems.append(f"{node['name']} does not find {was['transaction']} where it was")
    return problems


def check_signatures(run):
    """No key signed two values for one height, round and kind, in all recordings together."""
    problems, signed, allowed = [], {}, {event["key"] for event in run.about["events"] if event["mayDoubleSign"]}
    frames = set()
    for path in sorted(glob.glob(os.path.join(run.folder, "node*", "votes*"))):
        with open(path, errors="replace") as lines:
            for text in lines:
                words = text.split(" ")
                # A killed node may leave half a line.
                if len(words) == 4 and words[3].endswith("\n"):
                    run.counts["recorded"] += 1
                    frames.add(words[3].strip())
    for frame in frames:
        try:
            found = signed_in(bytes.fromhex(frame), run.keys)
        except (ValueError, IndexError, KeyError):
            problems.append(f"a recorded frame that cannot be read: {frame[:80]}")
            continue
        for one in found:
            kind, height, round_, value, key, signature = one
            signed.setdefault((key, height, round_, kind), {}).setdefault(value, (one, signature))
    every = 1 if crypto.FAST else max(1, len(signed) // SLOW_SIGNATURES)
    for at, ((key, height, round_, kind), values) in enumerate(sorted(signed.items(), key=lambda item: item[0])):
        run.counts["votes"] += 1
        if len(values) == 1 and at % every:
            continue
        real = []
        for one, signature in values.values():
            run.counts["signatures"] += 1
            if crypto.verify(key, sign_bytes(run.network, 0, one), signature):
                real.append(one)
            else:
                problems.append(f"a {kind} of {run.name(key)} at height {height} with a wrong signature")
        if len(real) > 1:
            may = "0x" + key.hex() in allowed
            run.counts["double signed by twins" if may else "double signed"] += 1
            if not may:
                values = " and ".join(
                    str(one[3].hex() if isinstance(one[3], bytes) else (one[3][0].hex(), one[3][1])) for one in real
                )
                problems.append(
                    f"DOUBLE SIGNED by {run.name(key)}: {kind} at height {height}, round {round_}: {values}"
                )
    return problems


def check_ends(run):
    """Nobody panicked, and every exit code is a named one."""
    problems = []
    for node in run.about["nodes"]:
        for end in node["exits"]:
            if end["code"] not in NAMED_EXITS:
                problems.append(f"{node['name']} ended with {end['code']}")
        with open(os.path.join(run.folder, node["name"], "node.log"), errors="replace") as log:
            for text in log:
                if PANIC.search(text):
                    problems.append(f"{node['name']}'s log: {text.strip()[:300]}")
    allowed = {event["key"] for event in run.about["events"] if event["mayDoubleSign"]}
    for name, evidence in run.about["evidence"].items():
        strange = [one for one in evidence if not any(key in json.dumps(one) for key in allowed)]
        if strange:
            problems.append(f"{name} holds evidence: {json.dumps(strange)[:300]}")
    return problems


def judge(folder):
    """All promises over one run: the counts, and what breaks them."""
    run = Run(folder)
    with multiprocessing.Pool(initializer=become_worker, initargs=(folder,)) as pool:
        problems, chain, places = check_chains(run, pool)
        problems += check_receipts(run, pool, chain, places)
        pool.close()
        pool.join()
    problems += check_signatures(run)
    problems += check_ends(run)
    return run.counts, problems


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    counts, problems = judge(sys.argv[1])
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    for text in problems[:50]:
        print(text)
    print(f"{len(problems)} promises broken" if problems else "every promise held")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
