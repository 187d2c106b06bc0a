"""keccak-256 and ed25519, written for the checker: it must not share code with the node.

Signatures are checked by the `cryptography` module where there is one (0.1 ms each), by the lines below otherwise
(about 5 ms each); FAST says which. Both follow RFC 8032; a small-order key never occurs, as the keys are those of a
genesis that the driver made.
"""

import functools
import hashlib

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    FAST = True
except ImportError:
    FAST = False

MASK = (1 << 64) - 1
ROUND_CONSTANTS = [
    0x0000000000000001,
    0x0000000000008082,
    0x800000000000808A,
    0x8000000080008000,
    0x000000000000808B,
    0x0000000080000001,
    0x8000000080008081,
    0x8000000000008009,
    0x000000000000008A,
    0x0000000000000088,
    0x0000000080008009,
    0x000000008000000A,
    0x000000008000808B,
    0x800000000000008B,
    0x8000000000008089,
    0x8000000000008003,
    0x8000000000008002,
    0x8000000000000080,
    0x000000000000800A,
    0x800000008000000A,
    0x8000000080008081,
    0x8000000000008080,
    0x0000000080000001,
    0x8000000080008008,
]
# Where each lane goes under rho and pi: (to, from, rotation).
MOVES = []
for x in range(5):
    for y in range(5):
        MOVES.append((y + 5 * ((2 * x + 3 * y) % 5), x + 5 * y))
ROTATIONS = [0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14]
MOVES = [(to, source, ROTATIONS[source], 64 - ROTATIONS[source]) for to, source in MOVES]
RATE = 136


def permute_source():
    """Python of keccak-f[1600] with every lane a local variable: three times as fast as lists and loops."""
    lines = [
        "def permute(lanes):",
        "    " + ", ".join(f"a{at}" for at in range(25)) + " = lanes",
        "    for constant in ROUND_CONSTANTS:",
    ]
    for x in range(5):
        lines.append(f"        c{x} = " + " ^ ".join(f"a{x + 5 * y}" for y in range(5)))
    for x in range(5):
        right = (x + 1) % 5
        lines.append(f"        d{x} = c{(x + 4) % 5} ^ ((c{right} << 1 | c{right} >> 63) & MASK)")
    for to, source, left, right in MOVES:
        lines.append(f"        t = a{source} ^ d{source % 5}")
        lines.append(f"        b{to} = (t << {left} | t >> {right}) & MASK" if left else f"        b{to} = t")
    for row in (0, 5, 10, 15, 20):
        for x in range(5):
            lines.append(f"        a{row + x} = b{row + x} ^ (~b{row + (x + 1) % 5} & b{row + (x + 2) % 5})")
    return "\n".join(
        lines + ["        a0 ^= constant", "    return [" + ", ".join(f"a{at}" for at in range(25)) + "]"]
    )


exec(permute_source())


@functools.lru_cache(1 << 19)
def keccak256(data):
    """keccak-256 with the original padding, as Ethereum has it. Remembered: chains of all nodes and receipts hash the
    same things."""
    padded = bytearray(data) + b"\x01" + bytes(RATE - 1 - len(data) % RATE)
    padded[-1] |= 0x80
    state = [0] * 25
    for at in range(0, len(padded), RATE):
        for lane in range(RATE // 8):
            state[lane] ^= int.from_bytes(padded[at + 8 * lane : at + 8 * lane + 8], "little")
        state = permute(state)
    return b"".join(lane.to_bytes(8, "little") for lane in state[:4])


P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


def verify_slowly(key, message, signature):
    point, nonce = decompress(key), decompress(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or nonce is None or scalar >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    left, right = multiply(scalar, BASE), add(nonce, multiply(challenge, point))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def verify(key, message, signature):
    """Whether `signature` is `key`'s over `message`; all of them bytes."""
    if len(key) != 32 or len(signature) != 64:
        return False
    if not FAST:
        return verify_slowly(key, message, signature)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False
