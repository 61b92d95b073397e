// The stories of proto/vectors/resume.json, in which the test plays auth and the
// node; and what breaks the protocol.
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

/** A node that the test plays: it hands out the sockets as they are opened. */
class Node {
  constructor() {
    const node = this;
    this.opened = [];
    this.Socket = class {
      constructor(url, protocols) {
        Object.assign(this, { url: new URL(url), protocols, wrote: [], bufferedAmount: 0, closedWith: undefined, dead: false });
        node.opened.push(this);
      }
      send(data) {
        if (this.closedWith !== undefined) throw new Error('closed');
        this.wrote.push(data);
      }
      close(code = 1005) {
        this.closedWith = this.closedWith ?? code;
      }
      // The node's side.
      accept() {
        this.onopen({});
        return this;
      }
      says(data) {
        const b = Buffer.from(data);
        this.onmessage({ data: typeof data === 'string' ? data : b.buffer.slice(b.byteOffset, b.byteOffset + b.length) });
      }
      breaks(code = 1006, reason = '') {
        this.closedWith = this.closedWith ?? code;
        this.onclose({ code, reason });
      }
      /** Takes what the client wrote of messages so far. */
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
      assert.ok(Date.now() < end, 'the client does not attach');
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

/** A client of the node, its events, and its connect. */
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
  return c;
}

async function attached(node, options, limits) {
  const c = client(node, options);
  const ws = (await node.next()).accept();
  ws.says(welcome(limits));
  await c.connected;
  return [c, ws];
}

/** Plays the node of a story to a client whose application handles everything at once. */
class Player {
  constructor(story) {
    this.story = story;
    this.node = new Node();
    this.acked = 0;
    this.attempt = 0;
  }

  async play() {
    for (const [i, s] of this.story.steps.entries()) {
      if (s.hostile) break; // nothing this client would do
      this.at = `step ${i}, ${s.op}`;
      await (this[s.op] ? this[s.op](s) : undefined);
    }
    this.c?.session?.close();
  }

  cutNow() {
    const ws = this.ws;
    this.ws = this.conn = undefined;
    if (ws && ws.closedWith === undefined) ws.breaks();
  }

  async attach(s) {
    if (s.attempt !== undefined && s.attempt < this.attempt && !s.other) return; // it was on its way long before
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
      ws.breaks(s.code);
      assert.equal(this.c.ended?.code, s.code, this.at);
      return;
    }
    if (s.lost) {
      ws.breaks();
      this.pending = true;
      return;
    }
    const resets = this.c.resets.length;
    const { messages, bytes: size } = this.story.limits;
    ws.says(welcome({
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
      old.breaks(4003, 'replaced');
      assert.deepEqual([before.ended.code, before.ended.unconfirmed.map(payload)], [4003, s.client_unconfirmed || []], this.at);
      this.c.got.unshift(...before.got);
    }
    this.ws = ws;
    this.conn = s.conn;
    this.dead = this.gone = !!s.resends_lost;
    if (!s.resends_lost) {
      assert.deepEqual(ws.messages(), s.client_resends || [], this.at);
      for (const m of s.node_resends || []) ws.says(frame(m));
    }
  }

  async send(s) {
    const there = this.ws && !s.lost;
    if (s.from === 'node') {
      if (there && !this.gone) this.ws.says(frame(s.data, s.volatile ? 3 : 1));
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
      this.ws.says(JSON.stringify({ type: 'ack', received: s.count }));
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
  for (const story of vectors('resume')) test(story.name, () => new Player(story).play());
});

describe('bad controls end the session, with the code', () => {
  for (const v of vectors('bad_controls')) {
    if (v.lexical || v.bytes) continue;
    test(v.name, async () => {
      const node = new Node();
      const [c, ws] = await attached(node);
      ws.says(v.text);
      const code = Buffer.byteLength(v.text) > 4096 ? 4004 : 4000;
      assert.deepEqual([c.ended?.code, ws.closedWith], [code, code]);
    });
  }
});

describe('bad messages end the session and are not counted', () => {
  for (const v of vectors('bad_messages')) {
    test(v.name, async () => {
      const node = new Node();
      const [c, ws] = await attached(node);
      ws.says(bytes(v.frame));
      assert.deepEqual([c.ended?.code, ws.closedWith, c.got.length, c.session.stats.received], [4000, 4000, 0, 0]);
    });
  }
});

test('counts that cannot be', async () => {
  for (const received of [1, 2 ** 53 - 1]) {
    const node = new Node();
    const [c, ws] = await attached(node);
    ws.says(JSON.stringify({ type: 'ack', received }));
    assert.equal(c.ended?.code, 4000);
  }
});

test('a move keeps the old connection until the new one is welcome, and goes back to it', async () => {
  const node = new Node();
  const asked = [];
  const [c, old] = await attached(node, {
    fetch: async (url, init) => {
      asked.push(url.slice(11) + init.body);
      return answer(at);
    },
  });
  c.session.send('a');
  old.says(JSON.stringify({ type: 'goaway', reason: 'drain', after_ms: 0, by_ms: 1000 }));
  const first = await node.next();
  assert.equal(c.session.state, 'moving');
  // Nothing is written on the old connection, and nothing of it counts, until the new one is decided.
  c.session.send('b');
  old.says(frame('x'));
  assert.deepEqual(old.messages(), ['a']);
  assert.deepEqual(c.got, []);
  first.accept().breaks(1006);
  assert.deepEqual(c.got.map(payload), ['x']);
  assert.deepEqual(old.messages(), ['b']);
  const second = await node.next();
  assert.equal(second.url.searchParams.get('received'), '1');
  old.says(frame('y')); // comes again on the new one
  second.accept().says(welcome({ resumed: true, received: 1 }));
  assert.equal(old.closedWith, 1000);
  assert.deepEqual(second.messages(), ['b']);
  old.says(frame('z'));
  second.says(frame('y'));
  assert.deepEqual(c.got.map(payload), ['x', 'y']);
  assert.equal(c.session.state, 'attached');
  assert.deepEqual(asked, ['/v1/login{"method":"guest","credentials":{"name":"ada"}}', '/v1/reconnect{}', '/v1/reconnect{}']);
  c.session.close();
});

test('a node that cannot be reached is named to auth', async () => {
  const node = new Node();
  const asked = [];
  const c = client(node, { fetch: async (url, init) => (asked.push(init.body), answer(at)) });
  (await node.next()).breaks(); // never opened
  (await node.next()).accept().says(welcome());
  await c.connected;
  assert.equal(asked[1], '{"unreachable":"n1"}');
  c.session.close();
});

test('a login waits for its turn', async () => {
  const node = new Node();
  const told = [];
  let n = 3;
  const c = client(node, {
    onQueue: (q) => told.push(q.position),
    fetch: async (url, init) => {
      if (n-- <= 0) return answer(at);
      if (n === 0) return answer({ code: 'store_unavailable' }, 503); // asked again
      assert.ok(url.endsWith('/v1/login') || init.headers.Authorization.startsWith('Bearer ticket'));
      return answer({ ticket: 'ticket' + n, position: n, waiting: 9, poll_after_ms: 1 }, 202);
    },
  });
  (await node.next()).accept().says(welcome());
  await c.connected;
  assert.deepEqual(told, [2, 1]);
  c.session.close();
});

test('a handler that throws stops nothing', async () => {
  const node = new Node();
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
  ws.says(frame('x'));
  globalThis.setTimeout = real;
  await sleep(5);
  assert.equal(caught.message, 'mine'); // it is told to whoever hears of what nobody catches
  off();
  ws.says(frame('y'));
  assert.deepEqual(c.got.map(payload), ['x', 'y']);
  c.session.close();
});

describe('keys', () => {
  const claims = (proof) => JSON.parse(Buffer.from(proof.split('.')[1], 'base64url'));
  const proofOf = (ws) => ws.protocols.find((p) => p.startsWith('usher.proof.'))?.slice('usher.proof.'.length);

  test('each attach and each request takes a new proof', async () => {
    const node = new Node();
    const asked = [];
    const fetch = async (url, init) => {
      asked.push([new URL(url).pathname, init.headers['Usher-Proof'], JSON.parse(init.body)]);
      return answer({ ...at, token: 't' + asked.length, node: { ...at.node } });
    };
    const [c, first] = await attached(node, { key: undefined, fetch });
    assert.equal(asked[0][1], undefined);
    assert.equal(asked[0][2].cnf.jwk.crv, 'P-256');
    assert.equal(asked[0][2].cnf.jwk.d, undefined);
    first.breaks();
    const second = (await node.next()).accept();
    second.says(welcome({ resumed: true }));
    second.breaks(4200, 'going_away');
    const third = (await node.next()).accept();
    third.says(welcome({ resumed: true }));
    await c.session.logout();
    const shown = [proofOf(first), proofOf(second), asked[1][1], proofOf(third), asked[2][1]].map(claims);
    assert.deepEqual(shown.map((p) => p.act), ['attach', 'attach', 'reconnect', 'attach', 'logout']);
    for (let i = 1; i < shown.length; i++) assert.ok(shown[i].n > shown[i - 1].n);
    const hash = (token) => createHash('sha256').update(token).digest('base64url');
    assert.deepEqual(shown.map((p) => p.ath), ['t1', 't1', 't1', 't2', 't2'].map(hash));
  });

  test('a stale proof is followed by another', async () => {
    const node = new Node();
    let asked = 0;
    const fetch = async (url) => {
      if (!url.endsWith('/v1/reconnect') || ++asked > 1) return answer({ ...at, node: { ...at.node } });
      return answer({ code: 'stale_proof' }, 409);
    };
    const [c, first] = await attached(node, { key: undefined, fetch });
    first.breaks();
    const second = (await node.next()).accept();
    second.breaks(4104, 'stale_proof');
    const third = (await node.next()).accept();
    assert.ok(claims(proofOf(third)).n > claims(proofOf(second)).n);
    third.breaks(4200, 'going_away');
    (await node.next()).accept().says(welcome({ resumed: true }));
    await sleep(5);
    assert.equal(asked, 2);
    assert.equal(c.session.state, 'attached');
    c.session.close();
  });

  test('a position takes the key along where nobody else keeps it', async () => {
    const node = new Node();
    const [c, first] = await attached(node, { key: undefined });
    const position = c.session.save();
    c.session.close();
    const next = client(node, { key: undefined, credentials: undefined, position });
    const ws = (await node.next()).accept();
    ws.says(welcome({ resumed: true }));
    await next.connected;
    const jwk = (proof) => JSON.parse(Buffer.from(proof.split('.')[0], 'base64url')).jwk;
    assert.deepEqual(jwk(proofOf(ws)), jwk(proofOf(first)));
    assert.ok(claims(proofOf(ws)).n > claims(proofOf(first)).n);
    next.session.close();
  });

  test('a key of the application', async () => {
    const node = new Node();
    const key = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const c = client(node, { key, credentials: undefined, assignment: { ...at, node: { ...at.node } } });
    const ws = (await node.next()).accept();
    ws.says(welcome());
    await c.connected;
    assert.equal(claims(proofOf(ws)).act, 'attach');
    c.session.close();
  });
});
