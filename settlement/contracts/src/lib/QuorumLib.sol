// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// How many of a committee must sign.
library QuorumLib {
    /// n − ⌊(n−1)/3⌋ of `n` members: any two quorums share an honest member, for every n. 2f+1 is less where n ≠ 3f+1.
    function quorum(uint256 n) internal pure returns (uint256) {
        unchecked {
            return n - (n - 1) / 3;
        }
    }

    /// The number of bits set among the lowest 128: sums of neighbours, twice as wide each time. Source: Hacker's Delight,
    /// 5-1.
    function signers(uint256 bitmap) internal pure returns (uint256 count) {
        unchecked {
            count = bitmap - ((bitmap >> 1) & 0x55555555555555555555555555555555);
            count = (count & 0x33333333333333333333333333333333) + ((count >> 2) & 0x33333333333333333333333333333333);
            count = (count + (count >> 4)) & 0x0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f;
            // The bytes add up in the sixteenth: 128 fits into one.
            count = ((count * 0x01010101010101010101010101010101) >> 120) & 0xff;
        }
    }
}
