// Proof of possession, as the session uses it. proof.ts implements it.

import type { KeyPair } from './types.js';

/** The requests that require a proof. */
export type Act = 'attach' | 'reconnect' | 'logout';

/** Makes proofs that this client has the key that its tokens are bound to. */
export interface Prover {
  /** The public key, for the request of a login. */
  readonly cnf: object;
  /** Returns a proof for the act and the token. */
  prove(act: Act, token: string): Promise<string>;
  /** Returns data from which another process can create the same prover. It must be serializable as JSON. */
  save(): unknown;
  /** Deletes the key from the browser: the session has ended. */
  forget(): void;
}

/**
 * Creates a prover with the key pair, with the result of `save`, or with a new key. Rejects if the saved key no longer
 * exists.
 */
export type CreateProver = (pair: KeyPair | undefined, saved?: unknown) => Promise<Prover>;

/** Loads the file with CreateProver. */
export type LoadProver = () => Promise<CreateProver>;
