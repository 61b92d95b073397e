// Sessions with many cuts lose no message, duplicate none, and keep the order, against a real node.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect, guest } from '../dist/usher.mjs';
import { startCluster } from './cluster.mjs';
import { faultyWebSockets } from './wire.mjs';

const sessions = Number(process.env.USHER_JS_SESSIONS || 20);
const cuts = Number(process.env.USHER_JS_CUTS || 25);
const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));

let cluster;
before(async () => (cluster = await startCluster('--ping-interval=1s')));
after(() => cluster.stop());

/** A client that sends numbered messages to an echo application, and records the replies. */
async function newClient(name, options = {}) {
  const wire = faultyWebSockets();
  const p = { name, wire, sent: 0, got: [], resets: [], states: [] };
  p.session = await connect({
    auth: cluster.auth, credentials: guest(name), WebSocket: wire.Socket,
    random: () => Math.random() / 10, // after many cuts the client would wait up to 20 s, too long for a test
    on: {
      message: (m) => p.got.push(m.data),
      reset: (r) => p.resets.push(r),
      state: (s) => p.states.push(s.state),
    },
    ...options,
  });
  p.send = () => {
    if (p.session.send(String(p.sent + 1))) p.sent++;
  };
  p.awaitAll = async () => {
    const end = Date.now() + 20_000;
    while (p.got.length < p.sent && Date.now() < end) await sleep(20);
    assert.deepEqual(p.got, Array.from({ length: p.sent }, (_, i) => String(i + 1)), `${name}: lost, duplicated or out of order`);
    assert.deepEqual(p.resets, []);
  };
  return p;
}

test(`${sessions} sessions, ${cuts} cuts each`, { timeout: 900_000 }, async () => {
  const list = await Promise.all(Array.from({ length: sessions }, (_, i) => newClient(`cut-${i}`)));
  await Promise.all(list.map(async (p) => {
    for (let i = 0; i < cuts; i++) {
      for (let k = Math.floor(Math.random() * 12); k >= 0; k--) {
        p.send();
        if (Math.random() < 0.3) await sleep(Math.random() * 10);
      }
      const before = p.session.stats.resumes;
      if (Math.random() < 0.75) p.wire.cut();
      else {
        p.wire.blackhole(); // half-open: the network has changed
        p.session.networkChanged();
      }
      p.send();
      const end = Date.now() + 20_000;
      while (p.session.stats.resumes === before && Date.now() < end) {
        if (Math.random() < 0.05) p.send();
        await sleep(Math.random() * 20);
      }
    }
  }));
  await Promise.all(list.map((p) => p.awaitAll()));
  const sum = (f) => list.reduce((n, p) => n + f(p), 0);
  console.log(`${sum((p) => p.sent)} messages echoed, ${sum((p) => p.session.stats.resumes)} resumes, 0 lost, 0 duplicated, in order`);
  assert.ok(sum((p) => p.session.stats.resumes) >= sessions * cuts);
  for (const p of list) {
    assert.equal(p.session.unconfirmed <= 32, true);
    p.session.close();
    assert.equal(p.session.state, 'ended');
  }
});

test('a session moves when its node is drained', { timeout: 60_000 }, async () => {
  const p = await newClient('mover');
  for (let i = 0; i < 50; i++) p.send();
  const first = p.session.node;
  const r = await fetch(`${cluster.api}/v1/nodes/${first}/drain`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: '{"window_ms":100,"keep":true}' });
  assert.equal(r.status, 200);
  const end = Date.now() + 15_000;
  while (p.session.node === first && Date.now() < end) {
    p.send();
    await sleep(20);
  }
  assert.notEqual(p.session.node, first);
  assert.ok(!p.states.includes('detached'), `the session was detached: ${p.states}`);
  assert.ok(p.states.includes('moving'));
  await p.awaitAll();
  await fetch(`${cluster.api}/v1/nodes/${first}/drain`, { method: 'DELETE' });
  p.session.close();
});

test('a kick ends the session with its reason', async () => {
  const p = await newClient('kicked');
  p.send();
  await p.awaitAll();
  const ended = new Promise((ok) => p.session.on('state', (s) => s.state === 'ended' && ok(s)));
  await fetch(`${cluster.api}/v1/sessions/${p.session.id}?reason=cheating`, { method: 'DELETE' });
  const s = await ended;
  assert.deepEqual([s.code, s.reason], [4002, 'cheating']);
  assert.throws(() => p.session.send('x'), /ended/);
});

test('a saved position continues in another process', { timeout: 30_000 }, async () => {
  const a = await newClient('reload');
  for (let i = 0; i < 20; i++) a.send();
  await a.awaitAll();
  a.wire.blackhole(); // later messages do not arrive
  for (let i = 0; i < 5; i++) a.send();
  const position = a.session.save();
  const b = await newClient('reload', { credentials: undefined, position });
  assert.equal(b.session.id, a.session.id);
  assert.deepEqual(b.resets, []);
  b.sent = 0;
  const end = Date.now() + 5000;
  while (b.got.length < 5 && Date.now() < end) await sleep(20);
  assert.deepEqual(b.got, ['21', '22', '23', '24', '25'], 'the unconfirmed messages of the first process');
  a.session.close();

  // A position that is older than the counts of the node begins a new stream, with a reset.
  for (let i = 0; i < 40; i++) b.session.send('later');
  while (b.session.unconfirmed) await sleep(20);
  await sleep(300);
  b.wire.cut();
  b.session.close();
  const c = await newClient('reload', { credentials: undefined, position });
  assert.equal(c.session.id, a.session.id);
  assert.equal(c.resets.length, 1);
  c.session.close();
});

test('storage: a reloaded page continues its session, and logs in when the session has ended', { timeout: 30_000 }, async () => {
  const kept = new Map();
  const storage = { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v), removeItem: (k) => kept.delete(k) };
  const a = await newClient('page', { storage });
  a.send();
  await a.awaitAll();
  await sleep(300);
  a.wire.cut();
  a.session.close(); // the page is closed
  const b = await newClient('page', { storage });
  assert.equal(b.session.id, a.session.id);
  await b.session.logout();
  assert.equal(kept.size, 0);
  kept.set('usher', a.session.save());
  const c = await newClient('page', { storage });
  assert.notEqual(c.session.id, a.session.id);
  c.send();
  await c.awaitAll();
  c.session.close();
});

test('send returns false when the session is full, and drain follows', { timeout: 30_000 }, async () => {
  const p = await newClient('full');
  p.wire.blackhole();
  let n = 0;
  while (p.session.send('x') && n < 5000) n++;
  assert.equal(n, 1024);
  const drained = new Promise((ok) => p.session.on('drain', ok));
  p.wire.cut();
  await drained;
  assert.throws(() => p.session.send(new Uint8Array(65537)), RangeError);
  p.session.close();
});

test('volatile messages and bytes', { timeout: 30_000 }, async () => {
  const p = await newClient('bytes');
  p.session.send(new Uint8Array([0, 255, 128]));
  p.session.send('v', { volatile: true });
  const end = Date.now() + 5000;
  while (p.got.length < 2 && Date.now() < end) await sleep(10);
  assert.deepEqual(new Uint8Array(p.got[0]), new Uint8Array([0, 255, 128]));
  assert.equal(p.got[1], 'v');
  assert.ok(p.session.rtt >= 0);
  p.session.close();
});

test('connect rejects impossible options and refusals', async () => {
  await assert.rejects(connect({ auth: cluster.auth, credentials: { method: 'password', credentials: {} } }), (e) => e.code === 'invalid_request' && e.status === 400);
  await assert.rejects(connect({ auth: 'http://127.0.0.1:1', credentials: guest('x') }), (e) => e.code === 'unreachable');
  await assert.rejects(connect({ auth: cluster.auth }), /set credentials/);
});
