// The public types of the SDK.

import type { Message } from './wire.js';

/** The credentials of a user. `guest` and `password` make them for two methods. */
export interface Credentials {
  /** A login method that auth has enabled, for example `guest`. */
  method: string;
  /** The credentials that the method requires. */
  credentials: Record<string, unknown>;
}

/** Requirements and preferences for the node. All are optional. */
export interface Placement {
  /** The preferred region. */
  region?: string;
  /** Regions that serve when the preferred one has no capacity, in this order. */
  fallback?: string[];
  /** Only `region` and `fallback` may serve. */
  strict?: boolean;
  /** The pool of the node. */
  pool?: string;
  /** Sessions of one group share a node. */
  group?: string;
}

/** The answer of auth: the session, its node, and the token to attach there. */
export interface Assignment {
  /** Opens the session. A secret. */
  token: string;
  /** RFC 3339. */
  token_expires_at?: string;
  /** Id of the session. */
  session: string;
  /** Name of the user. */
  user?: string;
  /** Id of the node, and the URL of its WebSocket. */
  node: { id: string; url: string };
}

/** The position of a login that waits in the queue because every node is full. */
export interface Queued {
  /** Position in the queue; 1 is next. */
  position: number;
  /** Number of logins in the queue. */
  waiting: number;
  /** Estimated wait in milliseconds, if auth has an estimate. */
  estimate_ms?: number;
}

/** A key pair of WebCrypto: ECDSA on P-256. */
export interface KeyPair {
  /** A CryptoKey for `sign`. */
  readonly privateKey: any;
  /** A CryptoKey for `verify`, extractable. */
  readonly publicKey: any;
}

/** A store for the position of the session, for example `sessionStorage`. */
export interface Storage {
  /** Returns the value of the key, or null. */
  getItem(key: string): string | null;
  /** Sets the value of the key. */
  setItem(key: string, value: string): void;
  /** Removes the key. */
  removeItem(key: string): void;
}

/** The part of a WebSocket that the SDK uses. */
export interface Socket {
  /** The SDK sets it to `arraybuffer`. */
  binaryType: string;
  /** Bytes that wait to be sent. */
  readonly bufferedAmount: number;
  /** The selected subprotocol. */
  readonly protocol: string;
  /** Called when the WebSocket is open. */
  onopen: ((e: any) => void) | null;
  /** Called with `data`, a string or an ArrayBuffer. */
  onmessage: ((e: any) => void) | null;
  /** Called with `code` and `reason`. */
  onclose: ((e: any) => void) | null;
  /** Called before `onclose` if the WebSocket failed. */
  onerror: ((e: any) => void) | null;
  /** Sends a string or bytes. */
  send(data: any): void;
  /** Closes the WebSocket. */
  close(code?: number, reason?: string): void;
}

/** The part of `fetch` that the SDK uses. */
export type Fetch = (
  url: string,
  init: { method: string; headers: Record<string, string>; body: string; credentials?: 'omit'; redirect?: 'error' },
) => Promise<{ status: number; headers: { get(name: string): string | null }; json(): Promise<unknown> }>;

/** The options of `connect`. `auth` and one of `credentials`, `assignment`, `position` and a stored position are required. */
export interface Options {
  /** Base URL of the auth service, for example `https://auth.example.com`. */
  auth: string;
  /** The credentials of the user, or a function that returns them. */
  credentials?: Credentials | (() => Credentials | Promise<Credentials>);
  /** A session that was opened before, for example by a backend. It continues with a new stream. */
  assignment?: Assignment;
  /** The result of `Session.save`, perhaps of another process: the session continues with its stream. */
  position?: string;
  /** Stores the position, so that a reloaded page continues its session. */
  storage?: Storage;
  /** Key in the storage. Default `usher`. */
  storageKey?: string;
  /** Requirements and preferences for the node. */
  placement?: Placement;
  /**
   * The key that the session's tokens are bound to: a stolen token is of no use without it. Default: a new key, which
   * scripts cannot read if the browser has IndexedDB; no key without WebCrypto. With `assignment`, the key of the login.
   * To hand a session over to another process, log in with a key of your own. `false`: no key.
   */
  key?: KeyPair | false;
  /** Called when the login has to wait because every node is full, and after each later answer of the queue. */
  onQueue?: (position: Queued) => void;
  /** Event handlers. They also get events that happen before `connect` resolves, for example a reset. */
  on?: { [K in keyof Events]?: (event: Events[K]) => void };
  /** Default: the global WebSocket. */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
  /** Default: the global fetch. */
  fetch?: Fetch;
  /** Time limit of an attempt to attach, in milliseconds. Default 5,000. */
  attachTimeout?: number;
  /** Time limit of a request to auth, in milliseconds. Default 10,000. */
  requestTimeout?: number;
  /** Returns a random number in [0, 1) for the waits. Default `Math.random`. */
  random?: () => number;
}

/**
 * The state of a session: `connecting` (not attached so far), `attached`, `moving` (attached, and the node has asked the
 * client to leave), `detached` (no connection; messages that are sent wait), `ended`.
 */
export type State = 'connecting' | 'attached' | 'moving' | 'detached' | 'ended';

/** The event `state`. */
export interface StateChange {
  /** The new state. */
  state: State;
  /** Id of the session's present or last node. */
  node: string;
  /** The close code that led to the state, if any; 1006 for a connection that broke. */
  code?: number;
  /** The close reason, or a text that says why. */
  reason?: string;
  /** In state `ended`: sent messages that were never confirmed. Some of them may have arrived. */
  unconfirmed?: Message[];
}

/** The event `reset`: the stream could not continue, and another one has begun. */
export interface Reset {
  /** `expired`, `overflow`, `node_lost`, `unknown`, or a reason of a later version. */
  reason: string;
  /** Sent messages that were never confirmed. Some of them may have been handled. The SDK does not send them again. */
  unconfirmed: Message[];
}

/** The events of a session, and the argument of their handlers. */
export interface Events {
  /** A message of the node. It counts as handled, and is confirmed, when all handlers have returned. */
  message: Message;
  /** The state has changed. */
  state: StateChange;
  /** The stream could not continue. */
  reset: Reset;
  /** A new round-trip time to the node, in milliseconds. */
  rtt: number;
  /** The session has capacity again after `send` returned false. */
  drain: void;
}

/** The counts of a session. */
export interface Stats {
  /** Reliable messages sent. */
  sent: number;
  /** Reliable messages received. */
  received: number;
  /** Attempts to attach. */
  attempts: number;
  /** Connections that continued the stream. */
  resumes: number;
  /** Streams that could not continue. */
  resets: number;
  /** Sent messages that were reported as never confirmed. */
  lost: number;
  /** Volatile messages that were dropped instead of sent. */
  dropped: number;
}
