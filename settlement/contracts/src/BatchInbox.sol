// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICertificateVerifier} from "./ICertificateVerifier.sol";
import {BadParameter, CommitteeStore} from "./CommitteeStore.sol";
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
    uint256 private constant LAST_HEIGHT_MAX = type(uint48).max;
    /// An epoch is kept in 48 bits, and there are fewer epochs than batches, which are counted in 32.
    uint256 private constant GENESIS_EPOCH_MAX = type(uint32).max;
    /// The fee doubles less than 128 times.
    uint256 private constant FORCED_FEE_MAX = type(uint128).max;
    /// Seconds of a slot of L1.
    uint256 private constant SLOT = 12;

    CommitteeStore public immutable registry;
    bytes32 public immutable network;
    bytes32 private immutable domain;

    /// The present committee.
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

    /// A `Present` in one word, committee lowest: a post reads it, the end of an epoch and a pause write it.
    uint256 private present_;
    Fixed private fixed_;

    /// `header` is what was posted: the data's hash, and all of the batch but `network`, `parent` and `forcedHash`, the
    /// accumulator of the last item that it consumed.
    event BatchPosted(
        uint64 indexed number, bytes32 indexed hash, bytes header
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
        if (parameters.genesisEpoch > GENESIS_EPOCH_MAX) revert BadParameter(parameters.genesisEpoch);
        if (parameters.treasury == address(0)) revert BadParameter(0);
        if (parameters.forcedFee > FORCED_FEE_MAX) revert BadParameter(parameters.forcedFee);
        // Else a pause alone would open the escape. Without a guardian there is no pause.
        if (parameters.guardian != address(0) && parameters.escapeBlocks * SLOT <= PAUSE) {
            revert BadParameter(parameters.escapeBlocks);
        }
        registry = registry_;
        network = registry_.network();
        domain = Eip712.domain(address(this));
        Cursor memory current;
        current.postedBlock = uint40(block.number);
        writeCursor(current);
        begin(parameters.committee, parameters.genesisEpoch, 0);
    }

    /// Posts the next batch, its segments in the blobs of this transaction. Anybody who holds a certificate may.
    function post(bytes calldata header, bytes calldata certificate) external {
        Batch memory batch = BatchLib.decode(header);
        Cursor memory current = readCursor();
        follows(batch, current);
        bytes32 data = BatchLib.blobData();
        if (data == 0) revert NoBlobs();
        accept(batch, current, data, header, certificate);
    }

    /// Posts the next batch, its segments in `payload`: cheaper than a blob where they are tiny.
    function postCalldata(bytes calldata header, bytes calldata certificate, bytes calldata payload) external {
        Batch memory batch = BatchLib.decode(header);
        Cursor memory current = readCursor();
        follows(batch, current);
        accept(batch, current, BatchLib.calldataData(payload), header, certificate);
        emit BatchPayload(batch.number, payload);
    }

    /// What members sign for `batch` found in `data`.
    function attestationDigest(Batch calldata batch, bytes32 data) external view returns (bytes32) {
        bytes32 hash = BatchLib.hash(batch);
        return Eip712.digest(domain, BatchLib.attestation(batch.epoch, batch.number, hash, data));
    }

    /// The present epoch, its committee, and the Unix time until which posting is held up.
    function present() external view returns (Present memory) {
        return readPresent();
    }

    /// The L1 origin at which the present committee was decided on: an exit known there is in effect.
    function committeeFixedAt() external view returns (uint64) {
        return fixed_.present;
    }

    /// The L1 block of the last post, or of the deployment.
    function postedBlock() external view returns (uint64) {
        return readCursor().postedBlock;
    }

    /// Checks all that the batches before decide: number, heights, L1 origin, forced cursor. Sets the parent.
    function follows(Batch memory batch, Cursor memory current) private view {
        uint64 number = current.nextNumber;
        if (batch.number < number) revert AlreadyPosted(batch.number);
        if (batch.number > number) revert NumberGap(number, batch.number);
        unchecked {
            // Nothing is kept under the number before 0, so the first batch has the parent zero. A batch that was signed for
            // another parent fails by its certificate.
            batch.parent = batchHash[number - 1];
        }
        uint64 firstHeight;
        unchecked {
            firstHeight = uint64(current.lastHeight) + 1;
        }
        if (batch.firstHeight != firstHeight || batch.lastHeight < firstHeight || batch.lastHeight > LAST_HEIGHT_MAX) {
            revert BadHeights(firstHeight, batch.firstHeight, batch.lastHeight);
        }
        checkOrigin(batch, current.l1Number);
        checkForced(batch, current);
    }

    /// The origin is a block of this chain, as far back as the chain can tell, and not before the last batch's.
    function checkOrigin(Batch memory batch, uint64 last) private view {
        if (batch.l1Number < last) revert OriginRegressed(last, batch.l1Number);
        if (batch.l1Number >= block.number) revert OriginInFuture(batch.l1Number, block.number);
        // The opcode knows 256 blocks and is cheaper; beyond, the history contract knows 8191. What is older is unchecked: a
        // batch must not become invalid by waiting. So it is on a chain without the contract.
        bytes32 expected = blockhash(batch.l1Number);
        if (expected == 0) expected = historyHash(batch.l1Number);
        if (expected != batch.l1Hash && expected != 0) revert BadOrigin(batch.l1Number, expected, batch.l1Hash);
    }

    function historyHash(uint64 l1Number) private view returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0, l1Number)
            if staticcall(gas(), HISTORY, 0, 32, 0, 32) {
                if eq(returndatasize(), 32) { hash := mload(0) }
            }
        }
    }

    /// The cursor moves on within the queue, and past every item that is due at the batch's L1 origin, or by at least
    /// FORCED_PER_BATCH items. What was escaped is not due any more. Sets the accumulator where the cursor moves.
    ///
    /// The cap counts from the certified cursor, which only batches move: an escape that comes between a batch's
    /// signatures and its post may only take due items away.
    function checkForced(Batch memory batch, Cursor memory current) private view {
        uint64 forcedTo = batch.forcedTo;
        if (forcedTo < current.forcedTo || forcedTo > current.forcedTail) {
            revert BadForcedCursor(current.forcedTo, current.forcedTail, forcedTo);
        }
        if (forcedTo != current.forcedTo) batch.forcedHash = forcedItem[uint32(forcedTo) - 1];
        if (forcedTo == current.forcedTail) return;
        uint64 next = forcedTo > current.escapedTo ? forcedTo : current.escapedTo;
        if (next != current.forcedTail && forcedTo - current.forcedTo < FORCED_PER_BATCH) {
            uint256 dueAt = forcedBlock(forcedItem[uint32(next)]) + forcedBlocks;
            if (batch.l1Number >= dueAt) revert ForcedInclusionDue(next, dueAt, batch.l1Number);
        }
    }

    /// Checks data, successor and certificate, and makes the batch the last one.
    function accept(
        Batch memory batch,
        Cursor memory current,
        bytes32 data,
        bytes calldata header,
        bytes calldata certificate
    ) private {
        Present memory now_ = readPresent();
        if (block.timestamp < now_.pausedUntil) revert Paused(now_.pausedUntil);
        if (batch.epoch != now_.epoch) revert WrongEpoch(now_.epoch, batch.epoch);
        if (BatchLib.dataOf(header) != data) revert BadData(data, BatchLib.dataOf(header));
        batch.network = network;
        bytes32 hash = BatchLib.hash(batch);
        certified(batch, hash, data, now_.committee, certificate);
        batchHash[batch.number] = hash;
        current.nextNumber++;
        current.lastHeight = uint48(batch.lastHeight);
        current.forcedTo = uint32(batch.forcedTo);
        current.l1Number = uint40(batch.l1Number);
        current.postedBlock = uint40(block.number);
        writeCursor(current);
        emit BatchPosted(batch.number, hash, header);
        if (batch.nextCommittee != 0) activate(batch, now_);
    }

    /// Has the scheme of the present committee check the certificate.
    function certified(
        Batch memory batch,
        bytes32 hash,
        bytes32 data,
        address committee,
        bytes calldata certificate
    ) private view {
        bytes32 digest = Eip712.digest(domain, BatchLib.attestation(batch.epoch, batch.number, hash, data));
        (,,, address verifier) = CommitteeCode.head(committee);
        ICertificateVerifier(verifier).verify(committee, digest, certificate);
    }

    /// Begins the next epoch. Its committee must be installed already: a batch whose successor cannot be is not posted.
    function activate(Batch memory batch, Present memory now_) private {
        begin(batch.nextCommittee, batch.epoch + 1, now_.pausedUntil);
        // The end of epoch e decides the committee of e + 2. The one that begins now was decided one end before.
        fixed_ = Fixed(fixed_.next, batch.l1Number);
    }

    /// Makes the installed committee with `hash` the present one.
    function begin(bytes32 hash, uint64 epoch, uint48 pausedUntil) private {
        address committee = registry.committeeOf(hash);
        if (committee == address(0)) revert CommitteeMissing(hash);
        (,, uint64 its,) = CommitteeCode.head(committee);
        if (its != epoch) revert WrongEpoch(epoch, its);
        writePresent(Present(committee, uint48(epoch), pausedUntil));
        emit CommitteeActivated(epoch, hash, committee);
    }

    function readPresent() private view returns (Present memory now_) {
        uint256 word = present_;
        now_.committee = address(uint160(word));
        now_.epoch = uint48(word >> 160);
        now_.pausedUntil = uint48(word >> 208);
    }

    function writePresent(Present memory now_) private {
        present_ = uint160(now_.committee) | (uint256(now_.epoch) << 160) | (uint256(now_.pausedUntil) << 208);
    }

    function setPausedUntil(uint64 until) internal override {
        Present memory now_ = readPresent();
        now_.pausedUntil = uint48(until);
        writePresent(now_);
    }
}
