// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CommitteeRegistry, Member} from "./CommitteeRegistry.sol";
import {BadParameter} from "./CommitteeStore.sol";
import {ICertificateVerifier} from "./ICertificateVerifier.sol";
import {Batch, BatchLib} from "./lib/BatchLib.sol";
import {Bls12381} from "./lib/Bls12381.sol";
import {CommitteeCode} from "./lib/CommitteeCode.sol";
import {EcdsaLib} from "./lib/EcdsaLib.sol";
import {Eip712} from "./lib/Eip712.sol";
import {MerkleLib, MerkleProof} from "./lib/MerkleLib.sol";

/// A fault that the committee decided on: a leaf under `faults` of a batch. `kind`: 1 two prevotes, 2 two precommits,
/// 3 two proposals, 4 two promises, of one height and round.
struct Fault {
    uint8 kind;
    uint64 epoch;
    uint64 height;
    uint32 round;
    /// The offender: its attestation address and the ed25519 key that signed.
    address attestation;
    bytes32 consensusKey;
    /// keccak256 of the canonical encoding of both signed messages.
    bytes32 proof;
}

/// An installed committee, as it was given to `install`.
struct Roster {
    uint64 epoch;
    uint8 scheme;
    /// The members' keys one after another.
    bytes keys;
}

interface IBatchHashes {
    function batchHash(uint64 number) external view returns (bytes32);
}

/// The two hashes are not those of two batches in ascending order.
error NotContradictory(bytes32 first, bytes32 second);
error NotSignedByOne(address first, address second);
error NotAKeyOf(address attestation, bytes32 keyHash);
error BadFaultKind(uint8 kind);
error UnknownBatch(uint64 number, bytes32 hash);
error FaultNotProved(uint64 number, bytes32 leaf);
/// A fault of an epoch after the batch's.
error FaultAhead(uint64 faultEpoch, uint64 batchEpoch);
error UnknownCommittee(bytes32 hash);
/// Nobody signed both, or everybody who did has lost its bond already.
error NobodyToSlash(uint256 bitmap);
error EvidenceExpired(uint64 l1Number, uint256 window, uint256 blockNumber);
error WindowTooLong(uint256 seconds_, uint256 unbonding);
error AlreadyCommitted(bytes32 commitment);
error NoReporter();

/// Turns proofs of equivocation into slashes.
///
/// Promises that a member is slashed only by two signatures of its own attestation (or BLS) key on different batches of one
/// number, single or within certificates, or by a fault in a posted batch, and once for ever. One batch found in other data is no other batch. A reporter that committed first keeps its reward from
/// whoever copies the report out of the pool. Leaves the bonds to the registry. ed25519 signatures are not checked on L1:
/// the committee checks the votes, and certifies their fault in a batch.
contract Evidence {
    CommitteeRegistry public immutable registry;
    IBatchHashes public immutable inbox;
    /// L1 blocks from a batch's L1 origin in which its faults can be reported. Shorter than the unbonding.
    uint64 public immutable windowBlocks;
    bytes32 private immutable inboxDomain;

    /// L1 block at which a commitment was made.
    mapping(bytes32 commitment => uint256) public committedAt;

    event Committed(bytes32 indexed commitment);
    event EquivocationProved(address indexed attestation, uint8 kind, uint64 epoch, uint64 place);

    constructor(CommitteeRegistry registry_, IBatchHashes inbox_, uint64 windowBlocks_) {
        // A slot of L1 takes 12 seconds or less.
        uint256 window = uint256(windowBlocks_) * 12;
        if (window >= registry_.unbonding()) revert WindowTooLong(window, registry_.unbonding());
        if (windowBlocks_ == 0) revert BadParameter(0);
        registry = registry_;
        inbox = inbox_;
        windowBlocks = windowBlocks_;
        inboxDomain = Eip712.domain(address(inbox_));
    }

    /// Takes a place in the row of reporters without showing the evidence: keccak256(abi.encode(reporter, faultId, salt)).
    function commit(bytes32 commitment) external {
        if (committedAt[commitment] != 0) revert AlreadyCommitted(commitment);
        committedAt[commitment] = block.number;
        emit Committed(commitment);
    }

    /// Slashes who signed attestations of two batches with one epoch and number.
    ///
    /// `hashes` are the batches', ascending; `data` is what each attestation names, the same or not; each signature is
    /// EIP-2098. `salt` is zero without a commitment.
    function reportAttestations(
        uint64 epoch,
        uint64 number,
        bytes32[2] calldata hashes,
        bytes32[2] calldata data,
        bytes32[4] calldata signatures,
        address reporter,
        bytes32 salt
    ) external {
        if (hashes[0] >= hashes[1]) revert NotContradictory(hashes[0], hashes[1]);
        address signer =
            EcdsaLib.recover(attestationDigest(epoch, number, hashes[0], data[0]), signatures[0], signatures[1]);
        address other =
            EcdsaLib.recover(attestationDigest(epoch, number, hashes[1], data[1]), signatures[2], signatures[3]);
        if (signer == address(0) || signer != other) revert NotSignedByOne(signer, other);
        punish(signer, 0, epoch, number, attestationFault(signer, epoch, number, hashes), reporter, salt);
    }

    /// The same for attestations by a member's BLS key, which is given packed; signatures as EIP-2537 encodes G1.
    function reportBlsAttestations(
        address attestation,
        uint64 epoch,
        uint64 number,
        bytes32[2] calldata hashes,
        bytes32[2] calldata data,
        bytes calldata key,
        bytes[2] calldata signatures,
        address reporter,
        bytes32 salt
    ) external {
        if (hashes[0] >= hashes[1]) revert NotContradictory(hashes[0], hashes[1]);
        bytes32 keyHash = keccak256(key);
        if (registry.memberOf(attestation).blsKey != keyHash) revert NotAKeyOf(attestation, keyHash);
        bytes memory point = Bls12381.unpack(key);
        for (uint256 i = 0; i < 2; i++) {
            bytes32 digest = attestationDigest(epoch, number, hashes[i], data[i]);
            if (
                signatures[i].length != Bls12381.SIGNATURE_BYTES
                    || !Bls12381.verifies(Bls12381.SIGNATURE_DST, digest, point, signatures[i])
            ) revert NotSignedByOne(attestation, address(0));
        }
        bytes32 faultId = attestationFault(attestation, epoch, number, hashes);
        punish(attestation, 0, epoch, number, faultId, reporter, salt);
    }

    /// Slashes who signed both of two certificates, of one committee of any scheme, on two batches with one epoch and
    /// number: each member whose bit is set in both. For certificates that are aggregates this is the only proof, because no
    /// single signature can be taken out of them. The id in a commitment is that of the address zero.
    ///
    /// Anybody may install a committee of registered members, and that is no harm: a certificate proves that its signers
    /// signed, whatever the committee is for.
    function reportCertificates(
        uint64 number,
        Roster calldata roster,
        bytes32[2] calldata hashes,
        bytes32[2] calldata data,
        bytes[2] calldata certificates,
        address reporter,
        bytes32 salt
    ) external {
        if (hashes[0] >= hashes[1]) revert NotContradictory(hashes[0], hashes[1]);
        bytes32 hash = registry.committeeHash(roster.epoch, roster.scheme, roster.keys);
        address committee = registry.committeeOf(hash);
        if (committee == address(0)) revert UnknownCommittee(hash);
        uint256 both = type(uint256).max;
        for (uint256 i = 0; i < 2; i++) {
            bytes32 digest = attestationDigest(roster.epoch, number, hashes[i], data[i]);
            both &= signersOf(committee, digest, certificates[i]);
        }
        bytes32 faultId = attestationFault(address(0), roster.epoch, number, hashes);
        punishAll(both, committee, number, roster, hashes, reporter, standingOf(reporter, faultId, salt));
    }

    /// Slashes by a fault that a posted batch carries under `faults`.
    function reportFault(
        Batch calldata batch,
        Fault calldata fault,
        MerkleProof calldata proof,
        address reporter,
        bytes32 salt
    ) external {
        bytes32 hash = BatchLib.hash(batch);
        if (inbox.batchHash(batch.number) != hash) revert UnknownBatch(batch.number, hash);
        if (block.number > uint256(batch.l1Number) + windowBlocks) {
            revert EvidenceExpired(batch.l1Number, windowBlocks, block.number);
        }
        if (fault.kind == 0 || fault.kind > 4) revert BadFaultKind(fault.kind);
        if (fault.epoch > batch.epoch) revert FaultAhead(fault.epoch, batch.epoch);
        bytes32 leaf = faultLeaf(fault);
        // No root is zero, so a batch without faults proves nothing.
        if (!MerkleLib.proves(proof, batch.faults, leaf)) revert FaultNotProved(batch.number, leaf);
        Member memory member = registry.memberOf(fault.attestation);
        if (member.consensusKey != fault.consensusKey) revert NotAKeyOf(fault.attestation, fault.consensusKey);
        punish(fault.attestation, fault.kind, fault.epoch, fault.height, leaf, reporter, salt);
    }

    /// The leaf of a fault: leaf_hash over 105 bytes, kind u8 ‖ epoch u64 ‖ height u64 ‖ round u32 ‖ attestation ‖
    /// consensusKey ‖ proof. It is the fault's id in a commitment too.
    function faultLeaf(Fault calldata fault) public pure returns (bytes32) {
        return MerkleLib.leafHash(
            abi.encodePacked(
                fault.kind, fault.epoch, fault.height, fault.round, fault.attestation, fault.consensusKey, fault.proof
            )
        );
    }

    /// The id, in a commitment, of two attestations that contradict each other.
    function attestationFault(address attestation, uint64 epoch, uint64 number, bytes32[2] calldata hashes)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(attestation, epoch, number, hashes));
    }

    function attestationDigest(uint64 epoch, uint64 number, bytes32 batchHash, bytes32 data)
        private
        view
        returns (bytes32)
    {
        return Eip712.digest(inboxDomain, BatchLib.attestation(epoch, number, batchHash, data));
    }

    function punish(
        address attestation,
        uint8 kind,
        uint64 epoch,
        uint64 place,
        bytes32 faultId,
        address reporter,
        bytes32 salt
    ) private {
        uint256 standing = standingOf(reporter, faultId, salt);
        emit EquivocationProved(attestation, kind, epoch, place);
        registry.slash(attestation, reporter, standing, faultId);
    }

    /// Slashes the members whose bits are set. Who has no bond left is passed over.
    function punishAll(
        uint256 bitmap,
        address committee,
        uint64 number,
        Roster calldata roster,
        bytes32[2] calldata hashes,
        address reporter,
        uint256 standing
    ) private {
        (, uint256 members,,) = CommitteeCode.head(committee);
        uint256 size = roster.keys.length / members;
        uint256 slashed = 0;
        for (uint256 i = 0; i < members; i++) {
            if ((bitmap >> i) & 1 == 0) continue;
            address member = registry.ownerOfKey(keccak256(roster.keys[i * size:(i + 1) * size]));
            bytes32 faultId = attestationFault(member, roster.epoch, number, hashes);
            try registry.slash(member, reporter, standing, faultId) {
                slashed++;
                emit EquivocationProved(member, 0, roster.epoch, number);
            } catch {}
        }
        if (slashed == 0) revert NobodyToSlash(bitmap);
    }

    /// Has the committee's scheme check a certificate; returns its bitmap.
    function signersOf(address committee, bytes32 digest, bytes calldata certificate) private view returns (uint256) {
        (, uint256 members,, address verifier) = CommitteeCode.head(committee);
        ICertificateVerifier(verifier).verify(committee, digest, certificate);
        uint256 width = (members + 7) / 8;
        return uint256(bytes32(certificate[:width])) >> (256 - 8 * width);
    }

    /// The L1 block from which the reporter's claim counts: of its commitment, or this one.
    function standingOf(address reporter, bytes32 faultId, bytes32 salt) private view returns (uint256) {
        if (reporter == address(0)) revert NoReporter();
        if (salt == 0) return block.number;
        uint256 committed = committedAt[keccak256(abi.encode(reporter, faultId, salt))];
        return committed == 0 ? block.number : committed;
    }
}
