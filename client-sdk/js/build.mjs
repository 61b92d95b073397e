// Builds dist: an ES module, a CommonJS module, a script that sets the global
// «usher», what each loads for proofs, and types. Prints the sizes of the scripts, and
// fails when one is over its bound.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { minify } from 'terser';

const bound = 6 * 1024;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));

rmSync(at('dist'), { recursive: true, force: true });
const options = { bundle: true, target: 'es2017', legalComments: 'none', charset: 'ascii' };
// Proof of possession is a file of its own, in each form.
const apart = (file) => ({
  name: 'apart',
  setup: (b) => b.onResolve({ filter: /^\.\/proof\.js$/ }, (a) => (a.kind === 'dynamic-import' ? { path: file, external: true } : null)),
});
for (const [format, ext] of [['esm', 'mjs'], ['cjs', 'cjs']]) {
  await build({ ...options, entryPoints: [at('src/index.ts')], format, outfile: at('dist/usher.' + ext), plugins: [apart('./proof.' + ext)], supported: { 'dynamic-import': format === 'esm' } });
  await build({ ...options, entryPoints: [at('src/proof.ts')], format, outfile: at('dist/proof.' + ext) });
}
// Names that nobody outside sees, and that are no part of what travels.
const inner = `streamName barren again moveTimer pulse ackTimer saveTimer pings pinged probe inbox delivering wasFull handlers
  client limits restored early unclear emit pump sendPing sendAck restore login ask listen saveSoon store expired reconnect attach event
  closed attemptFailed lost_ moveLater heard deliver acknowledge control welcome forget unconfirmedMessages room write beat
  violation enter end drop turn fresh fits frames frame takeAck handled handle due resumed_ unanswered welcomed failed ceiling
  failures since after wait passed held opened unacked acknowledged bytes slot go off retry conn done unclear unreachable_ opened waiting_ prover proofs next timer messages named start size`;
const mangleProps = new RegExp('^(' + inner.trim().split(/\s+/).join('|') + ')$');
// What esbuild leaves, terser takes: a twentieth.
async function script(entry, file, more) {
  await build({ ...options, ...more, format: 'iife', entryPoints: [at(entry)], minify: true, outfile: at(file) });
  const smaller = await minify(readFileSync(at(file), 'utf8'), { ecma: 2017, compress: { passes: 3, keep_fargs: false, pure_getters: true, unsafe_arrows: true, unsafe_methods: true, hoist_props: true }, format: { ascii_only: true } });
  writeFileSync(at(file), smaller.code + '\n');
  const size = gzipSync(smaller.code, { level: 9 }).length;
  console.log(`${file}: ${smaller.code.length} bytes, ${size} gzipped (at most ${bound})`);
  if (size > bound) process.exitCode = 1;
}
await script('src/script.ts', 'dist/usher.min.js', { mangleProps });
await script('src/proof-script.ts', 'dist/usher-proof.min.js');
execFileSync(process.execPath, [createRequire(import.meta.url).resolve('typescript/bin/tsc'), '-p', at('tsconfig.json')], { stdio: 'inherit' });
