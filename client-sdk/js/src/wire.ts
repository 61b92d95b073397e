// What travels on a connection: the chapters «Messages» and «Controls» of
// PROTOCOL.md.

import { decodeText, encodeText } from './utf8.js';

/** One message of the application. */
export interface Message {
  /** A string, or bytes, as it was sent. */
  data: string | Uint8Array;
  /** It was sent once, and is not counted, kept or sent again. */
  volatile: boolean;
}

const TEXT = 1;
const VOLATILE = 2;

/** Returns a message as it travels: a byte of kind, and the payload. */
export function encodeMessage(data: string | Uint8Array | ArrayBuffer, volatile: boolean): Uint8Array {
  const text = typeof data === 'string';
  const payload = text ? encodeText(data as string) : new Uint8Array(data as Uint8Array);
  const frame = new Uint8Array(payload.length + 1);
  frame[0] = (text ? TEXT : 0) | (volatile ? VOLATILE : 0);
  frame.set(payload, 1);
  return frame;
}

/** Returns the message of a frame, or null for one that the protocol does not allow. */
export function decodeMessage(frame: Uint8Array): Message | null {
  if (frame.length === 0 || frame[0] & ~(TEXT | VOLATILE)) return null;
  const volatile = (frame[0] & VOLATILE) !== 0;
  const payload = frame.subarray(1);
  if (!(frame[0] & TEXT)) return { data: payload, volatile };
  const data = decodeText(payload);
  return data === null ? null : { data, volatile };
}

/** The first message of a connection. */
export interface Welcome {
  session: string;
  stream: string;
  node: string;
  resumed: boolean;
  reason?: string;
  received: number;
  ping_interval_ms: number;
  resume_window_ms: number;
  max_message_bytes: number;
  max_unacked_bytes: number;
  max_unacked_messages: number;
  token_expires_at: string;
}

export type Control =
  | ({ type: 'welcome' } & Welcome)
  | { type: 'ack'; received: number }
  | { type: 'ping' | 'pong'; id: number }
  | { type: 'goaway'; reason: string; after_ms: number; by_ms: number }
  | { type: 'unknown' };

const maxControl = 4096;
const maxSetting = 2 ** 31 - 1;

function integer(v: unknown, from: number, to: number): boolean {
  return typeof v === 'number' && Number.isInteger(v) && v >= from && v <= to && !Object.is(v, -0);
}

const count = (v: unknown) => integer(v, 0, 2 ** 53 - 1);
const word = (v: unknown) => typeof v === 'string' && v !== '';
const moment = /^\d{4}-\d\d-\d\dt\d\d:\d\d:\d\d(\.\d+)?(z|[+-]\d\d:\d\d)$/i;

function isWelcome(c: Record<string, unknown>): boolean {
  const setting = (name: string, least: number) => integer(c[name], least, maxSetting);
  return (
    word(c.session) &&
    word(c.stream) &&
    encodeText(c.stream as string).length <= 128 &&
    word(c.node) &&
    typeof c.resumed === 'boolean' &&
    (c.reason === undefined || typeof c.reason === 'string') &&
    (c.resumed ? count(c.received) : c.received === 0) &&
    setting('ping_interval_ms', 1) &&
    setting('resume_window_ms', 0) &&
    setting('max_message_bytes', 1) &&
    setting('max_unacked_bytes', c.max_message_bytes as number) &&
    setting('max_unacked_messages', 1) &&
    typeof c.token_expires_at === 'string' &&
    moment.test(c.token_expires_at) &&
    !Number.isNaN(Date.parse(c.token_expires_at))
  );
}

/** Returns the control of a text message, or the close code that answers it. */
export function parseControl(text: string): Control | number {
  if (text.length > maxControl || encodeText(text).length > maxControl) return 4004;
  let c: Record<string, unknown>;
  try {
    c = JSON.parse(text);
  } catch {
    return 4000;
  }
  if (!c || !word(c.type)) return 4000; // an array has no type
  let good = true;
  switch (c.type) {
    case 'welcome':
      good = isWelcome(c);
      break;
    case 'ack':
      good = count(c.received);
      break;
    case 'ping':
    case 'pong':
      good = count(c.id);
      break;
    case 'goaway':
      good = word(c.reason) && integer(c.after_ms, 0, maxSetting) && integer(c.by_ms, c.after_ms as number, maxSetting);
      break;
    default:
      return { type: 'unknown' };
  }
  return good ? (c as unknown as Control) : 4000;
}
