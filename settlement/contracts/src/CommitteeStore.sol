// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CommitteeCode} from "./lib/CommitteeCode.sol";
import {ICertificateVerifier} from "./ICertificateVerifier.sol";

/// A deployment was asked for with a value that cannot work.
error BadParameter(uint256 value);
error UnknownScheme(uint8 scheme);
error SchemeTaken(uint8 scheme);
/// The key at `index` of the roster was never registered.
error UnknownKey(uint256 index);
/// Members of a roster stand in the order of their ids, each once.
error RosterUnordered(uint256 index);
error AlreadyInstalled(bytes32 hash);

/// Committees by their hash, and which verifier serves which scheme.
///
/// Anybody may install a committee: a hash counts for nothing until a certified batch names it. Promises that every key of
/// an installed roster was registered (so a BLS key was proved to be possessed) and that no member stands in it twice. That
/// the committee is the right one is the certificate's to say.
abstract contract CommitteeStore {
    /// Source: EIP-712, encodeType; used for its hashing only.
    bytes32 public constant COMMITTEE_TYPE =
        keccak256("Committee(bytes32 network,uint64 epoch,uint8 scheme,bytes roster)");

    /// The genesis id of the network that this deployment belongs to.
    bytes32 public immutable network;

    /// The verifier of each scheme; set once, never changed.
    mapping(uint8 scheme => ICertificateVerifier) public verifierOf;
    /// The code that holds a committee; zero where it is not installed.
    mapping(bytes32 hash => address) public committeeOf;
    /// The member (its attestation address) that registered a key: an attestation address or a packed BLS key, hashed.
    mapping(bytes32 keyHash => address) public ownerOfKey;

    event VerifierAdded(uint8 indexed scheme, address verifier);
    event CommitteeInstalled(
        bytes32 indexed hash, uint64 indexed epoch, uint8 scheme, uint256 members, address committee, bytes roster
    );

    /// The hash that `nextCommittee` of a batch must equal.
    function committeeHash(uint64 epoch, uint8 scheme, bytes calldata roster) public view returns (bytes32) {
        return keccak256(abi.encode(COMMITTEE_TYPE, network, epoch, scheme, keccak256(roster)));
    }

    /// Stores a committee: the members' keys one after another, in the order of their ids.
    function install(uint64 epoch, uint8 scheme, bytes calldata roster) external returns (address committee) {
        ICertificateVerifier verifier = verifierOf[scheme];
        if (address(verifier) == address(0)) revert UnknownScheme(scheme);
        bytes32 hash = committeeHash(epoch, scheme, roster);
        if (committeeOf[hash] != address(0)) revert AlreadyInstalled(hash);
        bytes memory payload = verifier.prepare(roster);
        uint256 size = verifier.entryBytes();
        uint256 members = roster.length / size;
        uint32 previous = 0;
        for (uint256 i = 0; i < members; i++) {
            address member = ownerOfKey[keccak256(roster[i * size:(i + 1) * size])];
            if (member == address(0)) revert UnknownKey(i);
            uint32 id = idOf(member);
            if (id <= previous) revert RosterUnordered(i);
            previous = id;
        }
        committee = CommitteeCode.create(scheme, members, epoch, address(verifier), payload);
        committeeOf[hash] = committee;
        emit CommitteeInstalled(hash, epoch, scheme, members, committee, roster);
    }

    /// A member's place in the order of registration, from 1.
    function idOf(address member) public view virtual returns (uint32);

    /// Adds the verifier of a new scheme.
    function setVerifier(ICertificateVerifier verifier) internal {
        uint8 scheme = verifier.scheme();
        if (address(verifierOf[scheme]) != address(0)) revert SchemeTaken(scheme);
        verifierOf[scheme] = verifier;
        emit VerifierAdded(scheme, address(verifier));
    }
}
