// Proof of possession: section 3.1 of PROTOCOL.md. It is a bundle of its own, which a client loads only if it has WebCrypto.

import { deleteKey, findKey, hasKeyStore, storeKey } from './keystore.js';
import type { Act, CreateProver, Prover } from './prover.js';
import type { KeyPair } from './types.js';

declare const btoa: (s: string) => string;
declare const TextEncoder: { new (): { encode(s: string): Uint8Array } };

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const subtle = () => (globalThis as any).crypto.subtle;
const encode = (text: string) => new TextEncoder().encode(text);

function base64url(bytes: ArrayBuffer | Uint8Array): string {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '');
}

const segment = (json: object) => base64url(encode(JSON.stringify(json)));

/** Finds a key pair again: its name in the key store, its private key as a JWK, or null. */
type KeyReference = string | object | null;

class KeyProver implements Prover {
  readonly cnf: { jwk: object };

  constructor(
    private readonly pair: KeyPair,
    jwk: object,
    private readonly reference: KeyReference,
    private lastNumber: number,
  ) {
    this.cnf = { jwk };
  }

  async prove(act: Act, token: string): Promise<string> {
    this.lastNumber = Math.max(this.lastNumber + 1, Date.now());
    const n = this.lastNumber;
    const ath = base64url(await subtle().digest('SHA-256', encode(token)));
    const signed = segment({ typ: 'usher-proof+jwt', alg: 'ES256', jwk: this.cnf.jwk }) + '.' + segment({ act, ath, n });
    return signed + '.' + base64url(await subtle().sign(algorithm, this.pair.privateKey, encode(signed)));
  }

  save(): unknown {
    return [this.reference, this.lastNumber];
  }

  forget(): void {
    if (typeof this.reference === 'string') deleteKey(this.reference).catch(() => {});
  }
}

/** Generates a key pair. Its private key is extractable only if there is no key store, as in Node. */
async function generate(): Promise<[KeyPair, KeyReference]> {
  const pair = await subtle().generateKey(algorithm, !hasKeyStore(), ['sign', 'verify']);
  if (hasKeyStore()) return [pair, await storeKey(pair).catch(() => null)];
  return [pair, await subtle().exportKey('jwk', pair.privateKey)];
}

/** Returns the key pair of a reference that was saved. */
async function find(reference: KeyReference): Promise<KeyPair> {
  if (typeof reference === 'string') return findKey(reference);
  const importKey = (jwk: unknown, use: string) => subtle().importKey('jwk', jwk, algorithm, true, [use]);
  return { privateKey: await importKey(reference, 'sign'), publicKey: await importKey(publicJwk(reference), 'verify') };
}

function publicJwk(jwk: any): object {
  const { kty, crv, x, y } = jwk;
  return { kty, crv, x, y };
}

export const createProver: CreateProver = async (pair, saved) => {
  let [reference, lastNumber] = (saved || [null, 0]) as [KeyReference, number];
  if (!pair) [pair, reference] = saved ? [await find(reference), reference] : await generate();
  const jwk = publicJwk(await subtle().exportKey('jwk', pair.publicKey));
  return new KeyProver(pair, jwk, reference, lastNumber);
};
