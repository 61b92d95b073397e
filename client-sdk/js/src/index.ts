/**
 * The client of Usher: one session with a node, over as many connections as it takes.
 *
 * @packageDocumentation
 */
import { type Credentials, type Options, Session } from './session.js';

export { UsherError, type Fetch } from './http.js';
export { Session } from './session.js';
export type { Assignment, Credentials, Events, KeyPair, Options, Placement, Queued, Reset, Socket, State, StateChange, Stats, Storage } from './session.js';
export type { Message } from './wire.js';

/**
 * Logs in, or goes on with a session, and attaches to the node that auth names. Rejects with an UsherError when auth
 * refuses, and when the session has ended before it was attached.
 */
export function connect(options: Options): Promise<Session> {
  return new Session(options, () => import('./proof.js').then((m) => m.proofs)).start();
}

/** Credentials of a guest. */
export function guest(name: string): Credentials {
  return { method: 'guest', credentials: { name } };
}

/** Credentials of a user with a password. */
export function password(username: string, password: string): Credentials {
  return { method: 'password', credentials: { username, password } };
}
