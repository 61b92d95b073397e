// Each build format has the public API by name and can be used. The other tests use the ES module.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { gzipSync } from 'node:zlib';

const require = createRequire(import.meta.url);
const dist = (name) => fileURLToPath(new URL(`../dist/${name}`, import.meta.url));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const maxGzipped = 8 * 1024;
const exportedNames = ['Session', 'UsherError', 'connect', 'guest', 'password'];
const sessionMethods = ['assignment', 'close', 'logout', 'networkChanged', 'on', 'ping', 'save', 'send'];
const sessionProperties = ['id', 'node', 'rtt', 'state', 'stats', 'unconfirmed', 'user'];

/** Runs scripts of dist in a context that has these globals only. Returns the context. */
function runScripts(globals, ...names) {
  const context = vm.createContext({ setTimeout, clearTimeout, ...globals });
  for (const name of names) vm.runInContext(readFileSync(dist(name), 'utf8'), context);
  return context;
}

for (const name of ['usher.min.js', 'usher-proof.min.js']) {
  test(`${name} has at most 8 KB gzipped`, () => {
    const gzipped = gzipSync(readFileSync(dist(name)), { level: 9 }).length;
    assert.ok(gzipped <= maxGzipped, `${gzipped} bytes, at most ${maxGzipped} are allowed`);
  });
}

describe('the public API is there by name', () => {
  const formats = {
    'ES module': () => import('../dist/usher.mjs'),
    CommonJS: () => require(dist('usher.cjs')),
    script: () => runScripts({}, 'usher.min.js').usher,
  };
  for (const [format, load] of Object.entries(formats)) {
    test(format, async () => {
      const usher = await load();
      assert.deepEqual(Object.keys(usher).sort(), exportedNames);
      for (const name of exportedNames) assert.equal(typeof usher[name], 'function', name);
      const { prototype } = usher.Session;
      for (const name of sessionMethods) assert.equal(typeof prototype[name], 'function', name);
      for (const name of sessionProperties) assert.equal(typeof Object.getOwnPropertyDescriptor(prototype, name)?.get, 'function', name);
      assert.deepEqual({ ...usher.guest('ada') }.method, 'guest');
      assert.equal(usher.password('ada', 'secret').credentials.password, 'secret');
      const error = new usher.UsherError('no_capacity', 'full', 503, 2000);
      assert.deepEqual([error.code, error.status, error.retryAfter, error.passing], ['no_capacity', 503, 2000, true]);
    });
  }
});

test('proofs, in each format', async () => {
  const { createProver } = await import('../dist/proof.mjs');
  assert.equal(typeof createProver, 'function');
  assert.equal(typeof require(dist('proof.cjs')).createProver, 'function');
  const context = runScripts({ crypto, btoa, TextEncoder, Uint8Array }, 'usher-proof.min.js');
  const prover = await vm.runInContext('usherCreateProver()', context);
  assert.equal(prover.cnf.jwk.kty, 'EC');
  assert.match(await prover.prove('attach', 't'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
});

// If the page has WebCrypto, the script needs the second script, unless `key` is false.
test('the script without usher-proof.min.js', async () => {
  const context = runScripts({ crypto }, 'usher.min.js');
  const requests = [];
  context.options = {
    auth: 'http://auth', credentials: context.usher.guest('ada'),
    fetch: async (url) => (requests.push(url), { status: 401, headers: { get: () => null }, json: async () => ({ code: 'invalid_credentials' }) }),
  };
  await assert.rejects(vm.runInContext('usher.connect(options)', context), { code: 'no_proof' });
  assert.equal(requests.length, 0);
  await assert.rejects(vm.runInContext('usher.connect(Object.assign({ key: false }, options))', context), { code: 'invalid_credentials' });
});

/** A fake auth and a fake node: `fetch` and `WebSocket` are options of connect. */
function fakeCluster() {
  const cluster = { requests: [], sockets: [] };
  const assignment = { token: 't', session: 'sid', node: { id: 'n1', url: 'ws://n1/v1/connect' } };
  cluster.fetch = async (url, { headers }) => {
    cluster.requests.push({ path: new URL(url).pathname, ...headers });
    return { status: 200, headers: { get: () => null }, json: async () => assignment };
  };
  cluster.WebSocket = class {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, wrote: [], bufferedAmount: 0 });
      cluster.sockets.push(this);
    }
    send(data) {
      this.wrote.push(data);
    }
    close(code) {
      this.closedWith = code;
    }
  };
  /** Waits for the first WebSocket of the client, opens it, and sends a welcome. */
  cluster.welcome = async () => {
    while (!cluster.sockets.length) await sleep(1);
    const [socket] = cluster.sockets;
    socket.onopen({});
    socket.onmessage({
      data: JSON.stringify({
        type: 'welcome', session: 'sid', stream: 's1', node: 'n1', resumed: false, received: 0, ping_interval_ms: 600000, resume_window_ms: 1,
        max_message_bytes: 65536, max_unacked_bytes: 262144, max_unacked_messages: 1024, token_expires_at: '2126-01-02T03:04:05Z',
      }),
    });
    return socket;
  };
  return cluster;
}

/** Connects with the script, sends and receives a message, and logs out. */
async function useScript(context, cluster) {
  context.options = { auth: 'http://auth', credentials: context.usher.guest('ada'), fetch: cluster.fetch, WebSocket: cluster.WebSocket };
  const connecting = vm.runInContext('usher.connect(options)', context);
  const socket = await cluster.welcome();
  const session = await connecting;
  assert.deepEqual([session.state, session.id, session.node], ['attached', 'sid', 'n1']);

  const states = [];
  const received = [];
  session.on('state', (s) => states.push([s.state, s.code, s.reason]));
  session.on('message', (m) => received.push(m.data));
  assert.equal(session.send('gr\u00fc\u00df \ud83c\udfae'), true);
  const frame = socket.wrote.find((d) => typeof d !== 'string');
  assert.equal(Buffer.from(frame).toString('hex'), '016772c3bcc39f20f09f8eae');
  assert.equal(session.unconfirmed, 1);
  socket.onmessage({ data: vm.runInContext('new Uint8Array([1, 0xc3, 0xbc]).buffer', context) });
  assert.deepEqual(received, ['\u00fc']);
  assert.deepEqual(JSON.parse(session.save()).kept, ['016772c3bcc39f20f09f8eae']);
  assert.equal(session.assignment().token, 't');
  session.ping();
  assert.match(socket.wrote.at(-1), /"ping"/);

  await session.logout();
  assert.equal(session.state, 'ended');
  assert.deepEqual(states, [['ended', 4001, 'logged_out']]);
  assert.notEqual(socket.closedWith, undefined);
  assert.equal(cluster.requests.at(-1).path, '/v1/logout');
  assert.equal(cluster.requests.at(-1).Authorization, 'Bearer t');
  assert.throws(() => session.send('x'), /ended/);
  return socket;
}

// An engine that has timers only: no TextDecoder, URL, fetch, btoa or WebSocket. The options provide what the script needs.
test('the script in an engine without browser APIs: connect, send, receive, log out', { timeout: 20_000 }, async () => {
  const cluster = fakeCluster();
  const socket = await useScript(runScripts({}, 'usher.min.js'), cluster);
  assert.deepEqual([...socket.protocols], ['usher.v1', 'usher.token.t']);
});

// A page has WebCrypto and a key store, in which the end of a session deletes the key.
test('both scripts in a page with WebCrypto: connect, send, receive, log out', { timeout: 20_000 }, async () => {
  const cluster = fakeCluster();
  const indexedDB = fakeKeyStore();
  const globals = { crypto, btoa, TextEncoder, TextDecoder, Uint8Array, indexedDB };
  const socket = await useScript(runScripts(globals, 'usher-proof.min.js', 'usher.min.js'), cluster);
  assert.match(socket.protocols[2], /^usher\.proof\./);
  assert.ok(cluster.requests.at(-1)['Usher-Proof'], 'the logout has no proof');
  await sleep(20);
  assert.equal(indexedDB.puts, 1);
  assert.equal(indexedDB.keys.size, 0, 'the key was not deleted');
});

/** The part of IndexedDB that the SDK uses. */
function fakeKeyStore() {
  const db = { keys: new Map(), puts: 0 };
  const request = (result) => {
    const r = { result };
    setTimeout(() => r.onsuccess());
    return r;
  };
  const store = {
    put: (value, name) => (db.puts++, db.keys.set(name, value), request()),
    get: (name) => request(db.keys.get(name)),
    delete: (name) => (db.keys.delete(name), request()),
    getAllKeys: () => request([...db.keys.keys()]),
  };
  db.open = () => request({ createObjectStore() {}, transaction: () => ({ objectStore: () => store }) });
  return db;
}

test('the types compile', () => {
  const tsc = require.resolve('typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '--noEmit', '--strict', '--target', 'es2017', '--lib', 'es2017,dom', '--moduleResolution', 'bundler', '--module', 'esnext', dist('index.d.ts')]);
});

test('the types document every public name', () => {
  const ts = require('typescript');
  const undocumented = [];
  for (const file of ['index', 'session', 'types', 'errors']) {
    const source = ts.createSourceFile(file, readFileSync(dist(`${file}.d.ts`), 'utf8'), ts.ScriptTarget.ES2017, true);
    const visit = (node, owner) => {
      const isPrivate = (ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Private) !== 0;
      const isPublicName = ts.isClassElement(node) || ts.isTypeElement(node) || ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node);
      if (isPublicName && !isPrivate && !ts.isConstructorDeclaration(node)) {
        const name = `${owner}${node.name.getText(source)}`;
        if (!node.jsDoc?.length) undocumented.push(`${file}.d.ts: ${name}`);
        node.members?.forEach((member) => visit(member, `${name}.`));
      }
    };
    source.statements.forEach((statement) => visit(statement, ''));
  }
  assert.deepEqual(undocumented, []);
});
