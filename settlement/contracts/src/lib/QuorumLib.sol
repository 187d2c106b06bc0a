// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// How many of a committee must sign.
library QuorumLib {
    /// n − ⌊(n−1)/3⌋ of `n` members: any two quorums share an honest member, for every n. 2f+1 is less where n ≠ 3f+1.
    function quorum(uint256 n) internal pure returns (uint256) {
        return n - (n - 1) / 3;
    }

    /// The number of bits set. Source: Hacker's Delight, 5-1.
    function signers(uint256 bitmap) internal pure returns (uint256 count) {
        for (; bitmap != 0; count++) {
            bitmap &= bitmap - 1;
        }
    }
}
