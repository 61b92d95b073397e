/**
 * The client of Usher: one session with a node, over any number of connections.
 *
 * @packageDocumentation
 */
import { Session } from './session.js';
import type { Credentials, Options } from './types.js';

export { UsherError } from './errors.js';
export { Session } from './session.js';
export type {
  Assignment, Credentials, Events, Fetch, KeyPair, Options, Placement, Queued, Reset, Socket, State, StateChange, Stats, Storage,
} from './types.js';
export type { Message } from './wire.js';

/**
 * Opens a session: logs in, or continues a session, and attaches to the node that auth names. Resolves when the session is
 * attached. Rejects with an UsherError if auth refuses, or if the session ends before it was attached.
 */
export function connect(options: Options): Promise<Session> {
  return Session.open(options, () => import('./proof.js').then((m) => m.createProver));
}

/** Returns the credentials of a guest with the name. */
export function guest(name: string): Credentials {
  return { method: 'guest', credentials: { name } };
}

/** Returns the credentials of a user with a password. */
export function password(username: string, password: string): Credentials {
  return { method: 'password', credentials: { username, password } };
}
