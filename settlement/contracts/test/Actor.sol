// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import {BatchInbox} from "../src/BatchInbox.sol";
import {CommitteeRegistry, Member, Status} from "../src/CommitteeRegistry.sol";
import {Cursor} from "../src/InboxState.sol";
import {Batch, BatchLib} from "../src/lib/BatchLib.sol";
import {Eip712} from "../src/lib/Eip712.sol";

/// Everybody at once, for the invariants: posts right and wrong batches, queues, escapes, pauses, joins, leaves, reports. Keeps
/// books of what it saw succeed.
contract Actor is Fixture {
    uint256 private constant JOINED_MAX = 7;

    // The inbox, as this contract saw it.
    uint256 public posted;
    bytes32[] public hashes;
    uint256 public heights;
    uint256 public origin;
    uint256 public consumed;
    uint256 public escaped;
    uint256 public queued;
    bytes32[] public items;
    uint256 public feesPaid;
    uint256 public epochs;
    uint256 public postedBelowQuorum;
    uint256 public wronglyAccepted;
    uint256 public wronglyRefused;
    uint256 public honest;

    // The registry.
    uint256 public joined;
    uint256 public bondsPaid;
    uint256 public paidOut;
    uint256 public changed;
    uint256 public withdrawnEarly;
    uint256 public slashedTwice;
    bool public switched;
    mapping(uint256 i => bool) public slashed;
    /// When the unbonding of a member began, by this contract's clock.
    mapping(uint256 i => uint256) private unbondingFrom;

    constructor() {
        deploy(4);
        joined = 4;
        bondsPaid = 4 * BOND;
        changed = 8;
        postHonestly();
    }

    function inboxOf() external view returns (BatchInbox) {
        return inbox;
    }

    function registryOf() external view returns (CommitteeRegistry) {
        return registry;
    }

    function memberNumber(uint256 i) public view returns (Member memory) {
        return registry.memberOf(attestationOf(i));
    }

    // ---- the inbox ----

    function passTime(uint256 blocks) external {
        advance(bound(blocks, 1, 4000));
    }

    function passLittleTime(uint256 blocks) external {
        advance(bound(blocks, 1, 70));
    }

    /// A batch of some signers, sometimes with one thing wrong.
    function postSome(uint256 bits, uint256 wrong, uint256 take, uint256 end) external {
        Cursor memory cursor = inbox.cursor();
        // Sometimes more than is queued.
        uint64 to = uint64(cursor.forcedTo + bound(take, 0, cursor.forcedTail - cursor.forcedTo));
        Batch memory batch = nextBatch(to);
        bits = bound(bits, 0, 15) | (bits % 3 == 0 ? 7 : 0);
        wrong = bound(wrong, 0, 15);
        if (wrong == 1) batch.number += 1;
        if (wrong == 2 && batch.number != 0) batch.number -= 1;
        if (wrong == 3) batch.firstHeight += 1;
        if (wrong == 4) batch.lastHeight = batch.firstHeight - 1;
        if (wrong == 5) batch.l1Hash = keccak256("fork");
        if (wrong == 7) batch.epoch += 1;
        if (wrong == 8) batch.forcedTo = cursor.forcedTail + 1;
        if (wrong == 9) batch.parent = keccak256("other");
        if (wrong == 10) batch.l1Number = uint64(block.number);
        if (end % 8 == 0) succeed(batch);
        bool isRight = (wrong == 0 || wrong > 10) && popcount(bits) >= 3 && !isPaused() && consumesEnough(batch);
        bytes32 data = wrong == 6 ? keccak256("other") : blobsData();
        bytes memory certificate = certificateOf(inbox.attestationDigest(batch, data), bits);
        vm.blobhashes(blobs());
        try inbox.post(headerOf(batch, data), certificate) {
            if (!isRight) wronglyAccepted++;
            if (popcount(bits) < 3) postedBelowQuorum++;
            record(batch);
        } catch {
            if (isRight) wronglyRefused++;
        }
    }

    /// What an honest committee posts: everybody signs, and all that is queued is in it. Refused, it ends the campaign, so
    /// that an inbox that takes nothing keeps no promise.
    function postHonestly() public {
        if (isPaused()) return;
        Batch memory batch = nextBatch(inbox.cursor().forcedTail);
        postWith(batch, certificateOf(digestOf(batch), 15));
        record(batch);
        honest++;
    }

    function isPaused() private view returns (bool) {
        return block.timestamp < inbox.present().pausedUntil;
    }

    /// By this contract's own books: 32 items more, or nothing left over that is due and was not escaped.
    function consumesEnough(Batch memory batch) private view returns (bool) {
        if (batch.forcedTo - consumed >= 32) return true;
        for (uint256 i = batch.forcedTo; i < queued; i++) {
            bool due = uint40(uint256(items[i])) + FORCED_BLOCKS <= batch.l1Number;
            if (due && i >= escaped) return false;
        }
        return true;
    }

    function record(Batch memory batch) private {
        hashes.push(hashOf(batch));
        posted++;
        heights += 10;
        origin = batch.l1Number;
        consumed = batch.forcedTo;
        if (batch.nextCommittee != 0) epochs++;
    }

    /// Ends the epoch with the same members.
    function succeed(Batch memory batch) private {
        uint64 epoch = inbox.present().epoch + 1;
        batch.nextCommittee = registry.committeeHash(epoch, 1, roster());
        if (registry.committeeOf(batch.nextCommittee) == address(0)) registry.install(epoch, 1, roster());
    }

    function enqueue(uint64 rollup, uint256 bytes_) external {
        if (inbox.cursor().forcedTail >= 40) return;
        feesPaid += inbox.forcedFeeNow();
        force(rollup, new bytes(bound(bytes_, 1, 64)));
        items.push(inbox.forcedItem(uint32(queued)));
        queued++;
    }

    function escapeTo(uint32 to) external {
        to = uint32(bound(to, 0, queued + 1));
        try inbox.escape(to) {
            escaped = to;
        } catch {}
    }

    function pauseOrNot(bool on) external {
        vm.prank(GUARDIAN);
        if (on) try inbox.pause() {} catch {}
        else inbox.unpause();
    }

    // ---- the registry ----

    function joinOne() external {
        if (joined == JOINED_MAX) return;
        join(joined++);
        bondsPaid += BOND;
        changed++;
    }

    function approveOne(uint256 i) external {
        try registry.approve(attestationOf(bound(i, 0, joined))) {
            changed++;
        } catch {}
    }

    function depositSome(uint256 i, uint256 amount) external {
        i = bound(i, 0, joined - 1);
        amount = bound(amount, 0, 1 ether);
        vm.deal(operatorOf(i), amount);
        vm.prank(operatorOf(i));
        try registry.deposit{value: amount}(attestationOf(i)) {
            bondsPaid += amount;
            changed++;
        } catch {
            vm.deal(operatorOf(i), 0);
        }
    }

    function exitOne(uint256 i) external {
        i = bound(i, 0, joined - 1);
        vm.prank(operatorOf(i));
        try registry.requestExit(attestationOf(i)) {
            changed++;
        } catch {}
    }

    function releaseOne(uint256 i) external {
        i = bound(i, 0, joined - 1);
        try registry.release(attestationOf(i)) {
            changed++;
            unbondingFrom[i] = block.timestamp;
        } catch {}
    }

    function withdrawOne(uint256 i, bool wait) external {
        i = bound(i, 0, joined - 1);
        if (wait) advance(UNBONDING / 12);
        uint256 bond = memberNumber(i).bond;
        vm.prank(operatorOf(i));
        try registry.withdraw(attestationOf(i), payable(operatorOf(i))) {
            if (unbondingFrom[i] == 0 || block.timestamp < unbondingFrom[i] + UNBONDING) withdrawnEarly++;
            paidOut += bond;
            changed++;
        } catch {}
    }

    /// Two attestations of member `i` for one number.
    function reportOne(uint256 i, uint64 number) external {
        i = bound(i, 0, JOINED_MAX);
        bytes32[4] memory s;
        bytes32[2] memory two = [bytes32(uint256(1)), bytes32(uint256(2))];
        bytes32[2] memory data;
        (s[0], s[1]) = sign2098(keyOf(i), attestation(number, two[0]));
        (s[2], s[3]) = sign2098(keyOf(i), attestation(number, two[1]));
        try evidence.reportAttestations(0, number, two, data, s, address(this), 0) {
            if (slashed[i]) slashedTwice++;
            slashed[i] = true;
            changed++;
        } catch {}
    }

    function attestation(uint64 number, bytes32 hash) private view returns (bytes32) {
        return Eip712.digest(Eip712.domain(address(inbox)), BatchLib.attestation(0, number, hash, 0));
    }

    function settleOne(uint256 i) external {
        i = bound(i, 0, joined - 1);
        uint256 bond = memberNumber(i).bond;
        try registry.settle(attestationOf(i)) {
            paidOut += bond;
        } catch {}
    }

    function switchMode(uint256 step) external {
        step = bound(step, 0, 9);
        if (step == 0) {
            try registry.announcePermissionless() {
                changed++;
            } catch {}
        } else if (step == 1) {
            try registry.cancelPermissionless() {
                changed++;
            } catch {}
        } else {
            try registry.goPermissionless() {
                changed++;
                switched = true;
            } catch {}
        }
    }

    function popcount(uint256 bits) private pure returns (uint256 count) {
        for (; bits != 0; bits >>= 1) count += bits & 1;
    }

    receive() external payable {}
}
