// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FTest} from "./FTest.sol";
import {CommitteeRegistry, Registration, Status} from "../src/CommitteeRegistry.sol";
import {Evidence, Fault, IBatchHashes} from "../src/Evidence.sol";
import {ForcedQueue} from "../src/ForcedQueue.sol";
import {ICertificateVerifier} from "../src/ICertificateVerifier.sol";
import {BadAbsenceShape, BatchNotPosted, Namespace, NamespaceProofs} from "../src/NamespaceProofs.sol";
import {Batch, BatchLib} from "../src/lib/BatchLib.sol";
import {Bls12381} from "../src/lib/Bls12381.sol";
import {EcdsaLib} from "../src/lib/EcdsaLib.sol";
import {Eip712} from "../src/lib/Eip712.sol";
import {MerkleLib, MerkleProof} from "../src/lib/MerkleLib.sol";

/// The proofs alone, with a door to mark a batch as posted.
contract Proofs is NamespaceProofs {
    function mark(uint64 number, bytes32 hash) external {
        batchHash[number] = hash;
    }

    function decode(bytes calldata header) external pure returns (Batch memory) {
        return BatchLib.decode(header);
    }

    function proves(MerkleProof calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool) {
        return MerkleLib.proves(proof, root, leaf);
    }

    function blobData() external view returns (bytes32) {
        return BatchLib.blobData();
    }

    function dataOf(bytes calldata header) external pure returns (bytes32) {
        return BatchLib.dataOf(header);
    }

    function calldataData(bytes calldata payload) external pure returns (bytes32) {
        return BatchLib.calldataData(payload);
    }

    function blsVerifies(bytes32 digest, bytes calldata key, bytes calldata signature) external view returns (bool) {
        return Bls12381.verifies(Bls12381.SIGNATURE_DST, digest, Bls12381.unpack(key), signature);
    }
}

contract Queue is ForcedQueue(1, 1, 1, address(1)) {}

/// The vectors of types/ and of vectors/, computed apart from this code, hold here.
contract VectorsTest is FTest {
    Proofs private proofs;
    string private json;

    function setUp() public {
        proofs = new Proofs();
        json = vm.readFile("vectors/settlement.json");
    }

    function hash32(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, path);
    }

    function number(string memory path) private view returns (uint64) {
        return uint64(vm.parseJsonUint(json, path));
    }

    function proofAt(string memory from, string memory path) private pure returns (MerkleProof memory proof) {
        proof.index = uint64(vm.parseJsonUint(from, string.concat(path, ".index")));
        proof.count = uint64(vm.parseJsonUint(from, string.concat(path, ".count")));
        proof.siblings = vm.parseJsonBytes32Array(from, string.concat(path, ".siblings"));
    }

    function place(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    function batchOf() private view returns (Batch memory b) {
        b.network = hash32(".batch.fields.network");
        b.number = number(".batch.fields.number");
        b.epoch = number(".batch.fields.epoch");
        b.firstHeight = number(".batch.fields.firstHeight");
        b.lastHeight = number(".batch.fields.lastHeight");
        b.parent = hash32(".batch.fields.parent");
        b.lastBlock = hash32(".batch.fields.lastBlock");
        b.namespaces = hash32(".batch.fields.namespaces");
        b.l1Number = number(".batch.fields.l1Number");
        b.l1Hash = hash32(".batch.fields.l1Hash");
        b.forcedTo = number(".batch.fields.forcedTo");
        b.forcedHash = hash32(".batch.fields.forcedHash");
        b.nextCommittee = hash32(".batch.fields.nextCommittee");
        b.faults = hash32(".batch.fields.faults");
    }

    function namespaceAt(uint256 i) private view returns (Namespace memory leaf) {
        string memory path = place(".namespaces.leaves", i);
        leaf.rollup = number(string.concat(path, ".rollup"));
        leaf.firstSequence = number(string.concat(path, ".firstSequence"));
        leaf.count = number(string.concat(path, ".count"));
        leaf.head = hash32(string.concat(path, ".head"));
        leaf.transactionsRoot = hash32(string.concat(path, ".transactionsRoot"));
    }

    function test_merkle_vectors_of_types_hold() public view {
        string memory trees = vm.readFile("../../types/vectors/merkle.json");
        uint256 count;
        while (vm.keyExistsJson(trees, place("", count))) count++;
        assertTrue(count >= 5, "trees");
        uint256 proved;
        for (uint256 i = 0; i < count; i++) {
            bytes32 root = vm.parseJsonBytes32(trees, string.concat(place("", i), ".root"));
            bytes32[] memory leaves = vm.parseJsonBytes32Array(trees, string.concat(place("", i), ".leafHashes"));
            if (leaves.length == 0) assertEq(root, MerkleLib.EMPTY, "empty");
            for (uint256 j = 0; vm.keyExistsJson(trees, place(string.concat(place("", i), ".proofs"), j)); j++) {
                MerkleProof memory proof = proofAt(trees, place(string.concat(place("", i), ".proofs"), j));
                bytes32 leaf = leaves[proof.index];
                assertEq(
                    leaf,
                    MerkleLib.leafHash(
                        vm.parseJsonBytes(trees, place(string.concat(place("", i), ".leaves"), proof.index))
                    ),
                    "leaf"
                );
                assertTrue(proofs.proves(proof, root, leaf), "proof");
                assertTrue(!proofs.proves(proof, root, bytes32(uint256(leaf) ^ 1)), "another leaf");
                proof.count += 1;
                assertTrue(!proofs.proves(proof, root, leaf), "another count");
                proved++;
            }
        }
        assertTrue(proved >= 10, "proofs");
    }

    function test_batch_hash_digest_and_header() public {
        Batch memory batch = batchOf();
        assertEq(BatchLib.hash(batch), hash32(".batch.hash"), "hash");
        bytes32 digest = digestOf(batch);
        assertEq(digest, hash32(".batch.digest"), "digest");
        address signer = EcdsaLib.recover(digest, hash32(".batch.r"), hash32(".batch.vs"));
        assertEq(signer, vm.parseJsonAddress(json, ".batch.attestation"), "signer");
        Batch memory decoded = proofs.decode(vm.parseJsonBytes(json, ".batch.header"));
        (decoded.network, decoded.parent, decoded.forcedHash) = (batch.network, batch.parent, batch.forcedHash);
        assertEq(BatchLib.hash(decoded), hash32(".batch.hash"), "header");
        assertEq(proofs.dataOf(vm.parseJsonBytes(json, ".batch.header")), hash32(".batch.data"), "data of the header");
        decoded = proofs.decode(vm.parseJsonBytes(json, ".batch.shortHeader"));
        (decoded.network, decoded.parent, decoded.forcedHash) = (batch.network, batch.parent, batch.forcedHash);
        assertEq(BatchLib.hash(decoded), hash32(".batch.shortHash"), "short header");
        vm.blobhashes(vm.parseJsonBytes32Array(json, ".batch.blobs"));
        assertEq(proofs.blobData(), hash32(".batch.data"), "blobs");
        bytes memory payload = vm.parseJsonBytes(json, ".batch.calldata");
        assertEq(proofs.calldataData(payload), hash32(".batch.calldataData"), "calldata");
    }

    function digestOf(Batch memory batch) private returns (bytes32) {
        vm.chainId(number(".chainId"));
        bytes32 domain = Eip712.domain(vm.parseJsonAddress(json, ".inbox"));
        bytes32 hash = BatchLib.hash(batch);
        bytes32 attestation = BatchLib.attestation(batch.epoch, batch.number, hash, hash32(".batch.data"));
        return Eip712.digest(domain, attestation);
    }

    function test_bls_signatures_of_another_library_hold() public view {
        bytes32 digest = hash32(".batch.digest");
        bytes memory key = vm.parseJsonBytes(json, ".bls.key");
        bytes memory signature = vm.parseJsonBytes(json, ".bls.signature");
        assertTrue(proofs.blsVerifies(digest, key, signature), "signature");
        assertTrue(!proofs.blsVerifies(keccak256("another"), key, signature), "another digest");
        assertTrue(!proofs.blsVerifies(digest, vm.parseJsonBytes(json, ".bls.otherKey"), signature), "another key");
        bytes memory sum = Bls12381.unpack(key);
        Bls12381.add(sum, Bls12381.unpack(vm.parseJsonBytes(json, ".bls.otherKey")));
        bytes memory aggregate = vm.parseJsonBytes(json, ".bls.aggregate");
        assertTrue(proofs.blsVerifies(digest, Bls12381.pack(sum), aggregate), "aggregate");
    }

    function test_forced_items() public {
        Queue queue = new Queue();
        bytes32 item;
        for (uint256 i = 0; i < 2; i++) {
            string memory path = place(".forced", i);
            item = queue.forcedAccumulator(
                item,
                number(string.concat(path, ".rollup")),
                vm.parseJsonAddress(json, string.concat(path, ".sender")),
                keccak256(vm.parseJsonBytes(json, string.concat(path, ".payload"))),
                number(string.concat(path, ".block"))
            );
            assertEq(item, hash32(string.concat(path, ".item")), "item");
        }
    }

    function test_namespaces_and_transactions_are_proved_where_they_stand() public {
        Batch memory batch = batchOf();
        vm.expectRevert(abi.encodeWithSelector(BatchNotPosted.selector, batch.number, hash32(".batch.hash")));
        proofs.verifyNamespace(batch, namespaceAt(0), proofAt(json, ".namespaces.leaves[0].proof"));
        proofs.mark(batch.number, hash32(".batch.hash"));
        for (uint256 i = 0; i < 5; i++) {
            Namespace memory leaf = namespaceAt(i);
            assertEq(proofs.namespaceLeaf(leaf), hash32(string.concat(place(".namespaces.leaves", i), ".leaf")), "leaf");
            MerkleProof memory proof = proofAt(json, string.concat(place(".namespaces.leaves", i), ".proof"));
            assertTrue(proofs.verifyNamespace(batch, leaf, proof), "present");
            for (uint256 t = 0; t < 3; t++) {
                bytes32 transaction = hash32(place(".namespaces.transactions", t));
                MerkleProof memory path = proofAt(json, place(".namespaces.transactionProofs", t));
                assertTrue(proofs.verifyTransaction(batch, leaf, proof, transaction, path), "transaction");
                assertTrue(!proofs.verifyTransaction(batch, leaf, proof, keccak256("no"), path), "no transaction");
            }
            leaf.count += 1;
            assertTrue(!proofs.verifyNamespace(batch, leaf, proof), "another leaf");
        }
    }

    function testFuzz_absence_is_proved_exactly_where_it_is(uint64 rollup, uint256 left) public {
        Batch memory batch = batchOf();
        proofs.mark(batch.number, hash32(".batch.hash"));
        left = bound(left, 0, 3);
        rollup = uint64(bound(rollup, 0, 100_000));
        Namespace[] memory leaves = new Namespace[](2);
        MerkleProof[] memory paths = new MerkleProof[](2);
        for (uint256 i = 0; i < 2; i++) {
            leaves[i] = namespaceAt(left + i);
            paths[i] = proofAt(json, string.concat(place(".namespaces.leaves", left + i), ".proof"));
        }
        bool between = leaves[0].rollup < rollup && rollup < leaves[1].rollup;
        assertTrue(proofs.verifyAbsence(batch, rollup, leaves, paths) == between, "between");
        Namespace[] memory one = new Namespace[](1);
        MerkleProof[] memory path = new MerkleProof[](1);
        (one[0], path[0]) = (leaves[0], paths[0]);
        bool before = left == 0 && rollup < 7;
        assertTrue(proofs.verifyAbsence(batch, rollup, one, path) == before, "before the first");
        assertTrue(!proofs.verifyAbsence(batch, rollup, new Namespace[](0), new MerkleProof[](0)), "not empty");
        vm.expectRevert(abi.encodeWithSelector(BadAbsenceShape.selector, 2, 1));
        proofs.verifyAbsence(batch, rollup, leaves, path);
    }

    function testFuzz_absence_answers_whatever_it_is_given(
        uint256 left,
        uint256 right,
        uint64[4] calldata numbers,
        bool keep
    ) public {
        Batch memory batch = batchOf();
        proofs.mark(batch.number, hash32(".batch.hash"));
        Namespace[] memory leaves = new Namespace[](2);
        MerkleProof[] memory paths = new MerkleProof[](2);
        uint256[2] memory picked = [bound(left, 0, 4), bound(right, 0, 4)];
        for (uint256 i = 0; i < 2; i++) {
            leaves[i] = namespaceAt(picked[i]);
            paths[i] = proofAt(json, string.concat(place(".namespaces.leaves", picked[i]), ".proof"));
            if (!keep) (paths[i].index, paths[i].count) = (numbers[2 * i], numbers[2 * i + 1]);
        }
        // Swapped, the same twice, not neighbours, or of a tree of any size: an answer, and no panic.
        bool holds = keep && picked[0] + 1 == picked[1];
        // Zero after the greatest, and then there is nothing to the right of it.
        uint64 between = uint64(uint256(leaves[0].rollup) + 1);
        bool absent = proofs.verifyAbsence(batch, between, leaves, paths);
        assertTrue(absent == (holds && leaves[0].rollup < between && between < leaves[1].rollup), "answer");
    }

    function test_absence_by_swapped_leaves_and_hostile_counts_is_false() public {
        Batch memory batch = batchOf();
        proofs.mark(batch.number, hash32(".batch.hash"));
        Namespace[] memory leaves = new Namespace[](2);
        MerkleProof[] memory paths = new MerkleProof[](2);
        for (uint256 i = 0; i < 2; i++) {
            leaves[i] = namespaceAt(1 - i);
            paths[i] = proofAt(json, string.concat(place(".namespaces.leaves", 1 - i), ".proof"));
        }
        assertTrue(!proofs.verifyAbsence(batch, 100, leaves, paths), "swapped");
        uint64 most = type(uint64).max;
        uint64[2][4] memory hostile = [[most - 1, most], [most, most], [most, 0], [uint64(0), 0]];
        for (uint256 i = 0; i < hostile.length; i++) {
            (paths[0].index, paths[0].count) = (hostile[i][0], hostile[i][1]);
            (paths[1].index, paths[1].count) = (hostile[i][0], hostile[i][1]);
            assertTrue(!proofs.verifyAbsence(batch, 100, leaves, paths), "hostile");
        }
        Namespace[] memory one = new Namespace[](1);
        MerkleProof[] memory path = new MerkleProof[](1);
        (one[0], path[0]) = (leaves[1], paths[1]);
        assertTrue(!proofs.verifyAbsence(batch, 1, one, path), "hostile alone");
    }

    function test_committee_registration_and_fault() public {
        vm.chainId(number(".chainId"));
        ICertificateVerifier[] memory none = new ICertificateVerifier[](0);
        CommitteeRegistry fresh = new CommitteeRegistry(hash32(".network"), address(this), 1, 2, 0, none);
        // The digest binds the registry's address: its code goes to the vector's.
        address its = vm.parseJsonAddress(json, ".registry");
        vm.etch(its, address(fresh).code);
        CommitteeRegistry registry = CommitteeRegistry(its);
        assertEq(
            registry.committeeHash(
                number(".committee.epoch"), uint8(number(".committee.scheme")), vm.parseJsonBytes(json, ".committee.roster")
            ),
            hash32(".committee.hash"),
            "committee"
        );
        Registration memory form;
        form.attestation = vm.parseJsonAddress(json, ".registration.attestation");
        form.consensusKey = hash32(".registration.consensusKey");
        form.peerKey = hash32(".registration.peerKey");
        form.blsKey = vm.parseJsonBytes(json, ".registration.blsKey");
        form.r = hash32(".registration.r");
        form.vs = hash32(".registration.vs");
        form.blsProof = vm.parseJsonBytes(json, ".registration.blsProof");
        form.consensusProof = vm.parseJsonBytes(json, ".registration.consensusProof");
        form.peerProof = vm.parseJsonBytes(json, ".registration.peerProof");
        address operator = vm.parseJsonAddress(json, ".registration.operator");
        assertEq(
            registry.registrationDigest(
                operator, form.attestation, form.consensusKey, form.peerKey, keccak256(form.blsKey)
            ),
            hash32(".registration.digest"),
            "registration"
        );
        vm.deal(operator, 1);
        vm.prank(operator);
        registry.register{value: 1}(form);
        assertTrue(registry.memberOf(form.attestation).status == Status.Registered, "registered with every key");
        Fault memory fault = Fault(
            uint8(number(".fault.kind")), number(".fault.epoch"), number(".fault.height"),
            uint32(number(".fault.round")), vm.parseJsonAddress(json, ".fault.attestation"),
            hash32(".fault.consensusKey"), hash32(".fault.proof")
        );
        CommitteeRegistry patient = new CommitteeRegistry(hash32(".network"), address(this), 1, 13, 0, none);
        Evidence evidence = new Evidence(patient, IBatchHashes(address(1)), 1);
        assertEq(evidence.faultLeaf(fault), hash32(".fault.leaf"), "fault");
    }
}
