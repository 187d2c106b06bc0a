// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

error RosterMalformed(uint256 bytes_, uint256 entryBytes);
error RosterTooLarge(uint256 members, uint256 max);
error BadCertificateLength(uint256 length, uint256 expected);
/// A bit is set for a member that does not exist.
error UnknownSigner(uint256 bitmap, uint256 members);
error NoQuorum(uint256 signers, uint256 quorum);
/// The signature of the member at `index` of the committee is not its own.
error BadSignature(uint256 index);

/// One signature scheme: how a committee's keys are stored and how its certificates are checked.
///
/// Under every scheme a certificate begins with a bitmap of ⌈n/8⌉ bytes, one big-endian number, bit i = member i: who signed
/// can be read off without knowing the scheme. The quorum is computed from the committee, never given. Every error is a revert with its numbers: a call that returns
/// is a certificate that holds.
interface ICertificateVerifier {
    /// The scheme's number, part of the committee's hash: 1 ECDSA over secp256k1, 2 BLS12-381 with signatures in G1.
    function scheme() external view returns (uint8);

    /// Bytes of one member's key in a roster.
    function entryBytes() external view returns (uint256);

    /// Most members of a committee under this scheme.
    function membersMax() external view returns (uint256);

    /// What is stored after the head of `CommitteeCode`, from the members' keys one after another.
    function prepare(bytes calldata roster) external view returns (bytes memory payload);

    /// Checks that a quorum of `committee` signed `digest`; returns how many did.
    function verify(address committee, bytes32 digest, bytes calldata certificate)
        external
        view
        returns (uint256 signers);
}
