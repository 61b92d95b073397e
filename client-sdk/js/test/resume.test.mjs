// The scenarios of proto/vectors/resume.json, and protocol violations. The test plays auth and the node.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { connect, guest } from '../dist/usher.mjs';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../proto/vectors/${name}.json`, import.meta.url), 'utf8'));
const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));
const bytes = (hex) => Uint8Array.from((hex || '').match(/../g) || [], (b) => parseInt(b, 16));
const frame = (text, kind = 1) => Buffer.concat([Buffer.from([kind]), Buffer.from(text)]);
const payload = (m) => (typeof m.data === 'string' ? m.data : Buffer.from(m.data).toString('hex'));

/** A fake node: `next` returns the sockets in the order in which the client opens them. After the test it ends the sessions. */
class Node {
  constructor(t) {
    const node = this;
    this.opened = [];
    this.clients = [];
    const sockets = [];
    let stopped = false;
    t.after(() => {
      stopped = true;
      for (const c of this.clients) c.session?.close();
      for (const ws of sockets) if (ws.closedWith === undefined) ws.end(4001); // of clients that are not attached
    });
    this.Socket = class {
      constructor(url, protocols) {
        Object.assign(this, { url: new URL(url), protocols, wrote: [], bufferedAmount: 0, closedWith: undefined, dead: false });
        node.opened.push(this);
        sockets.push(this);
        if (stopped) setTimeout(() => this.end(4001));
      }
      send(data) {
        if (this.closedWith !== undefined) throw new Error('closed');
        this.wrote.push(data);
      }
      close(code = 1005) {
        this.closedWith = this.closedWith ?? code;
      }
      // Methods for the node's side.
      accept() {
        this.onopen({});
        return this;
      }
      deliver(data) {
        const b = Buffer.from(data);
        this.onmessage({ data: typeof data === 'string' ? data : b.buffer.slice(b.byteOffset, b.byteOffset + b.length) });
      }
      end(code = 1006, reason = '') {
        this.closedWith = this.closedWith ?? code;
        this.onclose({ code, reason });
      }
      /** Returns and removes the messages that the client wrote so far. */
      messages() {
        const list = this.wrote.filter((d) => typeof d !== 'string').map((d) => Buffer.from(d));
        this.wrote = this.wrote.filter((d) => typeof d === 'string');
        return list.map((b) => b.subarray(1).toString());
      }
    };
  }

  async next() {
    const end = Date.now() + 5000;
    while (this.opened.length === 0) {
      assert.ok(Date.now() < end, 'the client has not attached within 5 s');
      await sleep(1);
    }
    return this.opened.shift();
  }
}

const answer = (body, status = 200) => ({ status, headers: { get: () => null }, json: async () => body });
const at = { token: 't', token_expires_at: '2126-01-02T03:04:05Z', session: 'sid', user: 'ada', node: { id: 'n1', url: 'ws://n1/v1/connect' } };
const welcome = (o = {}) => JSON.stringify({
  type: 'welcome', session: 'sid', stream: 's1', node: 'n1', resumed: false, received: 0, ping_interval_ms: 600000, resume_window_ms: 60000,
  max_message_bytes: 65536, max_unacked_bytes: 262144, max_unacked_messages: 1024, token_expires_at: '2126-01-02T03:04:05Z', ...o,
});

/** Calls connect with the fake node, and records the events. */
function client(node, options = {}) {
  const c = { got: [], resets: [], ended: undefined };
  c.connected = connect({
    auth: 'http://auth', credentials: guest('ada'), key: false, WebSocket: node.Socket, fetch: async () => answer({ ...at, node: { ...at.node } }), random: () => 0,
    on: {
      message: (m) => c.got.push(m),
      reset: (r) => c.resets.push(r),
      state: (s) => s.state === 'ended' && (c.ended = s),
    },
    ...options,
  });
  c.connected.then((s) => (c.session = s), () => {});
  node.clients.push(c);
  return c;
}

async function attached(node, options, limits) {
  const c = client(node, options);
  const ws = (await node.next()).accept();
  ws.deliver(welcome(limits));
  await c.connected;
  return [c, ws];
}

/** Plays the node of a scenario for a client whose application handles every message at once. */
class Player {
  constructor(t, scenario) {
    this.scenario = scenario;
    this.node = new Node(t);
    this.acked = 0;
    this.attempt = 0;
  }

  async play() {
    for (const [i, s] of this.scenario.steps.entries()) {
      if (s.hostile) break; // the client does not do this
      this.at = `step ${i}, ${s.op}`;
      await (this[s.op] ? this[s.op](s) : undefined);
    }
  }

  cutNow() {
    const ws = this.ws;
    this.ws = this.conn = undefined;
    if (ws && ws.closedWith === undefined) ws.end();
  }

  async attach(s) {
    if (s.attempt !== undefined && s.attempt < this.attempt && !s.other) return; // a delayed attempt, which the client has given up
    if (s.attempt !== undefined) this.attempt = s.attempt;
    const before = this.c;
    const old = this.ws;
    const pending = this.pending;
    this.pending = false;
    if (!pending) {
      if (!this.c || s.other) {
        this.c = client(this.node, s.other ? { credentials: undefined, assignment: before.session.assignment() } : {});
      } else this.cutNow();
    }
    const ws = await this.node.next();
    const q = ws.url.searchParams;
    assert.deepEqual([q.get('stream'), q.get('received')], [s.names ?? null, s.names ? String(s.received || 0) : null], this.at);
    assert.deepEqual(ws.protocols, ['usher.v1', 'usher.token.t'], this.at);
    ws.accept();
    if (s.outcome === 'refused') {
      ws.end(s.code);
      assert.equal(this.c.ended?.code, s.code, this.at);
      return;
    }
    if (s.lost) {
      ws.end();
      this.pending = true;
      return;
    }
    const resets = this.c.resets.length;
    const { messages, bytes: size } = this.scenario.limits;
    ws.deliver(welcome({
      stream: s.stream, resumed: s.outcome === 'resumed', reason: s.reason, received: s.counted || 0,
      max_unacked_messages: messages, max_unacked_bytes: size, max_message_bytes: size,
    }));
    await this.c.connected;
    if (s.outcome === 'reset') {
      assert.equal(this.c.resets.length, resets + 1, this.at);
      const r = this.c.resets.at(-1);
      assert.deepEqual([r.reason, r.unconfirmed.map(payload)], [s.reason, s.client_unconfirmed || []], this.at);
    } else assert.equal(this.c.resets.length, resets, this.at);
    if (s.other) {
      old.end(4003, 'replaced');
      assert.deepEqual([before.ended.code, before.ended.unconfirmed.map(payload)], [4003, s.client_unconfirmed || []], this.at);
      this.c.got.unshift(...before.got);
    }
    this.ws = ws;
    this.conn = s.conn;
    this.dead = this.gone = !!s.resends_lost;
    if (!s.resends_lost) {
      assert.deepEqual(ws.messages(), s.client_resends || [], this.at);
      for (const m of s.node_resends || []) ws.deliver(frame(m));
    }
  }

  async send(s) {
    const there = this.ws && !s.lost;
    if (s.from === 'node') {
      if (there && !this.gone) this.ws.deliver(frame(s.data, s.volatile ? 3 : 1));
      return;
    }
    const ok = this.c.session.send(s.data, { volatile: !!s.volatile });
    assert.equal(ok, s.error !== 'full', this.at);
    if (!ok) return;
    const wrote = this.ws ? this.ws.messages() : [];
    if (there && !this.dead) assert.deepEqual(wrote, [s.data], this.at);
    else this.dead = true;
  }

  async ack(s) {
    if (s.lost || (s.from === 'client' && s.count === this.acked)) return;
    if (s.from === 'node') {
      this.ws.deliver(JSON.stringify({ type: 'ack', received: s.count }));
      return;
    }
    this.acked = s.count;
    const want = `{"type":"ack","received":${s.count}}`;
    const end = Date.now() + 2000;
    while (!this.ws.wrote.includes(want)) {
      assert.ok(Date.now() < end, `${this.at}: the client wrote ${this.ws.wrote}`);
      await sleep(5);
    }
  }

  async cut(s) {
    if (s.conn !== this.conn) return;
    if (s.seen_by === 'node') this.dead = this.gone = true;
    else this.cutNow();
  }

  async delivered(s) {
    assert.deepEqual(this.c.got.map(payload), s.to_client || [], this.at);
  }
}

describe('resume', () => {
  for (const scenario of vectors('resume')) test(scenario.name, (t) => new Player(t, scenario).play());
});

describe('bad controls end the session, with the code', () => {
  for (const v of vectors('bad_controls')) {
    if (v.lexical || v.bytes) continue;
    test(v.name, async (t) => {
      const node = new Node(t);
      const [c, ws] = await attached(node);
      ws.deliver(v.text);
      const code = Buffer.byteLength(v.text) > 4096 ? 4004 : 4000;
      assert.deepEqual([c.ended?.code, ws.closedWith], [code, code]);
    });
  }
});

describe('bad messages end the session and are not counted', () => {
  for (const v of vectors('bad_messages')) {
    test(v.name, async (t) => {
      const node = new Node(t);
      const [c, ws] = await attached(node);
      ws.deliver(bytes(v.frame));
      assert.deepEqual([c.ended?.code, ws.closedWith, c.got.length, c.session.stats.received], [4000, 4000, 0, 0]);
    });
  }
});

test('impossible counts', async (t) => {
  for (const received of [1, 2 ** 53 - 1]) {
    const node = new Node(t);
    const [c, ws] = await attached(node);
    ws.deliver(JSON.stringify({ type: 'ack', received }));
    assert.equal(c.ended?.code, 4000);
  }
});

test('a move keeps the old connection until the new one has its welcome, and returns to it if the attempt fails', async (t) => {
  const node = new Node(t);
  const requests = [];
  const [c, old] = await attached(node, {
    fetch: async (url, init) => {
      requests.push(url.slice(11) + init.body);
      return answer(at);
    },
  });
  c.session.send('a');
  old.deliver(JSON.stringify({ type: 'goaway', reason: 'drain', after_ms: 0, by_ms: 1000 }));
  const first = await node.next();
  assert.equal(c.session.state, 'moving');
  // Until the outcome of the attempt is known, nothing is written on the old connection, and nothing on it counts.
  c.session.send('b');
  old.deliver(frame('x'));
  assert.deepEqual(old.messages(), ['a']);
  assert.deepEqual(c.got, []);
  first.accept().end(1006);
  assert.deepEqual(c.got.map(payload), ['x']);
  assert.deepEqual(old.messages(), ['b']);
  const second = await node.next();
  assert.equal(second.url.searchParams.get('received'), '1');
  old.deliver(frame('y')); // is sent again on the new connection
  second.accept().deliver(welcome({ resumed: true, received: 1 }));
  assert.equal(old.closedWith, 1000);
  assert.deepEqual(second.messages(), ['b']);
  old.deliver(frame('z'));
  second.deliver(frame('y'));
  assert.deepEqual(c.got.map(payload), ['x', 'y']);
  assert.equal(c.session.state, 'attached');
  assert.deepEqual(requests, ['/v1/login{"method":"guest","credentials":{"name":"ada"}}', '/v1/reconnect{}', '/v1/reconnect{}']);
});

/** A fetch that answers the login and the first `moves` requests of /v1/reconnect, and leaves the later ones without an answer. */
const fetchForMoves = (moves) => async (url) => (!url.endsWith('/v1/reconnect') || moves-- > 0 ? answer(at) : new Promise(() => {}));
const leave = JSON.stringify({ type: 'goaway', reason: 'drain', after_ms: 0, by_ms: 1000 });

test('messages that wait for a handler across a reset do not count on the new stream', async (t) => {
  const node = new Node(t);
  const [c, first] = await attached(node, { on: {} });
  for (const text of ['a', 'b']) first.deliver(frame(text));
  first.end();
  const second = (await node.next()).accept();
  second.deliver(welcome({ stream: 's2', reason: 'unknown' }));
  assert.equal(c.session.stats.resets, 1);
  second.deliver(frame('c'));
  c.session.on('message', (m) => c.got.push(m));
  await sleep(200);
  assert.deepEqual(c.got.map(payload), ['a', 'b', 'c']);
  assert.deepEqual(second.wrote.filter((d) => d.includes('"ack"')), ['{"type":"ack","received":1}']);
  assert.equal(JSON.parse(c.session.save()).received, 1);
});

test('a probe waits for the attempt of a move', async (t) => {
  const node = new Node(t);
  const [c, old] = await attached(node, { fetch: fetchForMoves(1) });
  c.session.networkChanged();
  old.deliver(leave);
  const next = (await node.next()).accept();
  await sleep(2100);
  assert.deepEqual([c.session.state, old.closedWith, node.opened.length], ['moving', undefined, 0]);
  next.deliver(welcome({ resumed: true }));
  assert.deepEqual([c.session.state, old.closedWith, next.closedWith], ['attached', 1000, undefined]);
});

test('a probe ends the old connection after a failed attempt, unless its pong came during the attempt', async (t) => {
  const outcomes = [true, false].map(async (answered) => {
    const node = new Node(t);
    const [c, old] = await attached(node, { fetch: fetchForMoves(1) });
    old.deliver(old.wrote.pop().replace('ping', 'pong'));
    c.session.networkChanged();
    const probe = old.wrote.pop();
    old.deliver(leave);
    const next = (await node.next()).accept();
    await sleep(2100);
    if (answered) old.deliver(probe.replace('ping', 'pong'));
    next.end();
    assert.deepEqual([c.session.state, old.closedWith], ['moving', undefined]);
    await sleep(2100);
    assert.equal(old.closedWith, answered ? undefined : 1000);
  });
  await Promise.all(outcomes);
});

test('an acknowledgement that was due during the attempt of a move is sent when the attempt fails', async (t) => {
  const node = new Node(t);
  const [c, old] = await attached(node, { fetch: fetchForMoves(1) });
  const acks = () => old.wrote.filter((d) => d.includes('"ack"'));
  old.deliver(frame('x'));
  old.deliver(leave);
  const next = (await node.next()).accept();
  await sleep(200);
  assert.deepEqual(acks(), []);
  next.end();
  await sleep(200);
  assert.deepEqual(acks(), ['{"type":"ack","received":1}']);
});

const pings = (ws) => ws.wrote.filter((d) => d.includes('"ping"')).length;

test('networkChanged during the attempt of a move probes the old connection when the attempt fails', async (t) => {
  const node = new Node(t);
  const [c, old] = await attached(node, { fetch: fetchForMoves(1) });
  old.deliver(leave);
  const next = (await node.next()).accept();
  const before = pings(old);
  c.session.networkChanged();
  next.end();
  assert.equal(pings(old), before + 1);
});

test('networkChanged during an attempt probes the new connection', async (t) => {
  const node = new Node(t);
  const [c, first] = await attached(node);
  first.end();
  const second = (await node.next()).accept();
  c.session.networkChanged();
  second.deliver(welcome({ resumed: true }));
  await sleep(2100);
  assert.equal(second.closedWith, 1000);
});

test('networkChanged during a request to auth makes the next attempt at once', async (t) => {
  const node = new Node(t);
  let refuse;
  const busy = { ...answer({ code: 'no_capacity' }, 503), headers: { get: () => '60' } };
  const fetch = async (url) => (url.endsWith('/v1/login') || refuse ? answer(at) : new Promise((ok) => (refuse = () => ok(busy))));
  const [c, first] = await attached(node, { fetch, random: () => 0.999 });
  first.end(4200, 'going_away');
  while (!refuse) await sleep(1);
  c.session.networkChanged();
  refuse();
  (await node.next()).accept().deliver(welcome({ resumed: true }));
  assert.equal(c.session.state, 'attached');
});

describe('a handler may end the session', () => {
  /** Attaches a client, and records its states and its requests to auth. */
  async function recorded(t, options, limits) {
    const node = new Node(t);
    const requests = [];
    const fetch = async (url) => (requests.push(new URL(url).pathname), answer({ ...at, node: { ...at.node } }));
    const [c, ws] = await attached(node, { fetch, ...options }, limits);
    const states = [];
    c.session.on('state', (s) => states.push(s.state));
    return { node, session: c.session, ws, states, requests, c };
  }
  const reset = welcome({ stream: 's2', reason: 'unknown' });

  for (const end of ['close', 'logout']) {
    test(`${end} at a reset`, async (t) => {
      const { node, session, ws, states } = await recorded(t);
      session.on('reset', () => session[end]());
      ws.end();
      const next = (await node.next()).accept();
      next.deliver(reset);
      assert.deepEqual([states, session.state, next.closedWith], [['detached', 'ended'], 'ended', 1000]);
    });
  }

  test('close in the state attached: other handlers do not get attached after ended, and the stored position stays', async (t) => {
    const stored = new Map();
    const storage = { getItem: (k) => stored.get(k) ?? null, setItem: (k, v) => stored.set(k, v), removeItem: (k) => stored.delete(k) };
    const node = new Node(t);
    const [c, ws] = await attached(node, { storage });
    const states = [];
    let atEnd;
    c.session.on('state', (s) => s.state === 'attached' && c.session.close());
    c.session.on('state', (s) => states.push(s.state) && s.state === 'ended' && (atEnd = stored.get('usher')));
    ws.end();
    const next = (await node.next()).accept();
    next.deliver(welcome({ resumed: true }));
    assert.deepEqual(states, ['detached', 'ended']);
    c.session.on('message', () => {});
    await sleep(300); // the position is stored 250 ms after a change
    assert.equal(JSON.parse(stored.get('usher')).stream, 's1');
    assert.equal(atEnd, stored.get('usher'));
  });

  test('close in the state detached: no attempt is scheduled', async (t) => {
    const timers = () => process.getActiveResourcesInfo().filter((r) => r === 'Timeout').length;
    const { session, ws } = await recorded(t, { random: () => 0.999 });
    session.on('state', (s) => s.state === 'detached' && session.close());
    const before = timers();
    ws.end();
    assert.ok(timers() < before, `${timers()} timers, ${before} before`);
  });

  test('close in the state moving: auth is not asked', async (t) => {
    const { session, ws, states, requests } = await recorded(t);
    session.on('state', (s) => s.state === 'moving' && session.close());
    ws.deliver(leave);
    await sleep(20);
    assert.deepEqual([states, requests], [['moving', 'ended'], ['/v1/login']]);
  });

  test('close at a message: the messages after it are not delivered', async (t) => {
    const { session, ws } = await recorded(t, { on: {} });
    for (const text of ['a', 'b']) ws.deliver(frame(text));
    const got = [];
    session.on('message', (m) => got.push(m.data) && session.close());
    await sleep(5);
    assert.deepEqual(got, ['a']);
  });

  test('close at a drain', async (t) => {
    const { session, ws, states } = await recorded(t, {}, { max_unacked_messages: 1 });
    session.on('drain', () => session.close());
    assert.deepEqual([session.send('a'), session.send('b')], [true, false]);
    ws.deliver(JSON.stringify({ type: 'ack', received: 1 }));
    assert.deepEqual([states, ws.closedWith], [['ended'], 1000]);
  });

  test('close at a round-trip time', async (t) => {
    const { session, ws, states } = await recorded(t);
    session.on('rtt', () => session.close());
    ws.deliver(ws.wrote.find((d) => d.includes('"ping"')).replace('ping', 'pong'));
    assert.deepEqual([states, ws.closedWith], [['ended'], 1000]);
  });
});

test('the client reports a node that cannot be reached to auth', async (t) => {
  const node = new Node(t);
  const requests = [];
  const c = client(node, { fetch: async (url, init) => (requests.push(init.body), answer(at)) });
  (await node.next()).end(); // never opened
  (await node.next()).accept().deliver(welcome());
  await c.connected;
  assert.equal(requests[1], '{"unreachable":"n1"}');
});

test('a login waits in the queue', async (t) => {
  const node = new Node(t);
  const positions = [];
  let n = 3;
  const c = client(node, {
    onQueue: (q) => positions.push(q.position),
    fetch: async (url, init) => {
      if (n-- <= 0) return answer(at);
      if (n === 0) return answer({ code: 'store_unavailable' }, 503); // the client asks again
      assert.ok(url.endsWith('/v1/login') || init.headers.Authorization.startsWith('Bearer ticket'));
      return answer({ ticket: 'ticket' + n, position: n, waiting: 9, poll_after_ms: 1 }, 202);
    },
  });
  (await node.next()).accept().deliver(welcome());
  await c.connected;
  assert.deepEqual(positions, [2, 1]);
});

test('a handler that throws does not stop the session', async (t) => {
  const node = new Node(t);
  const [c, ws] = await attached(node);
  const real = globalThis.setTimeout;
  let caught;
  globalThis.setTimeout = (f, ...rest) => real(() => {
    try {
      f();
    } catch (e) {
      caught = e;
    }
  }, ...rest);
  const off = c.session.on('message', () => {
    throw new Error('mine');
  });
  ws.deliver(frame('x'));
  globalThis.setTimeout = real;
  await sleep(5);
  assert.equal(caught.message, 'mine'); // as an uncaught error
  off();
  ws.deliver(frame('y'));
  assert.deepEqual(c.got.map(payload), ['x', 'y']);
});

describe('keys', () => {
  const claims = (proof) => JSON.parse(Buffer.from(proof.split('.')[1], 'base64url'));
  const proofOf = (ws) => ws.protocols.find((p) => p.startsWith('usher.proof.'))?.slice('usher.proof.'.length);

  test('each attach, reconnect and logout has a new proof', async (t) => {
    const node = new Node(t);
    const requests = [];
    const fetch = async (url, init) => {
      requests.push([new URL(url).pathname, init.headers['Usher-Proof'], JSON.parse(init.body)]);
      return answer({ ...at, token: 't' + requests.length, node: { ...at.node } });
    };
    const [c, first] = await attached(node, { key: undefined, fetch });
    assert.equal(requests[0][1], undefined);
    assert.equal(requests[0][2].cnf.jwk.crv, 'P-256');
    assert.equal(requests[0][2].cnf.jwk.d, undefined);
    first.end();
    const second = (await node.next()).accept();
    second.deliver(welcome({ resumed: true }));
    second.end(4200, 'going_away');
    const third = (await node.next()).accept();
    third.deliver(welcome({ resumed: true }));
    await c.session.logout();
    const proofs = [proofOf(first), proofOf(second), requests[1][1], proofOf(third), requests[2][1]].map(claims);
    assert.deepEqual(proofs.map((p) => p.act), ['attach', 'attach', 'reconnect', 'attach', 'logout']);
    for (let i = 1; i < proofs.length; i++) assert.ok(proofs[i].n > proofs[i - 1].n);
    const hash = (token) => createHash('sha256').update(token).digest('base64url');
    assert.deepEqual(proofs.map((p) => p.ath), ['t1', 't1', 't1', 't2', 't2'].map(hash));
  });

  test('after a stale proof the client makes a new one', async (t) => {
    const node = new Node(t);
    let reconnects = 0;
    const fetch = async (url) => {
      if (!url.endsWith('/v1/reconnect') || ++reconnects > 1) return answer({ ...at, node: { ...at.node } });
      return answer({ code: 'stale_proof' }, 409);
    };
    const [c, first] = await attached(node, { key: undefined, fetch });
    first.end();
    const second = (await node.next()).accept();
    second.end(4104, 'stale_proof');
    const third = (await node.next()).accept();
    assert.ok(claims(proofOf(third)).n > claims(proofOf(second)).n);
    third.end(4200, 'going_away');
    (await node.next()).accept().deliver(welcome({ resumed: true }));
    await sleep(5);
    assert.equal(reconnects, 2);
    assert.equal(c.session.state, 'attached');
  });

  test('a position contains the key if there is no key store', async (t) => {
    const node = new Node(t);
    const [c, first] = await attached(node, { key: undefined });
    const position = c.session.save();
    c.session.close();
    const next = client(node, { key: undefined, credentials: undefined, position });
    const ws = (await node.next()).accept();
    ws.deliver(welcome({ resumed: true }));
    await next.connected;
    const jwk = (proof) => JSON.parse(Buffer.from(proof.split('.')[0], 'base64url')).jwk;
    assert.deepEqual(jwk(proofOf(ws)), jwk(proofOf(first)));
    assert.ok(claims(proofOf(ws)).n > claims(proofOf(first)).n);
  });

  test('a key of the application', async (t) => {
    const node = new Node(t);
    const key = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const c = client(node, { key, credentials: undefined, assignment: { ...at, node: { ...at.node } } });
    const ws = (await node.next()).accept();
    ws.deliver(welcome());
    await c.connected;
    assert.equal(claims(proofOf(ws)).act, 'attach');
  });
});
