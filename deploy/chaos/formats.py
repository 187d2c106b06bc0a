"""Fusion's encodings as types/vectors/ and the docs define them, written again for the checker.

Canonical RLP, headers, lanes, Merkle paths, the bytes that validators sign, and the frames of votes that nodes record.
`python3 deploy/chaos/formats.py` compares all of it with the golden vectors.
"""

import json
import os
import sys

from crypto import keccak256, verify, verify_slowly

VOTE_DOMAIN = b"fusion/v1/vote".ljust(32, b"\0")
PROPOSAL_DOMAIN = b"fusion/v1/proposal".ljust(32, b"\0")


def unhex(text):
    return bytes.fromhex(text[2:] if text.startswith("0x") else text)


def rlp(value):
    """Encodes bytes, numbers and lists of them."""
    if isinstance(value, int):
        value = value.to_bytes((value.bit_length() + 7) // 8, "big")
    if isinstance(value, (bytes, bytearray)):
        if len(value) == 1 and value[0] < 0x80:
            return bytes(value)
        return head(0x80, len(value)) + value
    content = b"".join(map(rlp, value))
    return head(0xC0, len(content)) + content


def head(offset, length):
    if length < 56:
        return bytes([offset + length])
    size = (length.bit_length() + 7) // 8
    return bytes([offset + 55 + size]) + length.to_bytes(size, "big")


def rlp_item(data, at=0):
    """The item at `at` (bytes or a list) and where it ends."""
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    is_list, first = first >= 0xC0, first - (0xC0 if first >= 0xC0 else 0x80)
    at += 1
    if first < 56:
        length = first
    else:
        length, at = int.from_bytes(data[at : at + first - 55], "big"), at + first - 55
    end = at + length
    if end > len(data):
        raise ValueError("an item ends after its data")
    if not is_list:
        return data[at:end], end
    items = []
    while at < end:
        item, at = rlp_item(data, at)
        items.append(item)
    return items, end


def number(data):
    return int.from_bytes(data, "big")


def header_id(header):
    fields = [
        unhex(header["network"]),
        header["height"],
        unhex(header["parent"]),
        header["epoch"],
        unhex(header["committee"]),
    ]
    origin = header["l1Origin"]
    fields += [unhex(header["proposer"]), header["timeMs"], [origin["number"], unhex(origin["hash"])]]
    return keccak256(rlp(fields + [unhex(header["lanesRoot"]), unhex(header["stateRoot"])]))


def lane_leaf(lane):
    fields = [lane["rollup"], lane["firstSequence"], lane["count"]]
    return leaf(rlp(fields + [unhex(lane[name]) for name in ("parentHead", "head", "transactionsRoot")]))


def lane_head(lane, height):
    numbers = [lane["firstSequence"], lane["count"], height]
    parts = [b"fusion/v1/head", unhex(lane["parentHead"]), unhex(lane["transactionsRoot"])]
    return keccak256(b"".join(parts + [value.to_bytes(8, "big") for value in numbers]))


def initial_head(network, rollup):
    return keccak256(b"fusion/v1/stream" + network + rollup.to_bytes(8, "big"))


def leaf(data):
    return keccak256(b"\0" + data)


def node(left, right):
    return keccak256(b"\1" + left + right)


def seal(count, top):
    return keccak256(b"\2" + count.to_bytes(8, "big") + top)


def subtree(leaves):
    """RFC 9162 §2.1.1, by recursion: the left part is the largest power of two below the count."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return node(subtree(leaves[:left]), subtree(leaves[left:]))


def merkle_root(leaves):
    return seal(len(leaves), subtree(leaves) if leaves else bytes(32))


def root_of_path(proof, leaf_hash):
    """The root that a path gives, or None for an impossible one: walking down the definition, not up the path."""
    siblings = [unhex(sibling) for sibling in proof["siblings"]]

    def walk(index, count):
        if count == 1:
            return leaf_hash
        left = 1 << (count - 1).bit_length() - 1
        if not siblings:
            return None
        sibling = siblings.pop()
        inner = walk(index, left) if index < left else walk(index - left, count - left)
        if inner is None:
            return None
        return node(inner, sibling) if index < left else node(sibling, inner)

    if not 0 <= proof["index"] < proof["count"]:
        return None
    top = walk(proof["index"], proof["count"])
    return None if top is None or siblings else seal(proof["count"], top)


def vote_bytes(network, epoch, height, round_, kind, block):
    place = VOTE_DOMAIN + network + epoch.to_bytes(8, "big") + height.to_bytes(8, "big") + round_.to_bytes(4, "big")
    return place + bytes([kind, 1 if block else 0]) + (block or bytes(32))


def proposal_bytes(network, epoch, height, round_, valid_round, block):
    place = (
        PROPOSAL_DOMAIN + network + epoch.to_bytes(8, "big") + height.to_bytes(8, "big") + round_.to_bytes(4, "big")
    )
    has = valid_round is not None
    return place + bytes([1 if has else 0]) + (valid_round if has else 0).to_bytes(4, "big") + block


PROPOSAL, PREVOTE, PRECOMMIT = "proposal", "prevote", "precommit"


def signed_in(frame, validators):
    """Every signature in a recorded frame: (kind, height, round, value, validator key, signature); the value is what
    must be one."""
    tag, (fields, end) = frame[0], rlp_item(frame, 1)
    if end != len(frame):
        raise ValueError("bytes after the message")
    height, round_ = number(fields[0]), number(fields[1])
    if tag == 1:
        # Proposed again in the round of a polka is another signed text: 0 is none, else the round and one.
        return [(PROPOSAL, height, round_, (fields[3], number(fields[2])), fields[4], fields[5])]
    kinds = {1: PREVOTE, 2: PRECOMMIT}
    if tag == 2:
        return [(kinds[number(fields[2])], height, round_, fields[3], fields[4], fields[5])]
    if tag == 3:
        return [(PREVOTE, height, round_, fields[2], validators[number(at)], sign) for at, sign in fields[3]]
    if tag == 4:
        votes = fields[3]
        return [
            (kinds[number(kind)], height, round_, block, validators[number(at)], sign)
            for at, kind, block, sign in votes
        ]
    return []


def sign_bytes(network, epoch, signed):
    kind, height, round_, value = signed[:4]
    if kind == PROPOSAL:
        block, valid = value
        return proposal_bytes(network, epoch, height, round_, valid - 1 if valid else None, block)
    return vote_bytes(network, epoch, height, round_, 1 if kind == PREVOTE else 2, value or None)


def check_vectors(folder):
    """Compares this file with the golden vectors; raises at the first difference."""

    def read(name):
        with open(os.path.join(folder, name + ".json")) as file:
            return json.load(file)

    sample = read("header")
    assert header_id(sample["header"]) == unhex(sample["id"]), "header id"
    for case in read("lanes")["lanes"]:
        assert lane_leaf(case["lane"]) == unhex(case["leaf"]), "lane leaf"
        assert lane_head(case["lane"], case["height"]) == unhex(case["head"]), "lane head"
        hashes = [keccak256(unhex(transaction)) for transaction in case["transactions"]]
        assert merkle_root([leaf(one) for one in hashes]) == unhex(
            case["lane"]["transactionsRoot"]
        ), "transactions root"
    for case in read("merkle"):
        leaves = [leaf(unhex(one)) for one in case["leaves"]]
        assert merkle_root(leaves) == unhex(case["root"]), "merkle root"
        for proof in case["proofs"]:
            assert root_of_path(proof, leaves[proof["index"]]) == unhex(case["root"]), "merkle proof"
    for case in read("sign_bytes"):
        block, network = unhex(case["block"]) if case["block"] else None, unhex(case["network"])
        place = (network, case["epoch"], case["height"], case["round"])
        if case["kind"] == "proposal":
            made = proposal_bytes(*place, case["validRound"], block)
        else:
            made = vote_bytes(*place, {"prevote": 1, "precommit": 2}[case["kind"]], block)
        key, signature = unhex(case["key"]), unhex(case["signature"])
        assert made == unhex(case["bytes"]), "sign bytes"
        for check in (verify, verify_slowly):
            assert check(key, made, signature) and not check(key, made + b"x", signature), "signature"


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    check_vectors(os.path.join(here, "..", "..", "types", "vectors"))
    print("the checker's formats agree with the golden vectors")
    sys.exit(0)
