// What is built can be used: the ES module is what the other tests use.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import vm from 'node:vm';

const dist = (name) => fileURLToPath(new URL(`../dist/${name}`, import.meta.url));

test('proofs, in each form', async () => {
  const { proofs } = await import('../dist/proof.mjs');
  assert.equal(typeof proofs, 'function');
  assert.equal(typeof createRequire(import.meta.url)(dist('proof.cjs')).proofs, 'function');
  const context = vm.createContext({ crypto, btoa, TextEncoder, Uint8Array });
  vm.runInContext(readFileSync(dist('usher-proof.min.js'), 'utf8'), context);
  const p = await vm.runInContext('usherProofs()', context);
  assert.equal(p.cnf.jwk.kty, 'EC');
  assert.match(await p.prove('attach', 't'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
});

// With a page that has WebCrypto, the script asks for the other one, unless told not to.
test('the script without its other half', async () => {
  const context = vm.createContext({ setTimeout, clearTimeout, crypto });
  vm.runInContext(readFileSync(dist('usher.min.js'), 'utf8'), context);
  const asked = [];
  context.options = {
    auth: 'http://auth', credentials: context.usher.guest('ada'),
    fetch: async (url) => (asked.push(url), { status: 401, headers: { get: () => null }, json: async () => ({ code: 'invalid_credentials' }) }),
  };
  await assert.rejects(vm.runInContext('usher.connect(options)', context), { code: 'no_proof' });
  assert.equal(asked.length, 0);
  await assert.rejects(vm.runInContext('usher.connect(Object.assign({ key: false }, options))', context), { code: 'invalid_credentials' });
});

test('CommonJS', () => {
  const usher = createRequire(import.meta.url)(dist('usher.cjs'));
  assert.deepEqual(usher.guest('ada'), { method: 'guest', credentials: { name: 'ada' } });
  assert.equal(typeof usher.connect, 'function');
});

// The script, where there is nothing of a browser but timers, and no TextDecoder,
// URL, fetch, btoa or WebSocket: all that it needs is injected.
test('the script, in an engine that has nothing', { timeout: 20_000 }, async () => {
  const sockets = [];
  class Socket {
    constructor(url) {
      this.url = url;
      this.wrote = [];
      sockets.push(this);
    }
    send(data) {
      this.wrote.push(data);
    }
    close() {}
  }
  const at = { token: 't', session: 'sid', node: { id: 'n1', url: 'ws://n1/v1/connect' } };
  const context = vm.createContext({ setTimeout, clearTimeout });
  vm.runInContext(readFileSync(dist('usher.min.js'), 'utf8'), context);
  context.options = {
    auth: 'http://auth', credentials: context.usher.guest('ada'), WebSocket: Socket,
    fetch: async () => ({ status: 200, headers: { get: () => null }, json: async () => at }),
  };
  const connected = vm.runInContext('usher.connect(options)', context);
  while (!sockets.length) await new Promise((ok) => setTimeout(ok, 1));
  const ws = sockets[0];
  ws.onopen({});
  ws.onmessage({
    data: JSON.stringify({
      type: 'welcome', session: 'sid', stream: 's1', node: 'n1', resumed: false, received: 0, ping_interval_ms: 600000, resume_window_ms: 1,
      max_message_bytes: 65536, max_unacked_bytes: 262144, max_unacked_messages: 1024, token_expires_at: '2126-01-02T03:04:05Z',
    }),
  });
  const session = await connected;
  const got = [];
  session.on('message', (m) => got.push(m.data));
  assert.equal(session.send('gr\u00fc\u00df \ud83c\udfae'), true);
  const frame = ws.wrote.find((d) => typeof d !== 'string');
  assert.equal(Buffer.from(frame).toString('hex'), '016772c3bcc39f20f09f8eae');
  ws.onmessage({ data: vm.runInContext('new Uint8Array([1, 0xc3, 0xbc]).buffer', context) });
  assert.deepEqual(got, ['\u00fc']);
  assert.deepEqual(JSON.parse(session.save()).kept, ['016772c3bcc39f20f09f8eae']);
  session.close();
});

test('types', () => {
  const file = dist('index.d.ts');
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '--noEmit', '--strict', '--target', 'es2017', '--lib', 'es2017,dom', '--moduleResolution', 'bundler', '--module', 'esnext', file]);
});
