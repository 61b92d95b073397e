// Builds dist: an ES module, a CommonJS module, a script that sets the global
// «usher», and types. Prints the size of the script, and fails when it is over
// its bound.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const bound = 6 * 1024;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));

rmSync(at('dist'), { recursive: true, force: true });
const options = { entryPoints: [at('src/index.ts')], bundle: true, target: 'es2017', legalComments: 'none', charset: 'ascii' };
await build({ ...options, format: 'esm', outfile: at('dist/usher.mjs') });
await build({ ...options, format: 'cjs', outfile: at('dist/usher.cjs') });
// Names that nobody outside sees, and that are no part of what travels.
const inner = `streamName barren again moveTimer pulse ackTimer saveTimer pings pinged probe inbox delivering wasFull handlers
  client limits restored early unclear emit pump sendPing sendAck restore login ask listen saveSoon store expired reconnect attach event
  closed attemptFailed lost_ moveLater heard deliver acknowledge control welcome forget unconfirmedMessages room write beat
  violation enter end drop turn fresh fits frames frame takeAck handled handle due resumed_ unanswered welcomed failed ceiling
  failures since after wait passed held opened unacked acknowledged bytes key go off retry conn done unclear unreachable_ opened waiting_`;
const mangleProps = new RegExp('^(' + inner.trim().split(/\s+/).join('|') + ')$');
await build({ ...options, format: 'iife', entryPoints: [at('src/script.ts')], minify: true, mangleProps, outfile: at('dist/usher.min.js') });
execFileSync(process.execPath, [createRequire(import.meta.url).resolve('typescript/bin/tsc'), '-p', at('tsconfig.json')], { stdio: 'inherit' });

const script = readFileSync(at('dist/usher.min.js'));
const size = gzipSync(script, { level: 9 }).length;
console.log(`usher.min.js: ${script.length} bytes, ${size} gzipped (at most ${bound})`);
if (size > bound) process.exit(1);
