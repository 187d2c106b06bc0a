// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Actor} from "./Actor.sol";
import {FTest} from "./FTest.sol";
import {Member, Status} from "../src/CommitteeRegistry.sol";
import {Cursor} from "../src/InboxState.sol";

/// What holds after every sequence of calls, each promise by its name. The actor keeps its own books and compares nothing
/// with itself: the right side of each assertion comes from the contracts.
contract InvariantsTest is FTest {
    Actor private actor;

    function setUp() public {
        actor = new Actor();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function cursor() private view returns (Cursor memory) {
        return actor.inboxOf().cursor();
    }

    // One campaign for the inbox, one for the registry: each walks its own sequences and checks all of its promises.

    function invariant_inbox() public view {
        numbers_are_gap_free();
        one_hash_for_each_number_and_it_never_changes();
        nothing_stands_beyond_the_next_number();
        heights_are_gap_free();
        origin_is_the_last_batchs_and_in_the_past();
        no_batch_below_the_quorum();
        no_batch_refused_was_posted();
        right_batches_are_taken();
        forced_cursors_stay_within_the_queue();
        certified_cursor_is_the_last_batchs();
        escaped_cursor_only_grows();
        forced_items_never_change();
        forced_tail_counts_the_items();
        fees_are_conserved();
        fee_is_never_below_the_least();
        epoch_counts_the_certified_successors();
        pause_is_bounded();
        committee_origin_never_leads();
    }

    function invariant_registry() public view {
        bonds_are_conserved();
        no_bond_leaves_before_the_window();
        slashed_once_and_for_ever();
        evidence_counts_once();
        changes_are_gap_free();
        living_counts_the_places();
        ids_are_the_order_of_registration();
        bonds_are_never_below_the_least();
        permissionless_is_never_undone();
        withdrawn_members_hold_nothing();
    }

    function numbers_are_gap_free() private view {
        assertEq(cursor().nextNumber, actor.posted(), "next number");
    }

    function one_hash_for_each_number_and_it_never_changes() private view {
        for (uint64 i = 0; i < actor.posted(); i++) {
            assertEq(actor.inboxOf().batchHash(i), actor.hashes(i), "hash");
        }
    }

    function nothing_stands_beyond_the_next_number() private view {
        assertEq(actor.inboxOf().batchHash(uint64(actor.posted())), bytes32(0), "future hash");
    }

    function heights_are_gap_free() private view {
        assertEq(cursor().lastHeight, actor.heights(), "heights");
    }

    function origin_is_the_last_batchs_and_in_the_past() private view {
        assertEq(cursor().l1Number, actor.origin(), "origin");
        assertTrue(cursor().l1Number < block.number, "past");
    }

    function no_batch_below_the_quorum() private view {
        assertEq(actor.postedBelowQuorum(), 0, "quorum");
    }

    function no_batch_refused_was_posted() private view {
        assertEq(actor.wronglyAccepted(), 0, "accepted");
    }

    function right_batches_are_taken() private view {
        assertEq(actor.wronglyRefused(), 0, "refused");
        assertTrue(actor.honest() >= 1 && actor.posted() >= actor.honest(), "posts");
        assertTrue(cursor().nextNumber >= actor.honest(), "accepted");
    }

    function forced_cursors_stay_within_the_queue() private view {
        assertTrue(cursor().forcedTo <= cursor().forcedTail, "certified");
        assertTrue(cursor().escapedTo <= cursor().forcedTail, "escaped");
    }

    function certified_cursor_is_the_last_batchs() private view {
        assertEq(cursor().forcedTo, actor.consumed(), "consumed");
    }

    function escaped_cursor_only_grows() private view {
        assertEq(cursor().escapedTo, actor.escaped(), "escaped");
    }

    function forced_items_never_change() private view {
        for (uint32 i = 0; i < actor.queued(); i++) {
            assertEq(actor.inboxOf().forcedItem(i), actor.items(i), "item");
        }
    }

    function forced_tail_counts_the_items() private view {
        assertEq(cursor().forcedTail, actor.queued(), "tail");
    }

    function fees_are_conserved() private view {
        assertEq(address(actor.inboxOf()).balance, actor.feesPaid(), "fees");
    }

    function fee_is_never_below_the_least() private view {
        assertTrue(actor.inboxOf().forcedFeeNow() >= actor.inboxOf().forcedFee(), "fee");
    }

    function epoch_counts_the_certified_successors() private view {
        assertEq(actor.inboxOf().present().epoch, actor.epochs(), "epoch");
    }

    function pause_is_bounded() private view {
        assertTrue(actor.inboxOf().present().pausedUntil <= block.timestamp + 12 hours, "pause");
    }

    function committee_origin_never_leads() private view {
        assertTrue(actor.inboxOf().committeeFixedAt() <= cursor().l1Number, "fixed at");
    }

    function bonds_are_conserved() private view {
        uint256 sum;
        for (uint256 i = 0; i < actor.joined(); i++) sum += actor.memberNumber(i).bond;
        assertEq(address(actor.registryOf()).balance, sum, "bonds");
        assertEq(sum + actor.paidOut(), actor.bondsPaid(), "paid in and out");
    }

    function no_bond_leaves_before_the_window() private view {
        assertEq(actor.withdrawnEarly(), 0, "early");
    }

    function slashed_once_and_for_ever() private view {
        for (uint256 i = 0; i < actor.joined(); i++) {
            bool slashed = actor.memberNumber(i).status == Status.Slashed;
            assertTrue(slashed == actor.slashed(i), "slashed");
        }
    }

    function evidence_counts_once() private view {
        assertEq(actor.slashedTwice(), 0, "twice");
    }

    function changes_are_gap_free() private view {
        assertEq(actor.registryOf().changes(), actor.changed(), "changes");
    }

    function living_counts_the_places() private view {
        uint256 living;
        for (uint256 i = 0; i < actor.joined(); i++) {
            Status status = actor.memberNumber(i).status;
            if (status == Status.Registered || status == Status.Active) living++;
        }
        assertEq(actor.registryOf().living(), living, "living");
    }

    function ids_are_the_order_of_registration() private view {
        assertEq(actor.registryOf().memberCount(), actor.joined(), "count");
        for (uint256 i = 0; i < actor.joined(); i++) assertEq(actor.memberNumber(i).id, i + 1, "id");
    }

    function bonds_are_never_below_the_least() private view {
        for (uint256 i = 0; i < actor.joined(); i++) {
            Member memory member = actor.memberNumber(i);
            if (member.status != Status.Withdrawn && member.bond != 0) {
                assertTrue(member.bond >= actor.registryOf().bondMin(), "least bond");
            }
        }
    }

    function permissionless_is_never_undone() private view {
        assertTrue(actor.registryOf().permissionless() == actor.switched(), "mode");
    }

    function withdrawn_members_hold_nothing() private view {
        for (uint256 i = 0; i < actor.joined(); i++) {
            Member memory member = actor.memberNumber(i);
            if (member.status == Status.Withdrawn) assertEq(member.bond, 0, "left over");
        }
    }
}
