// Writes artifacts/NAME.json of every contract that somebody deploys: name, ABI, both bytecodes, and nothing that differs
// from machine to machine. With --check it writes nothing and fails where a file differs from what is built.
import { readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const names = ['BatchInbox', 'BlsCertificateVerifier', 'CommitteeRegistry', 'EcdsaCertificateVerifier', 'Evidence'];
const check = process.argv.includes('--check');

mkdirSync(join(root, 'artifacts'), { recursive: true });
let stale = 0;
for (const name of names) {
  const built = JSON.parse(readFileSync(join(root, 'target', 'out', `${name}.sol`, `${name}.json`), 'utf8'));
  const artifact = {
    contractName: name,
    abi: built.abi,
    bytecode: built.bytecode.object,
    deployedBytecode: built.deployedBytecode.object,
  };
  const text = `${JSON.stringify(artifact)}\n`;
  const file = join(root, 'artifacts', `${name}.json`);
  if (!check) {
    writeFileSync(file, text);
  } else {
    let committed = '';
    try {
      committed = readFileSync(file, 'utf8');
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
    if (committed !== text) {
      process.stderr.write(`artifacts/${name}.json is not what the sources give: run tools/artifacts.mjs\n`);
      stale += 1;
    }
  }
}
process.exit(stale === 0 ? 0 : 1);
