// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FTest} from "./FTest.sol";
import {BatchInbox, Parameters} from "../src/BatchInbox.sol";
import {BlsCertificateVerifier} from "../src/BlsCertificateVerifier.sol";
import {CommitteeRegistry, ICommitteeClock, Registration} from "../src/CommitteeRegistry.sol";
import {EcdsaCertificateVerifier} from "../src/EcdsaCertificateVerifier.sol";
import {Evidence, IBatchHashes} from "../src/Evidence.sol";
import {ICertificateVerifier} from "../src/ICertificateVerifier.sol";
import {Cursor} from "../src/InboxState.sol";
import {Batch, BatchLib} from "../src/lib/BatchLib.sol";
import {Ed25519Key} from "../src/lib/Ed25519Key.sol";

/// A network of `size` members that starts with an ECDSA committee, and what it takes to post for it.
abstract contract Fixture is FTest {
    bytes32 internal constant NETWORK = keccak256("network");
    uint256 internal constant BOND = 1 ether;
    uint64 internal constant UNBONDING = 14 days;
    uint64 internal constant FORCED_BLOCKS = 64;
    uint64 internal constant ESCAPE_BLOCKS = 7200;
    uint256 internal constant FEE = 0.0001 ether;
    address internal constant GUARDIAN = address(0x60a7d);
    address internal constant TREASURY = address(0x7ea5);

    CommitteeRegistry internal registry;
    BatchInbox internal inbox;
    Evidence internal evidence;
    uint256 internal size;
    /// What was posted last.
    Batch internal last;

    function deploy(uint256 size_) internal {
        size = size_;
        vm.roll(1000);
        vm.warp(1_800_000_000);
        ICertificateVerifier[] memory verifiers = new ICertificateVerifier[](2);
        verifiers[0] = new EcdsaCertificateVerifier();
        verifiers[1] = new BlsCertificateVerifier();
        registry = new CommitteeRegistry(NETWORK, address(this), BOND, UNBONDING, 7 days, verifiers);
        for (uint256 i = 0; i < size; i++) {
            join(i);
            registry.approve(attestationOf(i));
        }
        registry.install(0, 1, roster());
        bytes32 committee = registry.committeeHash(0, 1, roster());
        inbox = new BatchInbox(
            registry, Parameters(committee, 0, GUARDIAN, TREASURY, FORCED_BLOCKS, ESCAPE_BLOCKS, FEE)
        );
        evidence = new Evidence(registry, IBatchHashes(address(inbox)), 50_400);
        registry.wire(ICommitteeClock(address(inbox)), address(evidence));
        advance(10);
    }

    function advance(uint256 blocks) internal {
        vm.roll(block.number + blocks);
        vm.warp(block.timestamp + 12 * blocks);
    }

    // ---- members ----

    function keyOf(uint256 i) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("attestation", i))) >> 1;
    }

    function attestationOf(uint256 i) internal pure returns (address) {
        return vm.addr(keyOf(i));
    }

    function operatorOf(uint256 i) internal pure returns (address) {
        return address(uint160(0x0be7a7000 + i));
    }

    /// A key that decodes to a point; about every second hash does.
    function ed25519Of(string memory what, uint256 i) internal view returns (bytes32 key) {
        key = keccak256(abi.encode(what, i));
        while (!Ed25519Key.isUsable(key)) key = keccak256(abi.encode(key));
    }

    function formOf(uint256 i) internal view returns (Registration memory form) {
        form.attestation = attestationOf(i);
        form.consensusKey = ed25519Of("consensus", i);
        form.peerKey = ed25519Of("peer", i);
        form.consensusProof = new bytes(64);
        form.peerProof = new bytes(64);
        bytes32 digest = registry.registrationDigest(operatorOf(i), form.attestation, form.consensusKey, form.peerKey, 0);
        (form.r, form.vs) = sign2098(keyOf(i), digest);
    }

    function join(uint256 i) internal {
        Registration memory form = formOf(i);
        vm.deal(operatorOf(i), BOND);
        vm.prank(operatorOf(i));
        registry.register{value: BOND}(form);
    }

    function roster() internal view returns (bytes memory out) {
        for (uint256 i = 0; i < size; i++) out = bytes.concat(out, bytes20(attestationOf(i)));
    }

    // ---- signatures ----

    function sign2098(uint256 key, bytes32 digest) internal pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        (v, r, vs) = vm.sign(key, digest);
        if (v == 28) vs |= bytes32(uint256(1) << 255);
    }

    /// The certificate of the members whose bits are set.
    function certificateOf(bytes32 digest, uint256 bits) internal view returns (bytes memory out) {
        out = abi.encodePacked(bytes32(bits << (256 - 8 * ((size + 7) / 8))));
        uint256 width = (size + 7) / 8;
        assembly ("memory-safe") {
            mstore(out, width)
        }
        for (uint256 i = 0; i < size; i++) {
            if ((bits >> i) & 1 == 1) {
                (bytes32 r, bytes32 vs) = sign2098(keyOf(i), digest);
                out = bytes.concat(out, r, vs);
            }
        }
    }

    function leastQuorum() internal view returns (uint256) {
        return (1 << (size - (size - 1) / 3)) - 1;
    }

    // ---- batches ----

    /// A batch that the inbox accepts now, consuming forced items up to `forcedTo`.
    function nextBatch(uint64 forcedTo) internal view returns (Batch memory batch) {
        Cursor memory cursor = inbox.cursor();
        batch.network = NETWORK;
        batch.number = cursor.nextNumber;
        batch.epoch = inbox.present().epoch;
        batch.firstHeight = uint64(cursor.lastHeight) + 1;
        batch.lastHeight = batch.firstHeight + 9;
        batch.parent = batch.number == 0 ? bytes32(0) : inbox.batchHash(batch.number - 1);
        batch.lastBlock = keccak256(abi.encode("block", batch.lastHeight));
        batch.namespaces = keccak256(abi.encode("namespaces", batch.number));
        batch.l1Number = uint64(block.number - 1);
        batch.l1Hash = blockhash(block.number - 1);
        batch.forcedTo = forcedTo;
        if (forcedTo != cursor.forcedTo) batch.forcedHash = inbox.forcedHashAt(uint32(forcedTo));
    }

    function nextBatch() internal view returns (Batch memory) {
        return nextBatch(inbox.cursor().forcedTo);
    }

    function blobs() internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](2);
        hashes[0] = bytes32(uint256(1) << 248 | 7);
        hashes[1] = bytes32(uint256(1) << 248 | 8);
    }

    /// What `blobs` give.
    function blobsData() internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(1), blobs()));
    }

    function headerOf(Batch memory batch) internal pure returns (bytes memory) {
        return headerOf(batch, blobsData());
    }

    function headerOf(Batch memory b, bytes32 data) internal pure returns (bytes memory out) {
        out = abi.encodePacked(b.number, b.epoch, b.firstHeight, b.lastHeight, b.l1Number, b.forcedTo);
        out = bytes.concat(out, b.lastBlock, b.namespaces, data, b.l1Hash);
        if (b.nextCommittee | b.faults != 0) out = bytes.concat(out, b.nextCommittee, b.faults);
    }

    function hashOf(Batch memory batch) internal pure returns (bytes32) {
        return keccak256(abi.encode(BatchLib.TYPE, batch));
    }

    /// What members sign for a batch in `blobs`.
    function digestOf(Batch memory batch) internal view returns (bytes32) {
        return inbox.attestationDigest(batch, blobsData());
    }

    function post(Batch memory batch) internal {
        postWith(batch, certificateOf(digestOf(batch), leastQuorum()));
        last = batch;
    }

    function postWith(Batch memory batch, bytes memory certificate) internal {
        vm.blobhashes(blobs());
        inbox.post(headerOf(batch), certificate);
    }

    /// Posts, and expects the inbox to refuse with `reason`.
    function refused(Batch memory batch, bytes memory reason) internal {
        bytes memory certificate = certificateOf(digestOf(batch), leastQuorum());
        vm.blobhashes(blobs());
        vm.expectRevert(reason);
        inbox.post(headerOf(batch), certificate);
    }

    function force(uint64 rollup, bytes memory payload) internal returns (uint32) {
        uint256 fee = inbox.forcedFeeNow();
        vm.deal(address(this), fee);
        return inbox.enqueueForced{value: fee}(rollup, payload);
    }
}
