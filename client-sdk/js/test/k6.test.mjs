// deploy/k6/journey.js against a real cluster. k6 itself is not required: stubs on Node's http and ws replace the parts of
// its modules that the script uses.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));

// The calls of k6 are synchronous. The stubs are asynchronous, so the test adds awaits to the script.
const modules = {
  k6: `export function check(v, sets) { let all = true; for (const [name, f] of Object.entries(sets)) { const ok = Boolean(f(v)); all &&= ok; (globalThis.k6.checks[name] ??= []).push(ok); } return all; }`,
  'k6/http': `export default { async post(url, body, { headers }) {
    const r = await fetch(url, { method: 'POST', body, headers }); const text = await r.text();
    return { status: r.status, json: () => JSON.parse(text) }; } };`,
  'k6/metrics': `class Metric { constructor(name) { globalThis.k6.metrics[name] = this.values = []; } add(v) { this.values.push(v); } }
    export { Metric as Trend, Metric as Counter };`,
  'k6/ws': `import { WebSocket } from '${pathToFileURL(join(root, 'client-sdk/js/node_modules/ws/wrapper.mjs'))}';
    export default { connect(url, { headers }, f) { return new Promise((resolve) => {
      const { 'Sec-WebSocket-Protocol': protocol, ...rest } = headers;
      const ws = new WebSocket(url, protocol, { headers: rest }); ws.binaryType = 'arraybuffer';
      const on = {}; let timer; let status = 0;
      ws.on('upgrade', (r) => { status = r.statusCode; });
      ws.on('message', (data, binary) => binary ? on.binaryMessage(data) : on.message(Buffer.from(data).toString()));
      ws.on('error', () => {}); ws.on('close', () => { clearTimeout(timer); resolve({ status }); });
      f({ on: (name, g) => { on[name] = g; }, send: (s) => ws.send(s), sendBinary: (b) => ws.send(b), close: (c) => ws.close(c), setTimeout: (g, ms) => { timer = setTimeout(g, ms); } });
    }); } };`,
};

async function freePort() {
  const s = createServer();
  await new Promise((resolve) => s.listen(0, '127.0.0.1', resolve));
  const { port } = s.address();
  await new Promise((resolve) => s.close(resolve));
  return port;
}

test('the k6 script makes journeys', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'usher-k6-'));
  t.after(() => rm(dir, { recursive: true }));
  let script = await readFile(join(root, 'deploy/k6/journey.js'), 'utf8');
  for (const [name, text] of Object.entries(modules)) {
    const file = join(dir, `${name.replace('/', '-')}.mjs`);
    await writeFile(file, text);
    script = script.replace(`from '${name}'`, `from '${pathToFileURL(file)}'`);
  }
  script = script.replace('export default function', 'export default async function').replace('= http.post(', '= await http.post(').replace('= ws.connect(', '= await ws.connect(');
  assert.ok(!/from 'k6/.test(script), 'the script imports a module without a stub');
  const file = join(dir, 'journey.mjs');
  await writeFile(file, script);

  const auth = `127.0.0.1:${await freePort()}`;
  const cluster = spawn(join(root, 'bin/usher'), ['dev', '--nodes=2', '--app=echo', `--auth=${auth}`, `--api=127.0.0.1:${await freePort()}`, `--ops=127.0.0.1:${await freePort()}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => cluster.kill());
  await new Promise((resolve) => cluster.stdout.once('data', resolve));

  globalThis.k6 = { checks: {}, metrics: {} };
  Object.assign(globalThis, { __ENV: { AUTH: `http://${auth}`, MESSAGES: '3' }, __VU: 1, __ITER: 0 });
  const { default: journey, options } = await import(pathToFileURL(file));
  assert.equal(options.scenarios.journeys.executor, 'constant-arrival-rate');
  for (let i = 0; i < 5; i++) {
    globalThis.__ITER = i;
    await journey();
  }
  const { checks, metrics } = globalThis.k6;
  assert.deepEqual(Object.keys(checks).sort(), ['attached', 'echo is what was sent', 'logged in']);
  for (const [name, list] of Object.entries(checks)) assert.ok(list.every(Boolean), name);
  assert.equal(metrics.usher_echo.length, 15);
  assert.equal(metrics.usher_attach.length, 5);
  assert.deepEqual(metrics.usher_lost, [0, 0, 0, 0, 0]);
});
