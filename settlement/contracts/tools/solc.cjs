#!/usr/bin/env node
// Presents npm's solc (WebAssembly) to forge as a native compiler. forge calls it with --version and with
// --standard-json, and with nothing else.
'use strict';
const fs = require('fs');
const path = require('path');

const solc = require(path.join(__dirname, '..', 'target', 'node_modules', 'solc'));
const args = process.argv.slice(2);
const values = (name) => args.flatMap((arg, i) => (arg === name ? [args[i + 1]] : []));

// A pipe takes what it has room for: what is left is offered again.
function writeAll(text) {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += fs.writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

if (args.includes('--version')) {
  writeAll(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (args.includes('--standard-json')) {
  const roots = [...values('--base-path'), ...values('--include-path'), '.'];
  const read = (name) => {
    const file = roots.map((root) => path.resolve(root, name)).find((file) => fs.existsSync(file));
    return file ? { contents: fs.readFileSync(file, 'utf8') } : { error: `file not found: ${name}` };
  };
  writeAll(solc.compile(fs.readFileSync(0, 'utf8'), { import: read }));
} else {
  process.stderr.write('only --version and --standard-json are supported\n');
  process.exit(2);
}
