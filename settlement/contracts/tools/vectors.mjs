// Writes vectors/settlement.json: what README.md's layouts give for chosen values, computed apart from the Solidity. The
// forge tests and the Rust side read it. With --check it writes nothing and fails on a difference.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as p from './protocol.mjs';

const { viem, ZERO } = p;
const text = (what) => viem.keccak256(viem.toHex(what));
const chainId = 31_337;
const inbox = '0x1111111111111111111111111111111111111111';
const registry = '0x2222222222222222222222222222222222222222';
const operator = '0x3333333333333333333333333333333333333333';
const network = text('network');

const namespaces = [7n, 901n, 902n, 90_001n, 2n ** 64n - 1n].map((rollup, i) => ({
  rollup, firstSequence: BigInt(i * 1000), count: 3n, head: text(`head ${i}`), transactionsRoot: '',
}));
const transactions = [0, 1, 2].map((i) => text(`transaction ${i}`));
const transactionTree = p.merkle(transactions.map(p.transactionLeaf));
for (const leaf of namespaces) leaf.transactionsRoot = transactionTree.root;
const namespaceTree = p.merkle(namespaces.map(p.namespaceLeaf));

const member = p.member(0);
const other = p.member(1);
const fault = {
  kind: 2, epoch: 3n, height: 1_000_001n, round: 2, attestation: member.attestation,
  consensusKey: member.consensusKey, proof: text('two precommits'),
};
const faultTree = p.merkle([p.faultLeaf(fault)]);
const roster = viem.concat([0, 1, 2, 3].map((i) => p.member(i).attestation));
const nextCommittee = p.committeeHash(network, 4n, 1, roster);
const blobs = [1, 2].map((i) => `0x01${text(`blob ${i}`).slice(4)}`);
const item0 = p.forcedItem(ZERO, 901n, operator, '0xaabbcc', 1_000);
const item1 = p.forcedItem(item0, 902n, operator, '0xdd', 1_001);

const batch = {
  network, number: 5n, epoch: 3n, firstHeight: 401n, lastHeight: 500n, parent: text('parent'), lastBlock: text('block'),
  namespaces: namespaceTree.root, l1Number: 1_200n, l1Hash: text('l1'), forcedTo: 2n,
  forcedHash: item1, nextCommittee, faults: faultTree.root,
};
const short = { ...batch, nextCommittee: ZERO, faults: ZERO };
const data = p.blobData(blobs);
const digest = p.batchDigest(chainId, inbox, batch, data);
const [r, vs] = p.attest(digest, member.attestationKey);
const registered = p.registration(chainId, registry, network, operator, member, true);

const vectors = {
  chainId, inbox, registry, network,
  batch: {
    fields: batch, hash: p.batchHash(batch), data, digest, header: p.header(batch, data), shortHash: p.batchHash(short),
    shortHeader: p.header(short, data), attestation: member.attestation, r, vs, blobs,
    calldata: '0x0102030405', calldataData: p.calldataData('0x0102030405'),
  },
  bls: {
    key: p.blsKey(member.blsSecret), signature: p.blsSign(digest, member.blsSecret),
    otherKey: p.blsKey(other.blsSecret), otherSignature: p.blsSign(digest, other.blsSecret),
    aggregate: p.blsSign(digest, (member.blsSecret + other.blsSecret) % p.BLS_ORDER),
  },
  committee: { epoch: 4, scheme: 1, roster, hash: nextCommittee },
  forced: [
    { rollup: 901, sender: operator, payload: '0xaabbcc', block: 1000, item: item0 },
    { rollup: 902, sender: operator, payload: '0xdd', block: 1001, item: item1 },
  ],
  namespaces: {
    leaves: namespaces.map((leaf, i) => ({ ...leaf, leaf: p.namespaceLeaf(leaf), proof: namespaceTree.proofs[i] })),
    root: namespaceTree.root, transactions, transactionProofs: transactionTree.proofs,
  },
  registration: { operator, ...registered.form, digest: registered.digest },
  fault: { ...fault, leaf: p.faultLeaf(fault), root: faultTree.root },
};
// Numbers up to 2^53 as numbers, larger as text: every reader takes both.
const plain = (_, value) => (typeof value === 'bigint' ? (value < 2n ** 53n ? Number(value) : String(value)) : value);
const written = `${JSON.stringify(vectors, plain, 2)}\n`;
const folder = fileURLToPath(new URL('../vectors', import.meta.url));
if (process.argv.includes('--check')) {
  if (readFileSync(`${folder}/settlement.json`, 'utf8') !== written) {
    process.stderr.write('vectors/settlement.json is not what tools/vectors.mjs gives\n');
    process.exit(1);
  }
} else {
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/settlement.json`, written);
}
