// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Which 32 bytes are an ed25519 public key that a node can use.
///
/// Promises that the bytes decode (RFC 8032 §5.1.3), canonically, to a point that is not of small order: what
/// `ed25519-dalek`'s `VerifyingKey::from_bytes` and `is_weak` say. Whether anybody holds the key is not checked: the
/// registration carries ed25519 signatures for that, which the nodes verify.
library Ed25519Key {
    uint256 private constant P = 2 ** 255 - 19;
    /// d of the curve −x² + y² = 1 + d·x²·y². Source: RFC 8032 §5.1.
    uint256 private constant D = 37095705934669439343138083508754565189542113879843219016388785533085940283555;
    /// The y of two of the points of order 8; the others have −y.
    uint256 private constant Y_ORDER_8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826;

    /// Whether `key` is such a key. About 8,000 gas.
    function isUsable(bytes32 key) internal view returns (bool) {
        uint256 y = reversed(uint256(key)) & (type(uint256).max >> 1);
        // y = ±1 and 0 have order 1, 2 and 4.
        if (y >= P || y <= 1 || y == P - 1 || y == Y_ORDER_8 || y == P - Y_ORDER_8) return false;
        // x² = (y² − 1) / (d·y² + 1) has a root iff the product of the two is a square: Euler's criterion.
        uint256 square = mulmod(y, y, P);
        uint256 product = mulmod(square - 1, addmod(mulmod(D, square, P), 1, P), P);
        return power(product, (P - 1) / 2) == 1;
    }

    /// Little-endian to big-endian, by halves.
    function reversed(uint256 v) private pure returns (uint256) {
        uint256 m = 0x00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff;
        v = ((v >> 8) & m) | ((v & m) << 8);
        m = 0x0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff;
        v = ((v >> 16) & m) | ((v & m) << 16);
        m = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
        v = ((v >> 32) & m) | ((v & m) << 32);
        m = 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff;
        v = ((v >> 64) & m) | ((v & m) << 64);
        return (v >> 128) | (v << 128);
    }

    /// base^exponent modulo P by MODEXP (EIP-198); cannot fail on words.
    function power(uint256 base, uint256 exponent) private view returns (uint256 result) {
        (, bytes memory out) = address(5).staticcall(
            abi.encode(uint256(32), uint256(32), uint256(32), base, exponent, P)
        );
        return abi.decode(out, (uint256));
    }
}
