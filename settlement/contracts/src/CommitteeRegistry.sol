// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {BadParameter, CommitteeStore} from "./CommitteeStore.sol";
import {ICertificateVerifier} from "./ICertificateVerifier.sol";
import {Bls12381} from "./lib/Bls12381.sol";
import {EcdsaLib} from "./lib/EcdsaLib.sol";
import {Ed25519Key} from "./lib/Ed25519Key.sol";
import {Eip712} from "./lib/Eip712.sol";

/// Where a member stands. Only Active may be in a committee while permissioned; Registered and Active once permissionless.
enum Status {
    None,
    Registered,
    Active,
    Exiting,
    Unbonding,
    Withdrawn,
    Slashed
}

/// A member, known by its attestation address. The first two slots are all that a slash writes.
struct Member {
    address operator;
    /// Wei. Of a slashed member: what is still to be shared out.
    uint88 bond;
    Status status;
    /// Who gets the reporter's share; zero unless slashed.
    address reporter;
    /// Place in the order of registration, from 1.
    uint32 id;
    /// L1 block from which the reporter's claim counts: of its commitment, or of the report.
    uint32 standing;
    /// L1 block of the first report.
    uint32 reportedAt;
    /// L1 block of the exit.
    uint64 exitBlock;
    /// Unix time from which the bond may be withdrawn.
    uint64 withdrawableAt;
    /// Released because the chain stood still, before the exit took effect.
    bool provisional;
    bytes32 consensusKey;
    /// Of a slashed member: the id of the fault, in a slot that is paid for already.
    bytes32 peerKey;
    /// keccak256 of the packed BLS key; zero where there is none.
    bytes32 blsKey;
}

/// What a member registers. README.md has the digest that all five keys sign.
struct Registration {
    address attestation;
    /// ed25519, for votes and proposals.
    bytes32 consensusKey;
    /// ed25519, for the transport.
    bytes32 peerKey;
    /// Packed BLS12-381 key in G2, 192 bytes, or empty.
    bytes blsKey;
    /// EIP-2098 signature of the attestation key.
    bytes32 r;
    bytes32 vs;
    /// BLS proof of possession, 128 bytes, or empty.
    bytes blsProof;
    /// ed25519 signatures of both keys over the digest, 64 bytes each. L1 passes them on; nodes verify them.
    bytes consensusProof;
    bytes peerProof;
}

/// What the registry has to know of the inbox.
interface ICommitteeClock {
    /// The L1 origin at which the present committee was decided on.
    function committeeFixedAt() external view returns (uint64);
    /// The L1 block of the last batch.
    function postedBlock() external view returns (uint64);
    function network() external view returns (bytes32);
    function registry() external view returns (address);
}

/// What the registry has to know of the evidence contract.
interface IEvidence {
    function registry() external view returns (address);
    function inbox() external view returns (address);
}

error AlreadyWired();
error NotEvidence(address caller);
error NotOperator(address caller, address operator);
error WrongStatus(address attestation, Status status);
error BondTooSmall(uint256 bond, uint256 min);
error BondTooLarge(uint256 bond);
error RegistryFull(uint256 members);
error KeyTaken(bytes32 keyHash);
error BadEd25519Key(bytes32 key);
error BadBlsKey(uint256 bytes_);
error BadProof(address attestation);
error BadProofLength(uint256 bytes_, uint256 expected);
error NotPermissioned();
error NotAnnounced();
error TooEarly(uint256 now_, uint256 from);
error ExitNotEffective(uint64 exitBlock, uint64 committeeFixedAt);
error AlreadySlashed(address attestation);
error TransferFailed(address to, uint256 amount);
error WrongNetwork(bytes32 expected, bytes32 got);
/// An inbox or evidence contract that was made for other contracts.
error NotOfThisNetwork(address part);
/// Released because no batch came; then one did, so that the exit has to take effect and the member be released anew.
error StallEnded(address attestation);

/// Who may be in the committee, with what keys and what bond.
///
/// Promises that an attestation or BLS key was possessed by whoever registered it and serves one member for ever, that bonds
/// leave only to their operator after UNBONDING or by a slash, that the switch to permissionless is announced and never
/// undone, and that a node which follows the events, numbered without gaps, rebuilds the whole set. Leaves to the nodes:
/// ed25519 proofs, and which members make up a committee (a pure rule on these events: README.md), which certified batches
/// carry back to L1. So no list is sorted here and no call's gas grows with the number of members.
contract CommitteeRegistry is CommitteeStore, Ownable2Step, ReentrancyGuardTransient {
    /// Source: EIP-712, encodeType.
    bytes32 public constant REGISTRATION_TYPE = keccak256(
        "Registration(bytes32 network,address operator,address attestation,bytes32 consensusKey,bytes32 peerKey,"
        "bytes32 blsKey)"
    );
    /// Most members that hold a place: what a node compares when it chooses a committee. A place costs its holder the least
    /// bond, and is free as soon as the member exits, is sent out or is slashed.
    uint256 public constant MEMBERS_MAX = 4096;
    /// The reporter's share of a slashed bond, in 1/10,000. The rest is burned, so that nobody gains by reporting itself.
    uint256 public constant REWARD_BPS = 1000;
    /// L1 blocks in which a reporter who committed earlier may take the place of one who copied its report.
    uint256 public constant CLAIM_BLOCKS = 300;

    /// Seconds of a slot of L1.
    uint64 public constant SLOT = 12;

    /// Least bond, in wei.
    uint256 public immutable bondMin;
    /// Seconds from when an exit took effect to when the bond is free.
    uint64 public immutable unbonding;
    /// Seconds between the announcement of the permissionless mode and its start.
    uint64 public immutable switchDelay;

    ICommitteeClock public inbox;
    address public evidence;
    /// Number of the next change: events count from 0 without a gap.
    uint64 public changes;
    /// Members that hold a place: registered or active.
    uint32 public living;
    bool public permissionless;
    /// Unix time from which the switch may be made; zero where it is not announced.
    uint64 public permissionlessFrom;

    mapping(address attestation => Member) private members;
    /// Attestation addresses in the order of registration.
    address[] private byId;

    event Wired(address inbox, address evidence);
    event MemberRegistered(
        uint64 indexed change,
        address indexed attestation,
        address indexed operator,
        uint32 id,
        uint256 bond,
        bytes32 consensusKey,
        bytes32 peerKey,
        bytes blsKey,
        bytes consensusProof,
        bytes peerProof
    );
    event MemberApproved(uint64 indexed change, address indexed attestation);
    event BondDeposited(uint64 indexed change, address indexed attestation, uint256 added, uint256 bond);
    event ExitRequested(uint64 indexed change, address indexed attestation, bool byOwner);
    event UnbondingStarted(uint64 indexed change, address indexed attestation, uint64 withdrawableAt);
    event BondWithdrawn(uint64 indexed change, address indexed attestation, address to, uint256 amount);
    event MemberSlashed(uint64 indexed change, address indexed attestation, address reporter, uint256 bond);
    event ReporterReplaced(address indexed attestation, address reporter, uint32 standing);
    event SlashSettled(address indexed attestation, address reporter, uint256 reward, uint256 burned);
    event PermissionlessAnnounced(uint64 indexed change, uint64 from);
    event PermissionlessCancelled(uint64 indexed change);
    event PermissionlessBegun(uint64 indexed change);

    constructor(
        bytes32 network_,
        address owner_,
        uint256 bondMin_,
        uint64 unbonding_,
        uint64 switchDelay_,
        ICertificateVerifier[] memory verifiers
    ) Ownable(owner_) {
        if (bondMin_ == 0) revert BadParameter(bondMin_);
        network = network_;
        bondMin = bondMin_;
        unbonding = unbonding_;
        switchDelay = switchDelay_;
        for (uint256 i = 0; i < verifiers.length; i++) {
            setVerifier(verifiers[i]);
        }
    }

    // ---- the owner's ----

    /// Names the inbox and the evidence contract, once: all three need each other's address, and have to name each other.
    function wire(ICommitteeClock inbox_, address evidence_) external onlyOwner {
        if (evidence != address(0)) revert AlreadyWired();
        if (evidence_ == address(0)) revert BadParameter(0);
        if (inbox_.network() != network) revert WrongNetwork(network, inbox_.network());
        if (inbox_.registry() != address(this)) revert NotOfThisNetwork(address(inbox_));
        IEvidence parts = IEvidence(evidence_);
        if (parts.registry() != address(this) || parts.inbox() != address(inbox_)) revert NotOfThisNetwork(evidence_);
        inbox = inbox_;
        evidence = evidence_;
        emit Wired(address(inbox_), evidence_);
    }

    /// Adds a signature scheme. It serves no epoch before a certified batch says so.
    function addVerifier(ICertificateVerifier verifier) external onlyOwner {
        setVerifier(verifier);
    }

    /// Lets a registered member into the committees to come.
    function approve(address attestation) external onlyOwner {
        if (permissionless) revert NotPermissioned();
        Member storage member = members[attestation];
        if (member.status != Status.Registered) revert WrongStatus(attestation, member.status);
        member.status = Status.Active;
        emit MemberApproved(changes++, attestation);
    }

    /// Sends a member out. It keeps its bond, under the rules of every exit.
    function revoke(address attestation) external onlyOwner {
        if (permissionless) revert NotPermissioned();
        exit(attestation, true);
    }

    /// Starts the time lock of the switch to permissionless.
    function announcePermissionless() external onlyOwner {
        if (permissionless) revert NotPermissioned();
        permissionlessFrom = uint64(block.timestamp) + switchDelay;
        emit PermissionlessAnnounced(changes++, permissionlessFrom);
    }

    /// Takes an announcement back, as long as the switch is not made.
    function cancelPermissionless() external onlyOwner {
        if (permissionless) revert NotPermissioned();
        if (permissionlessFrom == 0) revert NotAnnounced();
        permissionlessFrom = 0;
        emit PermissionlessCancelled(changes++);
    }

    /// Makes the switch, for ever. Anybody may, once the time lock has run out.
    function goPermissionless() external {
        if (permissionless) revert NotPermissioned();
        if (permissionlessFrom == 0) revert NotAnnounced();
        if (block.timestamp < permissionlessFrom) revert TooEarly(block.timestamp, permissionlessFrom);
        permissionless = true;
        emit PermissionlessBegun(changes++);
    }

    // ---- the members' ----

    /// Registers the caller as operator of a member, with its bond. The attestation key, and the BLS key if there is one,
    /// sign a digest that names the operator: nobody registers, or copies, what another has signed.
    function register(Registration calldata form) external payable returns (uint32 id) {
        if (msg.value < bondMin) revert BondTooSmall(msg.value, bondMin);
        if (msg.value > type(uint88).max) revert BondTooLarge(msg.value);
        if (living >= MEMBERS_MAX) revert RegistryFull(living);
        if (!Ed25519Key.isUsable(form.consensusKey)) revert BadEd25519Key(form.consensusKey);
        if (!Ed25519Key.isUsable(form.peerKey)) revert BadEd25519Key(form.peerKey);
        if (form.consensusProof.length != 64) revert BadProofLength(form.consensusProof.length, 64);
        if (form.peerProof.length != 64) revert BadProofLength(form.peerProof.length, 64);
        bytes32 blsHash = form.blsKey.length == 0 ? bytes32(0) : keccak256(form.blsKey);
        bytes32 digest =
            registrationDigest(msg.sender, form.attestation, form.consensusKey, form.peerKey, blsHash);
        address signer = EcdsaLib.recover(digest, form.r, form.vs);
        if (signer == address(0) || signer != form.attestation) revert BadProof(form.attestation);
        claimKey(keccak256(abi.encodePacked(form.attestation)), form.attestation);
        if (blsHash != 0) {
            proveBls(form, digest);
            claimKey(blsHash, form.attestation);
        }
        byId.push(form.attestation);
        id = uint32(byId.length);
        living++;
        Member storage member = members[form.attestation];
        member.operator = msg.sender;
        member.bond = uint88(msg.value);
        member.status = Status.Registered;
        member.id = id;
        member.consensusKey = form.consensusKey;
        member.peerKey = form.peerKey;
        member.blsKey = blsHash;
        announce(form, id);
    }

    /// Adds to a member's bond.
    function deposit(address attestation) external payable {
        Member storage member = members[attestation];
        if (member.operator != msg.sender) revert NotOperator(msg.sender, member.operator);
        if (member.status != Status.Registered && member.status != Status.Active) {
            revert WrongStatus(attestation, member.status);
        }
        uint256 bond = member.bond + msg.value;
        if (bond > type(uint88).max) revert BondTooLarge(bond);
        member.bond = uint88(bond);
        emit BondDeposited(changes++, attestation, msg.value, bond);
    }

    /// Leaves: the committees decided on from here on are without this member.
    function requestExit(address attestation) external {
        address operator = members[attestation].operator;
        if (operator != msg.sender) revert NotOperator(msg.sender, operator);
        exit(attestation, false);
    }

    /// Starts the unbonding of a member whose exit has taken effect: the present committee was decided on with the exit
    /// known, so neither it nor a later one has this member. Anybody may. A chain that posts nothing for the length of
    /// UNBONDING keeps nobody; if it goes on, who was released for that is in its committee still, and is released anew
    /// when the exit takes effect.
    function release(address attestation) external {
        Member storage member = members[attestation];
        uint64 fixedAt = inbox.committeeFixedAt();
        bool effective = fixedAt >= member.exitBlock;
        bool anew = member.status == Status.Unbonding && member.provisional && effective;
        if (member.status != Status.Exiting && !anew) revert WrongStatus(attestation, member.status);
        if (!effective && !stalled()) revert ExitNotEffective(member.exitBlock, fixedAt);
        member.status = Status.Unbonding;
        member.provisional = !effective;
        member.withdrawableAt = uint64(block.timestamp) + unbonding;
        emit UnbondingStarted(changes++, attestation, member.withdrawableAt);
    }

    /// Pays the bond out after the unbonding, to who was released for a stall only if it lasts.
    function withdraw(address attestation, address payable to) external nonReentrant {
        Member storage member = members[attestation];
        if (member.operator != msg.sender) revert NotOperator(msg.sender, member.operator);
        if (member.status != Status.Unbonding) revert WrongStatus(attestation, member.status);
        if (block.timestamp < member.withdrawableAt) revert TooEarly(block.timestamp, member.withdrawableAt);
        if (member.provisional && !stalled()) revert StallEnded(attestation);
        uint256 amount = member.bond;
        member.bond = 0;
        member.status = Status.Withdrawn;
        emit BondWithdrawn(changes++, attestation, to, amount);
        pay(to, amount);
    }

    // ---- slashing ----

    /// Takes the whole bond of a member that signed against itself, once for ever. `standing` is the L1 block from which the
    /// reporter's claim counts; within CLAIM_BLOCKS of the first report, an earlier standing on the same fault takes the
    /// reward over.
    function slash(address attestation, address reporter, uint256 standing, bytes32 faultId) external {
        if (msg.sender != evidence) revert NotEvidence(msg.sender);
        Member storage member = members[attestation];
        Status status = member.status;
        if (status == Status.Slashed) {
            bool open = member.bond != 0 && block.number <= uint256(member.reportedAt) + CLAIM_BLOCKS;
            if (!open || standing >= member.standing || faultId != member.peerKey) revert AlreadySlashed(attestation);
            member.reporter = reporter;
            member.standing = uint32(standing);
            emit ReporterReplaced(attestation, reporter, uint32(standing));
            return;
        }
        if (status == Status.None || status == Status.Withdrawn) revert WrongStatus(attestation, status);
        if (status == Status.Registered || status == Status.Active) living--;
        member.status = Status.Slashed;
        member.reporter = reporter;
        member.standing = uint32(standing);
        member.reportedAt = uint32(block.number);
        member.peerKey = faultId;
        emit MemberSlashed(changes++, attestation, reporter, member.bond);
    }

    /// Shares a slashed bond out once CLAIM_BLOCKS have passed: the reporter's part, rounded down, and the rest burned. A
    /// reporter that does not take its part has it burned too.
    function settle(address attestation) external nonReentrant {
        Member storage member = members[attestation];
        if (member.status != Status.Slashed || member.bond == 0) revert WrongStatus(attestation, member.status);
        uint256 from = uint256(member.reportedAt) + CLAIM_BLOCKS;
        if (block.number <= from) revert TooEarly(block.number, from + 1);
        uint256 bond = member.bond;
        uint256 reward = bond * REWARD_BPS / 10_000;
        member.bond = 0;
        if (!send(member.reporter, reward)) reward = 0;
        emit SlashSettled(attestation, member.reporter, reward, bond - reward);
        pay(address(0), bond - reward);
    }

    // ---- views ----

    /// All that is known of a member; status None where there is none.
    function memberOf(address attestation) external view returns (Member memory) {
        return members[attestation];
    }

    /// The attestation address of the member with `id`, from 1.
    function memberAt(uint32 id) external view returns (address) {
        return byId[id - 1];
    }

    /// How many ever registered.
    function memberCount() external view returns (uint256) {
        return byId.length;
    }

    function idOf(address attestation) public view override returns (uint32) {
        return members[attestation].id;
    }

    /// What all keys of a registration sign. `blsKey` is the hash of the packed key, zero where there is none.
    function registrationDigest(
        address operator,
        address attestation,
        bytes32 consensusKey,
        bytes32 peerKey,
        bytes32 blsKey
    ) public view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(REGISTRATION_TYPE, network, operator, attestation, consensusKey, peerKey, blsKey)
        );
        return Eip712.digest(Eip712.domain(address(this)), structHash);
    }

    // ---- inside ----

    /// Whether no batch came for the length of UNBONDING.
    function stalled() private view returns (bool) {
        return block.number > uint256(inbox.postedBlock()) + unbonding / SLOT;
    }

    function exit(address attestation, bool byOwner) private {
        Member storage member = members[attestation];
        if (member.status != Status.Registered && member.status != Status.Active) {
            revert WrongStatus(attestation, member.status);
        }
        living--;
        member.status = Status.Exiting;
        member.exitBlock = uint64(block.number);
        emit ExitRequested(changes++, attestation, byOwner);
    }

    /// Apart from `register`, whose stack is full.
    function announce(Registration calldata form, uint32 id) private {
        emit MemberRegistered(
            changes++,
            form.attestation,
            msg.sender,
            id,
            msg.value,
            form.consensusKey,
            form.peerKey,
            form.blsKey,
            form.consensusProof,
            form.peerProof
        );
    }

    function claimKey(bytes32 keyHash, address attestation) private {
        if (ownerOfKey[keyHash] != address(0)) revert KeyTaken(keyHash);
        ownerOfKey[keyHash] = attestation;
    }

    /// The pairing refuses a key outside its group; the identity is refused here.
    function proveBls(Registration calldata form, bytes32 digest) private view {
        if (form.blsKey.length != Bls12381.KEY_BYTES) revert BadBlsKey(form.blsKey.length);
        if (form.blsProof.length != Bls12381.SIGNATURE_BYTES) {
            revert BadProofLength(form.blsProof.length, Bls12381.SIGNATURE_BYTES);
        }
        bytes memory point = Bls12381.unpack(form.blsKey);
        if (Bls12381.isIdentity(point)) revert BadBlsKey(0);
        if (!Bls12381.verifies(Bls12381.POSSESSION_DST, digest, point, form.blsProof)) {
            revert BadProof(form.attestation);
        }
    }

    function pay(address to, uint256 amount) private {
        if (!send(to, amount)) revert TransferFailed(to, amount);
    }

    /// Sends without copying what the receiver returns.
    function send(address to, uint256 amount) private returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(gas(), to, amount, 0, 0, 0, 0)
        }
    }
}
