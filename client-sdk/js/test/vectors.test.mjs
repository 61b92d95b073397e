// The conformance vectors of proto/vectors that concern a client.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { actionOf, Backoff, createProver, decodeMessage, decodeSlowly, decodeText, encodeMessage, encodeSlowly, encodeText, parseControl, Stream } from './.testing.mjs';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../proto/vectors/${name}.json`, import.meta.url), 'utf8'));
const bytes = (hex) => Uint8Array.from((hex || '').match(/../g) || [], (b) => parseInt(b, 16));

describe('messages', () => {
  for (const v of vectors('messages')) {
    test(v.name, () => {
      const data = v.text ? v.string || '' : bytes(v.data);
      assert.deepEqual(encodeMessage(data, !!v.volatile), bytes(v.frame));
      const m = decodeMessage(bytes(v.frame));
      assert.equal(m.volatile, !!v.volatile);
      assert.deepEqual(typeof m.data === 'string' ? m.data : new Uint8Array(m.data), data);
      if (v.text) {
        for (const [encode, decode] of [[encodeText, decodeText], [encodeSlowly, decodeSlowly]]) {
          assert.deepEqual(encode(data), bytes(v.data));
          assert.equal(decode(bytes(v.data)), data);
        }
      }
    });
  }
});

describe('bad messages', () => {
  for (const v of vectors('bad_messages')) {
    test(v.name, () => {
      assert.equal(decodeMessage(bytes(v.frame)), null);
      if (v.error === 'invalid_utf8') assert.throws(() => decodeSlowly(bytes(v.frame).subarray(1)));
    });
  }
});

describe('controls', () => {
  for (const v of vectors('controls')) {
    test(v.name, () => {
      const c = parseControl(v.text);
      assert.equal(typeof c, 'object', `refused with ${c}`);
      if (v.client === 'ignore') {
        assert.equal(c.type, 'unknown');
        return;
      }
      const want = v.control;
      assert.equal(c.type, want.type);
      const fields = want.welcome || want.goaway || { received: want.received, id: want.id };
      for (const [name, value] of Object.entries(fields)) {
        if (name === 'token_expires_at') assert.equal(Date.parse(c[name]), Date.parse(value));
        else if (value !== undefined && name in c) assert.deepEqual(c[name], value, name);
        else assert.ok(!value, name); // an absent field is 0, false or empty
      }
    });
  }
});

describe('bad controls', () => {
  for (const v of vectors('bad_controls')) {
    if (v.lexical || v.bytes) continue;
    test(v.name, () => {
      const code = parseControl(v.text);
      assert.equal(code, encodeText(v.text).length > 4096 ? 4004 : 4000);
    });
  }
});

describe('close codes', () => {
  for (const v of vectors('close_codes')) test(`${v.code} ${v.name}`, () => assert.equal(actionOf(v.code), v.action));
});

describe('backoff', () => {
  for (const v of vectors('backoff')) {
    test(v.name, () => {
      let draw = 0;
      const backoff = new Backoff(() => draw);
      v.steps.forEach((s, i) => {
        draw = s.draw || 0;
        const events = {
          ended: () => backoff.connectionEnded(s.at_ms, s.code, s.attached_ms || 0),
          attach_failed: () => backoff.attachFailed(s.at_ms, s.code),
          unreachable: () => backoff.unreachable(),
          welcome: () => (backoff.welcomed(), { wait: 0, step: '' }),
          reconnected: () => (backoff.assigned(s.at_ms), { wait: 0, step: 'attach' }),
          reconnect_failed: () => backoff.reconnectFailed(s.hint_ms || 0),
          reconnect_refused: () => ({ wait: 0, step: 'stop' }),
        };
        const { wait, step } = events[s.event]();
        assert.deepEqual([Math.floor(wait), step], [s.wait_ms || 0, s.next || ''], `step ${i}, ${s.event}`);
      });
    });
  }
});

describe('stream', () => {
  for (const v of vectors('stream')) {
    test(v.name, () => {
      const s = new Stream(v.limits.messages, v.limits.bytes);
      v.steps.forEach((step, i) => {
        const at = `step ${i}, ${step.op}`;
        for (let k = 0; k < (step.repeat || 1); k++) {
          const last = k === (step.repeat || 1) - 1;
          switch (step.op) {
            case 'send': {
              const ok = s.send(new Uint8Array((step.bytes || 0) + 1));
              if (last) assert.deepEqual([ok, ok ? s.sent : 0], [step.error !== 'full', step.number || 0], at);
              break;
            }
            case 'acked': {
              const ok = s.ack(step.count || 0);
              if (last) assert.equal(ok, step.error !== 'count', at);
              break;
            }
            case 'receive':
              s.received++;
              break;
            case 'handled':
              s.handle(step.bytes || 0);
              break;
            case 'due':
              assert.equal(s.ackDue(), step.now ? 'now' : step.pending ? 'soon' : 'no', at);
              break;
            case 'take_ack':
              assert.equal(s.takeAck(), step.count || 0, at);
              break;
            case 'resumed':
              s.resumed();
              break;
            case 'state':
              assert.deepEqual(
                [s.sent, s.acked, s.received, s.handled, s.frames.map((f) => f.length - 1)],
                [step.sent || 0, step.acked || 0, step.received || 0, step.handled || 0, step.kept || []], at);
              break;
            default:
              assert.fail(`unknown op ${step.op}`);
          }
        }
      });
    });
  }
});

test('an unpaired surrogate is replaced, and the message is still sent', () => {
  for (const encode of [encodeText, encodeSlowly]) {
    assert.equal(decodeText(encode('a\ud83cb')), 'a\ufffdb');
    assert.equal(decodeText(encode('\udfaeb')), '\ufffdb');
    assert.equal(decodeText(encode('\ud83c\udfae')), '\ud83c\udfae');
  }
});

describe('proofs', () => {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const read = (part) => JSON.parse(Buffer.from(part, 'base64url'));
  for (const v of vectors('proofs')) {
    if (!v.key || v.key.crv !== 'P-256') continue; // the only curve that WebCrypto has everywhere
    test(v.name, async () => {
      const { d, ...jwk } = v.key;
      const load = (k, use) => crypto.subtle.importKey('jwk', k, algorithm, true, [use]);
      const publicKey = await load(jwk, 'verify');
      const p = await createProver({ privateKey: await load(v.key, 'sign'), publicKey });
      assert.deepEqual(p.cnf, { jwk });
      const first = await p.prove(v.act, v.token);
      const [header, claims, signature] = first.split('.');
      const want = v.proof.split('.');
      assert.deepEqual(read(header), read(want[0]));
      assert.deepEqual({ ...read(claims), n: v.n || 0 }, read(want[1]));
      assert.ok(read(claims).n > 1_700_000_000_000 && Number.isSafeInteger(read(claims).n));
      assert.ok(await crypto.subtle.verify(algorithm, publicKey, Buffer.from(signature, 'base64url'), Buffer.from(header + '.' + claims)));
      assert.doesNotMatch(first, /[+/=]/);
      const numbers = [read(claims).n];
      for (let i = 0; i < 50; i++) numbers.push(read((await p.prove(v.act, v.token)).split('.')[1]).n);
      for (let i = 1; i < numbers.length; i++) assert.ok(numbers[i] > numbers[i - 1], `${numbers[i]} after ${numbers[i - 1]}`);
    });
  }

  test('a saved prover continues with its key and numbers', async () => {
    const p = await createProver();
    const n = read((await p.prove('attach', 't')).split('.')[1]).n;
    const q = await createProver(undefined, JSON.parse(JSON.stringify(p.save())));
    assert.deepEqual(q.cnf, p.cnf);
    assert.ok(read((await q.prove('attach', 't')).split('.')[1]).n > n);
  });
});
