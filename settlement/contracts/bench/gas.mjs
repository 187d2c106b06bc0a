// Whole transactions on a real anvil: posts with blobs by committees of 4, 16 and 64, duplicates, forced transactions and
// slashes. Prints README.md's table. With --check it fails where a figure is above the one to reach. Loopback only.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import * as p from '../tools/protocol.mjs';

const { bls, viem, ZERO } = p;
const { concat, keccak256, numberToHex, toHex } = viem;
const root = fileURLToPath(new URL('..', import.meta.url));
const artifact = (name) => JSON.parse(readFileSync(`${root}artifacts/${name}.json`, 'utf8'));
const NETWORK = keccak256(toHex('fusion bench'));
// anvil's first account: a key that everybody knows.
const OWNER = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const OPERATOR = p.addressOf(OWNER);
const BOND = 10n ** 18n;

const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close((error) => (error ? reject(error) : resolve(port)));
    });
  });

const port = await freePort();
const platform = `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`;
const anvil = spawn(
  `${root}target/node_modules/@foundry-rs/anvil-${platform}/bin/anvil`,
  ['--silent', '--host', '127.0.0.1', '--port', String(port)],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
let died = null;
anvil.on('exit', (code) => (died = `anvil ended with ${code}`));
process.on('exit', () => anvil.kill());

let calls = 0;
async function rpc(method, ...params) {
  const body = JSON.stringify({ jsonrpc: '2.0', id: (calls += 1), method, params });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`http://127.0.0.1:${port}`, { method: 'POST', headers, body });
  const answer = await response.json();
  if (answer.error) throw new Error(`${method}: ${JSON.stringify(answer.error).slice(0, 400)}`);
  return answer.result;
}

// Until it answers, or is dead: the connection is refused as long as it starts.
for (;;) {
  if (died) throw new Error(died);
  const id = await rpc('eth_chainId').catch((error) => (error.cause?.code === 'ECONNREFUSED' ? null : Promise.reject(error)));
  if (id) break;
}
const chainId = Number(await rpc('eth_chainId'));

// ---- transactions, signed here: anvil's own account signing knows no blobs ----

const rlpNumber = (n) => (BigInt(n) === 0n ? '0x' : numberToHex(BigInt(n)));
const sign = (unsigned, type) => {
  const signature = p.secp256k1.sign(keccak256(concat([type, viem.toRlp(unsigned)])).slice(2), OWNER.slice(2), { lowS: true });
  return [...unsigned, rlpNumber(signature.recovery), rlpNumber(signature.r), rlpNumber(signature.s)];
};
let nonce = 0;

/** Blob `i`: every field element is i + 1, so its commitment is (i + 1)·G and every proof is the identity. */
function constantBlob(i) {
  const element = numberToHex(i + 1, { size: 32 }).slice(2);
  const commitment = `0x${bls.G1.ProjectivePoint.BASE.multiply(BigInt(i + 1)).toHex(true)}`;
  const digest = viem.sha256(commitment);
  return { blob: `0x${element.repeat(4096)}`, commitment, versioned: `0x01${digest.slice(4)}` };
}
const IDENTITY = `0xc0${'00'.repeat(47)}`;

async function send(to, data, { value = 0n, blobs = [], gas = 16_000_000, fails = false } = {}) {
  const shared = [rlpNumber(chainId), rlpNumber(nonce++), rlpNumber(10 ** 9), rlpNumber(10 ** 11), rlpNumber(gas), to ?? '0x', rlpNumber(value), data, []];
  let raw;
  if (blobs.length === 0) {
    raw = concat(['0x02', viem.toRlp(sign(shared, '0x02'))]);
  } else {
    const signed = sign([...shared, rlpNumber(10 ** 10), blobs.map((blob) => blob.versioned)], '0x03');
    const cells = blobs.flatMap(() => Array(128).fill(IDENTITY));
    raw = concat(['0x03', viem.toRlp([signed, '0x01', blobs.map((b) => b.blob), blobs.map((b) => b.commitment), cells])]);
  }
  const hash = await rpc('eth_sendRawTransaction', raw);
  // anvil mines at once, but answers before it has: a large transaction takes a moment.
  let receipt = null;
  for (let asked = 0; !receipt && asked < 2000; asked++) receipt = await rpc('eth_getTransactionReceipt', hash);
  if (!receipt) throw new Error(`no receipt of ${hash}: ${JSON.stringify(await rpc('txpool_status'))}`);
  if ((receipt.status === '0x1') === fails) {
    const why = await rpc('debug_traceTransaction', hash, { tracer: 'callTracer' }).catch((error) => error.message);
    throw new Error(`transaction ${fails ? 'succeeded' : 'failed'}: ${JSON.stringify(why).slice(0, 800)}`);
  }
  return { gas: Number(receipt.gasUsed), address: receipt.contractAddress, block: Number(receipt.blockNumber) };
}

const contracts = {};
async function deploy(name, args = []) {
  const { abi, bytecode } = artifact(name);
  const result = await send(null, viem.encodeDeployData({ abi, bytecode, args }), {});
  contracts[result.address] = abi;
  return result;
}
const call = (abi, functionName, args) => viem.encodeFunctionData({ abi, functionName, args });

// ---- one network ----

const rows = [];
const note = (what, gas, reach = null) => rows.push({ what, gas, reach });

/** Deploys a network whose committee has `size` members under `scheme`. */
async function network(size, scheme) {
  const ecdsa = await deploy('EcdsaCertificateVerifier');
  const aggregate = await deploy('BlsCertificateVerifier');
  const registry = await deploy('CommitteeRegistry', [NETWORK, OPERATOR, BOND, 14n * 86400n, 86400n, [ecdsa.address, aggregate.address]]);
  const abi = artifact('CommitteeRegistry').abi;
  const members = Array.from({ length: size }, (_, i) => p.member(i));
  let registered;
  for (const keys of members) {
    const { form } = p.registration(chainId, registry.address, NETWORK, OPERATOR, keys, scheme === 2);
    registered = await send(registry.address, call(abi, 'register', [form]), { value: BOND });
    await send(registry.address, call(abi, 'approve', [keys.attestation]));
  }
  const roster = concat(members.map((keys) => (scheme === 1 ? keys.attestation : p.blsKey(keys.blsSecret))));
  const installed = await send(registry.address, call(abi, 'install', [0n, scheme, roster]));
  const committee = p.committeeHash(NETWORK, 0n, scheme, roster);
  const inbox = await deploy('BatchInbox', [registry.address, {
    committee, genesisEpoch: 0n, guardian: OPERATOR, treasury: OPERATOR,
    forcedBlocks: 64n, escapeBlocks: 7200n, forcedFee: 10n ** 14n,
  }]);
  const evidence = await deploy('Evidence', [registry.address, inbox.address, 50_400n]);
  await send(registry.address, call(abi, 'wire', [inbox.address, evidence.address]));
  return { size, scheme, members, registry, inbox, evidence, registered, installed, last: null, forced: { to: 0n, hash: ZERO } };
}

/** The next batch of `net`, with all its hashes random-looking, as they are in life. */
async function nextBatch(net) {
  const { last } = net;
  const tip = Number(await rpc('eth_blockNumber'));
  const origin = await rpc('eth_getBlockByNumber', numberToHex(tip), false);
  const number = last ? last.number + 1n : 0n;
  const firstHeight = last ? last.lastHeight + 1n : 1n;
  const some = (what) => keccak256(toHex(`${what} ${number}`));
  return {
    network: NETWORK, number, epoch: 0n, firstHeight, lastHeight: firstHeight + 999n,
    parent: last ? p.batchHash(last) : ZERO, lastBlock: some('block'), namespaces: some('namespaces'),
    l1Number: BigInt(tip), l1Hash: origin.hash, forcedTo: net.forced.to,
    forcedHash: net.forced.to === (last?.forcedTo ?? 0n) ? ZERO : net.forced.hash,
    nextCommittee: ZERO, faults: ZERO,
  };
}

function certificate(net, batch, data) {
  const digest = p.batchDigest(chainId, net.inbox.address, batch, data);
  // The last quorum: the first third is absent.
  const signers = net.members.map((_, i) => i).slice(net.size - p.quorum(net.size));
  const bits = p.bitmap(net.size, signers);
  if (net.scheme === 1) return concat([bits, ...signers.flatMap((i) => p.attest(digest, net.members[i].attestationKey))]);
  const sum = signers.reduce((sum, i) => (sum + net.members[i].blsSecret) % p.BLS_ORDER, 0n);
  return concat([bits, p.blsSign(digest, sum)]);
}

const inboxAbi = artifact('BatchInbox').abi;
async function post(net, blobCount) {
  const blobs = Array.from({ length: blobCount }, (_, i) => constantBlob(i));
  const batch = await nextBatch(net);
  const data = p.blobData(blobs.map((blob) => blob.versioned));
  const input = call(inboxAbi, 'post', [p.header(batch, data), certificate(net, batch, data)]);
  const { gas } = await send(net.inbox.address, input, { blobs });
  net.last = batch;
  return { gas, input, blobs };
}

async function forced(net, bytes) {
  const payload = `0x${'b7'.repeat(bytes)}`;
  const data = call(inboxAbi, 'enqueueForced', [901n, payload]);
  const { gas, block } = await send(net.inbox.address, data, { value: 10n ** 14n });
  net.forced = { to: net.forced.to + 1n, hash: p.forcedItem(net.forced.hash, 901n, OPERATOR, payload, block) };
  return gas;
}

async function measurePosts(size, scheme, reach) {
  const name = scheme === 1 ? 'ECDSA' : 'BLS';
  const net = await network(size, scheme);
  // Before the steady state: a queue that was used, and a first batch.
  await forced(net, 110);
  const first = await post(net, 1);
  const steady = await post(net, 1);
  const full = await post(net, 6);
  note(`post, n = ${size}, ${name}, 1 blob`, steady.gas, reach);
  note(`post, n = ${size}, ${name}, 6 blobs`, full.gas, reach);
  note(`first post, n = ${size}, ${name}`, first.gas);
  const duplicate = await send(net.inbox.address, full.input, { blobs: full.blobs, fails: true });
  note(`duplicate post, n = ${size}, ${name}`, duplicate.gas, size === 4 && scheme === 1 ? 39_000 : null);
  note(`register, ${name}`, net.registered.gas);
  note(`install, n = ${size}, ${name}`, net.installed.gas);
  return net;
}

async function measureOthers(net) {
  const payload = `0x${'5a'.repeat(300)}`;
  const batch = await nextBatch(net);
  const data = p.calldataData(payload);
  const tiny = call(inboxAbi, 'postCalldata', [p.header(batch, data), certificate(net, batch, data), payload]);
  note('post, n = 4, ECDSA, 300 B of calldata', (await send(net.inbox.address, tiny)).gas);
  net.last = batch;
  for (const bytes of [110, 1000, 10_000]) {
    note(`forced transaction of ${bytes} B`, await forced(net, bytes), bytes === 110 ? 78_000 : null);
  }
  const evidenceAbi = artifact('Evidence').abi;
  const hashes = [keccak256('0x01'), keccak256('0x02')].sort();
  const named = hashes.map((hash) => keccak256(hash));
  const signatures = hashes.flatMap((hash, i) => {
    const digest = attestationDigest(net, 3n, hash, named[i]);
    return p.attest(digest, net.members[1].attestationKey);
  });
  const report = call(evidenceAbi, 'reportAttestations', [0n, 3n, hashes, named, signatures, OPERATOR, ZERO]);
  note('attestation equivocation slashed', (await send(net.evidence.address, report)).gas, 70_000);
}

/** Of a batch of which only the hash is known. */
function attestationDigest(net, number, hash, data) {
  const types = (text) => keccak256(toHex(text));
  const abi = (...words) => concat(words.map((word) => viem.pad(word, { size: 32 })));
  const batchType = 'Batch(bytes32 network,uint64 number,uint64 epoch,uint64 firstHeight,uint64 lastHeight,bytes32 parent,bytes32 lastBlock,bytes32 namespaces,uint64 l1Number,bytes32 l1Hash,uint64 forcedTo,bytes32 forcedHash,bytes32 nextCommittee,bytes32 faults)';
  const domainHash = keccak256(abi(
    types('EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)'),
    types('Fusion'), types('1'), numberToHex(chainId), net.inbox.address,
  ));
  const struct = keccak256(abi(types(`Attestation(uint64 epoch,uint64 number,Batch batch,bytes32 data)${batchType}`), '0x00', numberToHex(number), hash, data));
  return keccak256(concat(['0x1901', domainHash, struct]));
}

const small = await measurePosts(4, 1, 85_000);
await measureOthers(small);
await measurePosts(16, 1, 120_000);
await measurePosts(64, 1, null);
await measurePosts(64, 2, 225_000);

console.log('| transaction | gas | to reach |\n|---|---|---|');
const number = (n) => n.toLocaleString('en-US');
for (const { what, gas, reach } of rows) console.log(`| ${what} | ${number(gas)} | ${reach ? `≤ ${number(reach)}` : ''} |`);
const missed = rows.filter(({ gas, reach }) => reach && gas > reach);
for (const { what, gas, reach } of missed) console.error(`${what}: ${gas} gas is above ${reach}`);
process.exit(process.argv.includes('--check') && missed.length > 0 ? 1 : 0);
