// Bundles the parts that the vectors test.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
await build({ entryPoints: [at('../src/testing.ts')], bundle: true, format: 'esm', target: 'es2017', outfile: at('.testing.mjs'), logLevel: 'error' });
