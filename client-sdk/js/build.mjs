// Builds dist: an ES module, a CommonJS module, a script that sets the global `usher`, a second file of each for proofs of
// possession, and types. Prints the sizes of the scripts, and fails if one is over the limit.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const maxGzipped = 8 * 1024;
const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const common = { bundle: true, target: 'es2017', legalComments: 'none', charset: 'ascii' };

/** Keeps proof.js out of a bundle: the module loads it from the file instead. */
const externalProof = (file) => ({
  name: 'external-proof',
  setup: (b) => b.onResolve({ filter: /^\.\/proof\.js$/ }, (a) => (a.kind === 'dynamic-import' ? { path: file, external: true } : null)),
});

async function buildModules(format, extension) {
  await build({
    ...common, format, entryPoints: [path('src/index.ts')], outfile: path(`dist/usher.${extension}`),
    plugins: [externalProof(`./proof.${extension}`)], supported: { 'dynamic-import': format === 'esm' },
  });
  await build({ ...common, format, entryPoints: [path('src/proof.ts')], outfile: path(`dist/proof.${extension}`) });
}

// Minification renames local variables only. Property names stay: the two scripts call each other's methods, and so does the page.
async function buildScript(entry, file) {
  await build({ ...common, format: 'iife', minify: true, entryPoints: [path(entry)], outfile: path(file) });
  const code = readFileSync(path(file));
  const gzipped = gzipSync(code, { level: 9 }).length;
  console.log(`${file}: ${code.length} bytes, ${gzipped} gzipped (limit ${maxGzipped})`);
  if (gzipped > maxGzipped) process.exitCode = 1;
}

rmSync(path('dist'), { recursive: true, force: true });
await buildModules('esm', 'mjs');
await buildModules('cjs', 'cjs');
await buildScript('src/script.ts', 'dist/usher.min.js');
await buildScript('src/script-proof.ts', 'dist/usher-proof.min.js');
execFileSync(process.execPath, [createRequire(import.meta.url).resolve('typescript/bin/tsc'), '-p', path('tsconfig.json')], { stdio: 'inherit' });
