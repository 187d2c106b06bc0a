// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FTest} from "./FTest.sol";
import {Bls12381} from "../src/lib/Bls12381.sol";

/// BLS keys and signatures, made with the precompiles' multiplications.
abstract contract BlsKeys is FTest {
    uint256 internal constant ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;
    bytes internal constant GENERATOR =
        hex"024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
        hex"13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        hex"0ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801"
        hex"0606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be";

    function secret(uint256 i) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("bls", i))) % ORDER;
    }

    /// The packed key of a secret, or of a sum of secrets.
    function blsKeyOf(uint256 scalar) internal view returns (bytes memory) {
        (bool ok, bytes memory point) = address(0x0e).staticcall(bytes.concat(Bls12381.unpack(GENERATOR), bytes32(scalar)));
        assertTrue(ok && point.length == 256, "G2MSM");
        return Bls12381.pack(point);
    }

    function blsSign(bytes memory dst, bytes32 digest, uint256 scalar) internal view returns (bytes memory point) {
        bool ok;
        (ok, point) = address(0x0c).staticcall(bytes.concat(Bls12381.hashToG1(dst, digest), bytes32(scalar)));
        assertTrue(ok && point.length == 128, "G1MSM");
    }

    /// The sum of the secrets of the members whose bits are set, the first being number `from`.
    function sumOf(uint256 bits, uint256 from) internal pure returns (uint256 sum) {
        for (uint256 i = 0; i < 128; i++) if ((bits >> i) & 1 == 1) sum = addmod(sum, secret(from + i), ORDER);
    }
}
