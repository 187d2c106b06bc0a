// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICertificateVerifier} from "./ICertificateVerifier.sol";
import {CommitteeStore} from "./CommitteeStore.sol";
import {EmergencyPause, Paused} from "./EmergencyPause.sol";
import {ForcedQueue} from "./ForcedQueue.sol";
import {Cursor} from "./InboxState.sol";
import {NamespaceProofs} from "./NamespaceProofs.sol";
import {Batch, BatchLib} from "./lib/BatchLib.sol";
import {CommitteeCode} from "./lib/CommitteeCode.sol";
import {Eip712} from "./lib/Eip712.sol";

/// What a deployment decides, once.
struct Parameters {
    /// Hash of the committee of epoch `genesisEpoch`, which must be installed.
    bytes32 committee;
    uint64 genesisEpoch;
    address guardian;
    address treasury;
    uint64 forcedBlocks;
    uint64 escapeBlocks;
    uint256 forcedFee;
}

/// Somebody else posted this batch: what the caller wanted is done.
error AlreadyPosted(uint64 number);
error NumberGap(uint64 expected, uint64 got);
error BadParent(bytes32 expected, bytes32 got);
error WrongEpoch(uint64 expected, uint64 got);
error BadHeights(uint64 expectedFirst, uint64 first, uint64 last);
error OriginRegressed(uint64 last, uint64 got);
error OriginInFuture(uint64 l1Number, uint256 blockNumber);
error BadOrigin(uint64 l1Number, bytes32 expected, bytes32 got);
error BadForcedCursor(uint64 from, uint64 tail, uint64 got);
error ForcedInclusionDue(uint64 index, uint256 dueAt, uint64 l1Number);
error NoBlobs();
error BadData(bytes32 expected, bytes32 got);
error CommitteeMissing(bytes32 hash);

/// The chain of certified batches.
///
/// Promises: numbers without a gap, one hash for each, each linked to the one before; heights without a gap; the data named
/// is the data of the transaction; a quorum of the epoch's committee signed; the L1 origin is of this chain and never goes
/// back; due forced items are consumed in order. Whether the data decodes to what the roots say is the members' to check
/// before they sign: it cannot be checked here. No owner, no proxy: nothing here can be changed.
contract BatchInbox is NamespaceProofs, ForcedQueue, EmergencyPause {
    /// Holds the hashes of the last 8191 blocks. Source: EIP-2935.
    address private constant HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;
    uint256 private constant HISTORY_BLOCKS = 8191;
    uint256 private constant LAST_HEIGHT_MAX = type(uint48).max;

    CommitteeStore public immutable registry;
    bytes32 public immutable network;
    bytes32 private immutable domain;

    /// The present committee. One slot: a post reads it, the end of an epoch writes it.
    struct Present {
        address committee;
        uint48 epoch;
        uint48 pausedUntil;
    }

    /// The L1 origins at which the present committee and its successor were decided on.
    struct Fixed {
        uint64 present;
        uint64 next;
    }

    Present private present_;
    Fixed private fixed_;

    /// `header` is what was posted; with `network`, `forcedHash` and this event's number it makes the whole batch.
    event BatchPosted(
        uint64 indexed number,
        bytes32 indexed hash,
        address indexed poster,
        bytes header,
        bytes32 forcedHash,
        uint256 signers
    );
    /// The segments of a batch that has no blobs.
    event BatchPayload(uint64 indexed number, bytes payload);
    event CommitteeActivated(uint64 indexed epoch, bytes32 indexed hash, address committee);

    constructor(CommitteeStore registry_, Parameters memory parameters)
        ForcedQueue(
            parameters.forcedBlocks,
            parameters.escapeBlocks,
            parameters.forcedFee,
            parameters.treasury
        )
        EmergencyPause(parameters.guardian)
    {
        registry = registry_;
        network = registry_.network();
        domain = Eip712.domain(address(this));
        cursor_.postedBlock = uint40(block.number);
        present_.committee = installed(parameters.committee, parameters.genesisEpoch);
        present_.epoch = uint48(parameters.genesisEpoch);
        emit CommitteeActivated(parameters.genesisEpoch, parameters.committee, present_.committee);
    }

    /// Posts the next batch, its segments in the blobs of this transaction. Anybody who holds a certificate may.
    function post(bytes calldata header, bytes calldata certificate) external {
        Batch memory batch = BatchLib.decode(header);
        Cursor memory cursor = follows(batch);
        bytes32 data = BatchLib.blobData();
        if (data == 0) revert NoBlobs();
        accept(batch, cursor, data, header, certificate);
    }

    /// Posts the next batch, its segments in `payload`: cheaper than a blob where they are tiny.
    function postCalldata(bytes calldata header, bytes calldata certificate, bytes calldata payload) external {
        Batch memory batch = BatchLib.decode(header);
        Cursor memory cursor = follows(batch);
        accept(batch, cursor, BatchLib.calldataData(payload), header, certificate);
        emit BatchPayload(batch.number, payload);
    }

    /// What members sign for `batch`.
    function attestationDigest(Batch calldata batch) external view returns (bytes32) {
        bytes32 hash = BatchLib.hash(batch);
        return Eip712.digest(domain, BatchLib.attestation(batch.epoch, batch.number, hash));
    }

    /// The present epoch, its committee, and the Unix time until which posting is held up.
    function present() external view returns (Present memory) {
        return present_;
    }

    /// The L1 origin at which the present committee was decided on: an exit known there is in effect.
    function committeeFixedAt() external view returns (uint64) {
        return fixed_.present;
    }

    /// The L1 block of the last post, or of the deployment.
    function postedBlock() external view returns (uint64) {
        return cursor_.postedBlock;
    }

    /// Checks all that the batches before decide: number, parent, epoch, heights, L1 origin, forced cursor.
    function follows(Batch memory batch) private view returns (Cursor memory cursor) {
        cursor = cursor_;
        uint64 number = cursor.nextNumber;
        if (batch.number < number) revert AlreadyPosted(batch.number);
        if (batch.number > number) revert NumberGap(number, batch.number);
        bytes32 parent = number == 0 ? bytes32(0) : batchHash[number - 1];
        if (batch.parent != parent) revert BadParent(parent, batch.parent);
        uint64 firstHeight = uint64(cursor.lastHeight) + 1;
        if (batch.firstHeight != firstHeight || batch.lastHeight < firstHeight || batch.lastHeight > LAST_HEIGHT_MAX) {
            revert BadHeights(firstHeight, batch.firstHeight, batch.lastHeight);
        }
        checkOrigin(batch, cursor.l1Number);
        checkForced(batch, cursor);
    }

    /// The origin is a block of this chain, as far back as the chain can tell, and not before the last batch's.
    function checkOrigin(Batch memory batch, uint64 last) private view {
        if (batch.l1Number < last) revert OriginRegressed(last, batch.l1Number);
        if (batch.l1Number >= block.number) revert OriginInFuture(batch.l1Number, block.number);
        uint256 age = block.number - batch.l1Number;
        bytes32 expected;
        if (age <= 256) {
            expected = blockhash(batch.l1Number);
        } else if (age <= HISTORY_BLOCKS) {
            expected = historyHash(batch.l1Number);
        } else {
            // Too old for the chain to tell; a batch must not become invalid by waiting.
            return;
        }
        // The history contract starts empty at its fork, and a test chain may lack it: unknown is unchecked.
        if (expected != 0 && expected != batch.l1Hash) revert BadOrigin(batch.l1Number, expected, batch.l1Hash);
    }

    function historyHash(uint64 l1Number) private view returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0, l1Number)
            if staticcall(gas(), HISTORY, 0, 32, 0, 32) {
                if eq(returndatasize(), 32) { hash := mload(0) }
            }
        }
    }

    /// The cursor moves on within the queue, and past every item that is due at the batch's L1 origin, or at least
    /// FORCED_PER_BATCH of them. What was escaped is not due any more. Sets the batch's accumulator.
    function checkForced(Batch memory batch, Cursor memory cursor) private view {
        uint64 forcedTo = batch.forcedTo;
        if (forcedTo < cursor.forcedTo || forcedTo > cursor.forcedTail) {
            revert BadForcedCursor(cursor.forcedTo, cursor.forcedTail, forcedTo);
        }
        batch.forcedHash = forcedHashAt(uint32(forcedTo));
        uint64 head = forcedHead(cursor);
        uint64 next = forcedTo > head ? forcedTo : head;
        if (next < cursor.forcedTail && next - head < FORCED_PER_BATCH) {
            uint256 dueAt = forcedBlock(forcedItem[uint32(next)]) + forcedBlocks;
            if (batch.l1Number >= dueAt) revert ForcedInclusionDue(next, dueAt, batch.l1Number);
        }
    }

    /// Checks data, successor and certificate, and makes the batch the last one.
    function accept(
        Batch memory batch,
        Cursor memory cursor,
        bytes32 data,
        bytes calldata header,
        bytes calldata certificate
    ) private {
        Present memory now_ = present_;
        if (block.timestamp < now_.pausedUntil) revert Paused(now_.pausedUntil);
        if (batch.epoch != now_.epoch) revert WrongEpoch(now_.epoch, batch.epoch);
        if (batch.data != data) revert BadData(data, batch.data);
        batch.network = network;
        bytes32 hash = BatchLib.hash(batch);
        uint256 signers = certified(batch, hash, now_.committee, certificate);
        batchHash[batch.number] = hash;
        cursor.nextNumber++;
        cursor.lastHeight = uint48(batch.lastHeight);
        cursor.forcedTo = uint32(batch.forcedTo);
        cursor.l1Number = uint40(batch.l1Number);
        cursor.postedBlock = uint40(block.number);
        cursor_ = cursor;
        emit BatchPosted(batch.number, hash, msg.sender, header, batch.forcedHash, signers);
        if (batch.nextCommittee != 0) activate(batch, now_);
    }

    /// Has the scheme of the present committee check the certificate. Returns how many signed.
    function certified(Batch memory batch, bytes32 hash, address committee, bytes calldata certificate)
        private
        view
        returns (uint256)
    {
        bytes32 digest = Eip712.digest(domain, BatchLib.attestation(batch.epoch, batch.number, hash));
        (,,, address verifier) = CommitteeCode.head(committee);
        return ICertificateVerifier(verifier).verify(committee, digest, certificate);
    }

    /// Begins the next epoch. Its committee must be installed already: a batch whose successor cannot be is not posted.
    function activate(Batch memory batch, Present memory now_) private {
        uint64 epoch = batch.epoch + 1;
        present_ = Present(installed(batch.nextCommittee, epoch), uint48(epoch), now_.pausedUntil);
        // The end of epoch e decides the committee of e + 2. The one that begins now was decided one end before.
        fixed_ = Fixed(fixed_.next, batch.l1Number);
        emit CommitteeActivated(epoch, batch.nextCommittee, present_.committee);
    }

    function installed(bytes32 hash, uint64 epoch) private view returns (address committee) {
        committee = registry.committeeOf(hash);
        if (committee == address(0)) revert CommitteeMissing(hash);
        (,, uint64 its,) = CommitteeCode.head(committee);
        if (its != epoch) revert WrongEpoch(epoch, its);
    }

    function setPausedUntil(uint64 until) internal override {
        present_.pausedUntil = uint48(until);
    }
}
