// Proof of possession: chapter 3.1 of PROTOCOL.md. A file of its own, loaded when a session is opened where there is
// WebCrypto: others do not pay for it.
import type { KeyPair, Proofs, Prover } from './session.js';

declare const btoa: (s: string) => string;
declare const TextEncoder: { new (): { encode(s: string): Uint8Array } };

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const g = globalThis as any;

const bytes = (s: string) => new TextEncoder().encode(s);

function base64url(b: ArrayBuffer | Uint8Array): string {
  const text = btoa(String.fromCharCode(...new Uint8Array(b)));
  return text.replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '');
}

const segment = (v: object) => base64url(bytes(JSON.stringify(v)));

/** Does f in the browser's own store of keys, which takes those that no script can read. */
function inStore(f: (store: any) => any): Promise<any> {
  return new Promise((ok, no) => {
    const open = g.indexedDB.open('usher');
    open.onupgradeneeded = () => open.result.createObjectStore('keys');
    open.onerror = () => no(open.error);
    open.onsuccess = () => {
      const r = f(open.result.transaction('keys', 'readwrite').objectStore('keys'));
      r.onerror = () => no(r.error);
      r.onsuccess = () => ok(r.result);
    };
  });
}

/** A key that a session has left behind, with its page perhaps, is of no use after this, in milliseconds. */
const keysKept = 7 * 24 * 3600_000;

/** Keeps the key under a name that begins with the time, and lets go of those of long ago. */
async function keep(pair: KeyPair): Promise<string> {
  const name = Date.now() + '-' + Math.random().toString(36).slice(2);
  for (const old of await inStore((s) => s.getAllKeys())) {
    if (parseInt(old, 10) < Date.now() - keysKept) await inStore((s) => s.delete(old));
  }
  await inStore((s) => s.put(pair, name));
  return name;
}

class KeyProver implements Prover {
  cnf: { jwk?: object } = {};

  /** key finds the pair again: its name in the store, or the private key itself. */
  constructor(
    private readonly pair: KeyPair,
    private readonly key: unknown,
    private last: number,
  ) {}

  async ready(): Promise<this> {
    const { kty, crv, x, y } = await g.crypto.subtle.exportKey('jwk', this.pair.publicKey);
    this.cnf = { jwk: { kty, crv, x, y } };
    return this;
  }

  async prove(act: string, token: string): Promise<string> {
    const { subtle } = g.crypto;
    this.last = Math.max(this.last + 1, Date.now());
    const n = this.last;
    const ath = base64url(await subtle.digest('SHA-256', bytes(token)));
    const text = segment({ typ: 'usher-proof+jwt', alg: 'ES256', jwk: this.cnf.jwk }) + '.' + segment({ act, ath, n });
    return text + '.' + base64url(await subtle.sign(algorithm, this.pair.privateKey, bytes(text)));
  }

  save(): unknown {
    return [this.key, this.last];
  }

  forget(): void {
    if (typeof this.key === 'string') inStore((s) => s.delete(this.key)).catch(() => {});
  }
}

/** Returns a new pair, and what finds it again. */
async function generate(): Promise<[KeyPair, unknown]> {
  const { subtle } = g.crypto;
  const pair = await subtle.generateKey(algorithm, !g.indexedDB, ['sign', 'verify']);
  if (g.indexedDB) return [pair, await keep(pair).catch(() => null)];
  return [pair, await subtle.exportKey('jwk', pair.privateKey)]; // Node: what is saved takes the key along
}

async function find(key: unknown): Promise<KeyPair> {
  if (typeof key === 'string') return inStore((s) => s.get(key));
  const { kty, crv, x, y } = key as any;
  const load = (k: unknown, use: string) => g.crypto.subtle.importKey('jwk', k, algorithm, true, [use]);
  return { privateKey: await load(key, 'sign'), publicKey: await load({ kty, crv, x, y }, 'verify') };
}

/** Makes a prover. Rejects when the key of the one that was saved is not there any more. */
export const proofs: Proofs = async (pair, saved) => {
  let [key, last] = (saved || [null, 0]) as [unknown, number];
  if (!pair) [pair, key] = saved ? [await find(key), key] : await generate();
  return new KeyProver(pair, key, last).ready();
};
