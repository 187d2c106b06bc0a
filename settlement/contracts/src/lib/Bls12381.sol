// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// A precompile refused its input: a coordinate is not below the field's prime, or a point is not on its curve or, in a
/// pairing, not in its group.
error BlsPrecompileFailed(uint256 precompile);

/// BLS12-381 signatures in G1 over EIP-2537's precompiles.
///
/// Points are words as the precompiles take them: a coordinate of 48 bytes stands in 64, c0 before c1. A stored public key
/// ("packed") leaves the 16 zero bytes out: x.c0 ‖ x.c1 ‖ y.c0 ‖ y.c1, 48 bytes each, big-endian. Memory taken here is
/// scratch above the free pointer.
library Bls12381 {
    /// Bytes of a packed public key.
    uint256 internal constant KEY_BYTES = 192;
    /// Bytes of a signature: x ‖ y, each in 64 bytes.
    uint256 internal constant SIGNATURE_BYTES = 128;
    /// Bytes of a point in G2 as the precompiles take it.
    uint256 internal constant G2_BYTES = 256;

    /// Source: the BLS signature draft (draft-irtf-cfrg-bls-signature), proof-of-possession scheme, minimal signatures.
    bytes internal constant SIGNATURE_DST = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    bytes internal constant POSSESSION_DST = "BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

    uint256 private constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
    /// −G, the generator of G2 negated, packed.
    bytes private constant NEGATED_GENERATOR =
        hex"024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
        hex"13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        hex"0d1b3cc2c7027888be51d9ef691d77bcb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa"
        hex"13fa4d4a0ad8b1ce186ed5061789213d993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed";

    /// Whether `signature` over `message` under `dst` is that of the key in `point` (a G2 point of 256 bytes in memory).
    ///
    /// The pairing checks that the signature and the key are in their groups. The identity as key would accept the
    /// identity as signature of anything: callers refuse it.
    function verifies(bytes memory dst, bytes32 message, bytes memory point, bytes calldata signature)
        internal
        view
        returns (bool)
    {
        bytes memory input = new bytes(2 * (SIGNATURE_BYTES + G2_BYTES));
        bytes memory hashed = hashToG1(dst, message);
        bytes memory generator = unpack(NEGATED_GENERATOR);
        bool ok;
        uint256 result;
        assembly ("memory-safe") {
            let at := add(input, 32)
            calldatacopy(at, signature.offset, 128)
            mcopy(add(at, 128), add(generator, 32), 256)
            mcopy(add(at, 384), add(hashed, 32), 128)
            mcopy(add(at, 512), add(point, 32), 256)
            ok := staticcall(gas(), 0x0f, at, 768, 0, 32)
            ok := and(ok, eq(returndatasize(), 32))
            result := mload(0)
        }
        if (!ok) revert BlsPrecompileFailed(0x0f);
        return result == 1;
    }

    /// Puts the zero bytes back: 192 bytes to 256.
    function unpack(bytes memory key) internal pure returns (bytes memory point) {
        point = new bytes(G2_BYTES);
        assembly ("memory-safe") {
            let from := add(key, 32)
            let to := add(point, 48)
            mcopy(to, from, 48)
            mcopy(add(to, 64), add(from, 48), 48)
            mcopy(add(to, 128), add(from, 96), 48)
            mcopy(add(to, 192), add(from, 144), 48)
        }
    }

    /// Leaves the zero bytes out: 256 bytes to 192.
    function pack(bytes memory point) internal pure returns (bytes memory key) {
        key = new bytes(KEY_BYTES);
        assembly ("memory-safe") {
            let from := add(point, 48)
            let to := add(key, 32)
            mcopy(to, from, 48)
            mcopy(add(to, 48), add(from, 64), 48)
            mcopy(add(to, 96), add(from, 128), 48)
            mcopy(add(to, 144), add(from, 192), 48)
        }
    }

    /// a + b in G2, into `a`. Both are points of 256 bytes.
    function add(bytes memory a, bytes memory b) internal view {
        bool ok;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mcopy(free, add(a, 32), 256)
            mcopy(add(free, 256), add(b, 32), 256)
            ok := staticcall(gas(), 0x0d, free, 512, add(a, 32), 256)
        }
        if (!ok) revert BlsPrecompileFailed(0x0d);
    }

    /// −a in G2, into `a`: both coordinates of y become p − y. The identity stays what it is.
    function negate(bytes memory a) internal pure {
        negateField(a, 128);
        negateField(a, 192);
    }

    /// Whether `a` is the identity, which is all zero bytes.
    function isIdentity(bytes memory a) internal pure returns (bool) {
        uint256 bits;
        for (uint256 i = 32; i <= a.length; i += 32) {
            assembly ("memory-safe") {
                bits := or(bits, mload(add(a, i)))
            }
        }
        return bits == 0;
    }

    /// Hash to G1, 128 bytes. Source: RFC 9380, BLS12381G1_XMD:SHA-256_SSWU_RO_, for messages of 32 bytes.
    function hashToG1(bytes memory dst, bytes32 message) internal view returns (bytes memory point) {
        bytes memory tail = abi.encodePacked(dst, uint8(dst.length));
        // expand_message_xmd, RFC 9380 §5.3.1, for 128 bytes: Z_pad is one block of SHA-256, l_i_b_str is 0x0080.
        bytes32 b0 = sha256(abi.encodePacked(bytes32(0), bytes32(0), message, uint16(128), uint8(0), tail));
        bytes32 b1 = sha256(abi.encodePacked(b0, uint8(1), tail));
        bytes32 b2 = sha256(abi.encodePacked(b0 ^ b1, uint8(2), tail));
        bytes32 b3 = sha256(abi.encodePacked(b0 ^ b2, uint8(3), tail));
        bytes32 b4 = sha256(abi.encodePacked(b0 ^ b3, uint8(4), tail));
        point = new bytes(256);
        mapToG1(b1, b2, point, 0);
        mapToG1(b3, b4, point, 128);
        bool ok;
        assembly ("memory-safe") {
            let at := add(point, 32)
            ok := staticcall(gas(), 0x0b, at, 256, at, 128)
            mstore(point, 128)
        }
        if (!ok) revert BlsPrecompileFailed(0x0b);
    }

    /// The 64 bytes high ‖ low modulo p, mapped to G1, into `point` at `offset`.
    function mapToG1(bytes32 high, bytes32 low, bytes memory point, uint256 offset) private view {
        bool ok;
        assembly ("memory-safe") {
            // MODEXP (0x05) with the exponent 1 reduces: lengths 64, 1, 48, then base, exponent, modulus.
            let free := mload(0x40)
            mstore(free, 64)
            mstore(add(free, 32), 1)
            mstore(add(free, 64), 48)
            mstore(add(free, 96), high)
            mstore(add(free, 128), low)
            mstore8(add(free, 160), 1)
            mstore(add(free, 161), shl(128, P_HIGH))
            mstore(add(free, 177), P_LOW)
            // The 48 bytes of the result stand behind 16 zero bytes.
            let element := add(free, 256)
            mstore(element, 0)
            ok := staticcall(gas(), 0x05, free, 209, add(element, 16), 48)
            if ok { ok := staticcall(gas(), 0x10, element, 64, add(add(point, 32), offset), 128) }
        }
        if (!ok) revert BlsPrecompileFailed(0x10);
    }

    function negateField(bytes memory a, uint256 offset) private pure {
        assembly ("memory-safe") {
            let at := add(add(a, 32), offset)
            let high := mload(at)
            let low := mload(add(at, 32))
            if or(high, low) {
                let difference := sub(P_LOW, low)
                mstore(at, sub(sub(P_HIGH, high), gt(low, P_LOW)))
                mstore(add(at, 32), difference)
            }
        }
    }
}
