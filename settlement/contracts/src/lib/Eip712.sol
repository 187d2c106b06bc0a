// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// EIP-712 digests under Fusion's domain.
///
/// Promises that what is signed for one chain and one contract counts nowhere else. Both the inbox and the registry have
/// a domain of their own, because `verifyingContract` differs.
library Eip712 {
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// The separator of {name "Fusion", version "1", this chain, `verifying`}. Source: EIP-712.
    function domain(address verifying) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, keccak256("Fusion"), keccak256("1"), block.chainid, verifying));
    }

    /// What is signed: keccak256(0x19 0x01 ‖ separator ‖ struct hash).
    function digest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32 out) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, hex"1901")
            mstore(add(free, 2), separator)
            mstore(add(free, 34), structHash)
            out := keccak256(free, 66)
        }
    }
}
