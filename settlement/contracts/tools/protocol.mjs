// The layouts of README.md in JavaScript, written apart from the Solidity that they are compared with. Used by the golden
// vectors (tools/vectors.mjs) and by the measurements (bench/gas.mjs).
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

// Installed things live under target/, where node does not look by itself.
const installed = createRequire(fileURLToPath(new URL('../target/package.json', import.meta.url)));
const load = (name) => import(pathToFileURL(installed.resolve(name)).href);

export const viem = await load('viem');
export const { bls12_381: bls } = await load('@noble/curves/bls12-381');
export const { ed25519 } = await load('@noble/curves/ed25519');
export const { secp256k1 } = await load('@noble/curves/secp256k1');
const { concat, encodeAbiParameters, encodePacked, hashTypedData, keccak256, numberToHex, toHex } = viem;

export const ZERO = `0x${'00'.repeat(32)}`;
const SIGNATURE_DST = 'BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_';
const POSSESSION_DST = 'BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_';

const BATCH = [
  'bytes32 network', 'uint64 number', 'uint64 epoch', 'uint64 firstHeight', 'uint64 lastHeight', 'bytes32 parent',
  'bytes32 lastBlock', 'bytes32 namespaces', 'uint64 l1Number', 'bytes32 l1Hash', 'uint64 forcedTo',
  'bytes32 forcedHash', 'bytes32 nextCommittee', 'bytes32 faults',
].map((field) => ({ type: field.split(' ')[0], name: field.split(' ')[1] }));

const domain = (chainId, verifyingContract) => ({ name: 'Fusion', version: '1', chainId, verifyingContract });

/** hashStruct of a batch. */
export const batchHash = (batch) => viem.hashStruct({ data: batch, primaryType: 'Batch', types: { Batch: BATCH } });

/** What members sign for a batch found in `data`. */
export const batchDigest = (chainId, inbox, batch, data) =>
  hashTypedData({
    domain: domain(chainId, inbox),
    primaryType: 'Attestation',
    types: {
      Attestation: [
        { type: 'uint64', name: 'epoch' },
        { type: 'uint64', name: 'number' },
        { type: 'Batch', name: 'batch' },
        { type: 'bytes32', name: 'data' },
      ],
      Batch: BATCH,
    },
    message: { epoch: batch.epoch, number: batch.number, batch, data },
  });

/** What all keys of a registration sign. `blsKey` is the packed key or '0x'. */
export const registrationDigest = (chainId, registry, form) =>
  hashTypedData({
    domain: domain(chainId, registry),
    primaryType: 'Registration',
    types: {
      Registration: [
        { type: 'bytes32', name: 'network' },
        { type: 'address', name: 'operator' },
        { type: 'address', name: 'attestation' },
        { type: 'bytes32', name: 'consensusKey' },
        { type: 'bytes32', name: 'peerKey' },
        { type: 'bytes32', name: 'blsKey' },
      ],
    },
    message: { ...form, blsKey: form.blsKey === '0x' ? ZERO : keccak256(form.blsKey) },
  });

/** The packed header of a post. */
export const header = (batch, data) => {
  const numbers = [batch.number, batch.epoch, batch.firstHeight, batch.lastHeight, batch.l1Number, batch.forcedTo];
  const hashes = [batch.lastBlock, batch.namespaces, data, batch.l1Hash];
  const isLong = batch.nextCommittee !== ZERO || batch.faults !== ZERO;
  const last = isLong ? [batch.nextCommittee, batch.faults] : [];
  return concat([...numbers.map((n) => numberToHex(n, { size: 8 })), ...hashes, ...last]);
};

export const committeeHash = (network, epoch, scheme, roster) =>
  keccak256(
    encodeAbiParameters(
      ['bytes32', 'bytes32', 'uint64', 'uint8', 'bytes32'].map((type) => ({ type })),
      [
        keccak256(toHex('Committee(bytes32 network,uint64 epoch,uint8 scheme,bytes roster)')),
        network, epoch, scheme, keccak256(roster),
      ],
    ),
  );

/** The forced queue's accumulator after one more item. */
export const forcedItem = (before, rollup, sender, payload, block) => {
  const types = ['bytes32', 'uint64', 'address', 'bytes32'];
  const hash = keccak256(encodePacked(types, [before, rollup, sender, keccak256(payload)]));
  return concat([hash.slice(0, 2 + 54), numberToHex(block, { size: 5 })]);
};

export const blobData = (hashes) => keccak256(concat(['0x01', ...hashes]));
export const calldataData = (payload) => keccak256(concat(['0x02', keccak256(payload)]));

const leafHash = (bytes) => keccak256(concat(['0x00', bytes]));
export const transactionLeaf = leafHash;
export const namespaceLeaf = (n) =>
  leafHash(
    encodePacked(
      ['uint64', 'uint64', 'uint64', 'bytes32', 'bytes32'],
      [n.rollup, n.firstSequence, n.count, n.head, n.transactionsRoot],
    ),
  );
export const faultLeaf = (f) =>
  leafHash(
    encodePacked(
      ['uint8', 'uint64', 'uint64', 'uint32', 'address', 'bytes32', 'bytes32'],
      [f.kind, f.epoch, f.height, f.round, f.attestation, f.consensusKey, f.proof],
    ),
  );

/** The tree of types/src/merkle.rs over leaf hashes: its root and one proof for each leaf. */
export const merkle = (leaves) => {
  const levels = [leaves];
  while (levels.at(-1).length > 1) {
    const below = levels.at(-1);
    const above = [];
    for (let i = 0; i < below.length; i += 2) {
      above.push(i + 1 < below.length ? keccak256(concat(['0x01', below[i], below[i + 1]])) : below[i]);
    }
    levels.push(above);
  }
  const root = keccak256(concat(['0x02', numberToHex(leaves.length, { size: 8 }), levels.at(-1)[0] ?? ZERO]));
  const proofs = leaves.map((_, index) => ({
    index,
    count: leaves.length,
    siblings: levels.map((level, depth) => level[(index >> depth) ^ 1]).filter((sibling) => sibling !== undefined),
  }));
  return { root, proofs };
};

/** EIP-2098: r and s with v's parity in its first bit. */
export const attest = (digest, key) => {
  const signature = secp256k1.sign(digest.slice(2), key.slice(2), { lowS: true });
  const vs = signature.s | (BigInt(signature.recovery) << 255n);
  return [numberToHex(signature.r, { size: 32 }), numberToHex(vs, { size: 32 })];
};
export const addressOf = (key) => viem.getAddress(
  `0x${keccak256(`0x${secp256k1.ProjectivePoint.fromPrivateKey(key.slice(2)).toHex(false).slice(2)}`).slice(-40)}`,
);

export const bitmap = (members, signers) =>
  numberToHex(signers.reduce((bits, i) => bits | (1n << BigInt(i)), 0n), { size: Math.ceil(members / 8) });

const field = (n, size) => numberToHex(n, { size });
/** 192 bytes: x.c0 ‖ x.c1 ‖ y.c0 ‖ y.c1. */
export const blsKey = (secret) => {
  const { x, y } = bls.G2.ProjectivePoint.BASE.multiply(secret).toAffine();
  return concat([x.c0, x.c1, y.c0, y.c1].map((n) => field(n, 48)));
};
/** 128 bytes: x ‖ y, each in 64. `secret` may be a sum of secrets: then it is the aggregate. */
export const blsSign = (digest, secret, isPossession = false) => {
  const DST = isPossession ? POSSESSION_DST : SIGNATURE_DST;
  const hashed = bls.G1.hashToCurve(viem.hexToBytes(digest), { DST });
  const { x, y } = bls.G1.ProjectivePoint.fromAffine(hashed.toAffine()).multiply(secret).toAffine();
  return concat([field(x, 64), field(y, 64)]);
};
export const BLS_ORDER = bls.fields.Fr.ORDER;

/** The keys of member `i`, made from nothing else, so that every run has the same. */
export const member = (i) => {
  const seed = (what) => keccak256(toHex(`fusion test ${what} ${i}`));
  const attestationKey = seed('attestation');
  return {
    attestationKey,
    attestation: addressOf(attestationKey),
    consensusSecret: seed('consensus'),
    consensusKey: viem.bytesToHex(ed25519.getPublicKey(seed('consensus').slice(2))),
    peerSecret: seed('peer'),
    peerKey: viem.bytesToHex(ed25519.getPublicKey(seed('peer').slice(2))),
    blsSecret: BigInt(seed('bls')) % BLS_ORDER,
  };
};

/** The form that `register` takes, signed by every key of `keys`. */
export const registration = (chainId, registry, network, operator, keys, withBls) => {
  const packed = withBls ? blsKey(keys.blsSecret) : '0x';
  const { attestation, consensusKey, peerKey } = keys;
  const fields = { network, operator, attestation, consensusKey, peerKey, blsKey: packed };
  const digest = registrationDigest(chainId, registry, fields);
  const [r, vs] = attest(digest, keys.attestationKey);
  const proof = (secret) => viem.bytesToHex(ed25519.sign(digest.slice(2), secret.slice(2)));
  return {
    digest,
    form: {
      attestation, consensusKey, peerKey, blsKey: packed, r, vs,
      blsProof: withBls ? blsSign(digest, keys.blsSecret, true) : '0x',
      consensusProof: proof(keys.consensusSecret),
      peerProof: proof(keys.peerSecret),
    },
  };
};

export const quorum = (members) => members - Math.floor((members - 1) / 3);
