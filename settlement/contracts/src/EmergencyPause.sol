// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

error Paused(uint256 until);
error NotGuardian(address caller);
error PauseCoolingDown(uint256 from);

/// A brake for the guardian: holds the posting of batches up, and nothing else.
///
/// It ends by itself, and cannot be pulled again before the cool-down, so that a guardian who turns bad delays
/// batches by a twelfth of the time at most. The forced queue and escapes know nothing of it.
abstract contract EmergencyPause {
    /// Seconds that a pause lasts.
    uint64 public constant PAUSE = 12 hours;
    /// Seconds from the end of one pause to the earliest next.
    uint64 public constant PAUSE_COOLDOWN = 6 days;

    address public immutable guardian;
    /// Unix time from which the guardian may pause again.
    uint64 public pausableFrom;

    event PauseBegun(uint64 until);
    event PauseEnded();

    constructor(address guardian_) {
        guardian = guardian_;
    }

    /// Holds posting up for PAUSE.
    function pause() external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        if (block.timestamp < pausableFrom) revert PauseCoolingDown(pausableFrom);
        uint64 until = uint64(block.timestamp) + PAUSE;
        pausableFrom = until + PAUSE_COOLDOWN;
        setPausedUntil(until);
        emit PauseBegun(until);
    }

    /// Ends a pause early. The cool-down stays.
    function unpause() external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        setPausedUntil(0);
        emit PauseEnded();
    }

    /// Where the end of the pause is kept is the inbox's: beside what a post reads anyway.
    function setPausedUntil(uint64 until) internal virtual;
}
