// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// secp256k1 signatures in the 64 bytes of EIP-2098.
library EcdsaLib {
    /// Half the group's order: a higher s is the other form of the same signature. Source: EIP-2.
    uint256 internal constant S_MAX = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// Who signed `digest`, or zero where nobody did: s is high, r is out of range, or no key has this signature.
    function recover(bytes32 digest, bytes32 r, bytes32 vs) internal pure returns (address) {
        uint256 s = uint256(vs) & (type(uint256).max >> 1);
        if (s > S_MAX) return address(0);
        return ecrecover(digest, uint8(27 + (uint256(vs) >> 255)), r, bytes32(s));
    }
}
