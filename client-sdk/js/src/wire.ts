// The encoding of messages and controls: sections 7 and 8 of PROTOCOL.md.

import { decodeText, encodeText } from './utf8.js';

/** One message of the application. */
export interface Message {
  /** A string or bytes, as it was sent. */
  data: string | Uint8Array;
  /** True if it is sent at most once: it is not counted, kept or sent again. */
  volatile: boolean;
}

// Bits of the kind byte.
const TEXT = 1;
const VOLATILE = 2;

/** Returns the frame of a message: a kind byte and the payload. */
export function encodeMessage(data: string | Uint8Array | ArrayBuffer, volatile: boolean): Uint8Array {
  const text = typeof data === 'string';
  const payload = text ? encodeText(data as string) : new Uint8Array(data as Uint8Array);
  const frame = new Uint8Array(payload.length + 1);
  frame[0] = (text ? TEXT : 0) | (volatile ? VOLATILE : 0);
  frame.set(payload, 1);
  return frame;
}

/** Returns the message of a frame, or null if the protocol does not allow the frame. */
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

/** A control; `unknown` stands for every type of a later version. */
export type Control =
  | ({ type: 'welcome' } & Welcome)
  | { type: 'ack'; received: number }
  | { type: 'ping' | 'pong'; id: number }
  | { type: 'goaway'; reason: string; after_ms: number; by_ms: number }
  | { type: 'unknown' };

const maxControlBytes = 4096;
const maxStreamNameBytes = 128;
const maxCount = 2 ** 53 - 1;
const maxSetting = 2 ** 31 - 1;
const rfc3339 = /^\d{4}-\d\d-\d\dt\d\d:\d\d:\d\d(\.\d+)?(z|[+-]\d\d:\d\d)$/i;

function isInteger(v: unknown, min: number, max: number): boolean {
  return typeof v === 'number' && Number.isInteger(v) && v >= min && v <= max && !Object.is(v, -0);
}

const isCount = (v: unknown) => isInteger(v, 0, maxCount);
const isText = (v: unknown) => typeof v === 'string' && v !== '';
const isTime = (v: unknown) => typeof v === 'string' && rfc3339.test(v) && !Number.isNaN(Date.parse(v));

function isWelcome(c: Record<string, unknown>): boolean {
  const isSetting = (name: string, min: number) => isInteger(c[name], min, maxSetting);
  return (
    isText(c.session) &&
    isText(c.stream) &&
    encodeText(c.stream as string).length <= maxStreamNameBytes &&
    isText(c.node) &&
    typeof c.resumed === 'boolean' &&
    (c.reason === undefined || typeof c.reason === 'string') &&
    (c.resumed ? isCount(c.received) : c.received === 0) &&
    isSetting('ping_interval_ms', 1) &&
    isSetting('resume_window_ms', 0) &&
    isSetting('max_message_bytes', 1) &&
    isSetting('max_unacked_bytes', c.max_message_bytes as number) &&
    isSetting('max_unacked_messages', 1) &&
    isTime(c.token_expires_at)
  );
}

function isGoAway(c: Record<string, unknown>): boolean {
  return isText(c.reason) && isInteger(c.after_ms, 0, maxSetting) && isInteger(c.by_ms, c.after_ms as number, maxSetting);
}

/** Returns the control of a text message, or the close code that answers an invalid one. */
export function parseControl(text: string): Control | 4000 | 4004 {
  if (text.length > maxControlBytes || encodeText(text).length > maxControlBytes) return 4004;
  let c: Record<string, unknown>;
  try {
    c = JSON.parse(text);
  } catch {
    return 4000;
  }
  if (!c || !isText(c.type)) return 4000; // also refuses an array, which has no type
  let valid = true;
  switch (c.type) {
    case 'welcome':
      valid = isWelcome(c);
      break;
    case 'ack':
      valid = isCount(c.received);
      break;
    case 'ping':
    case 'pong':
      valid = isCount(c.id);
      break;
    case 'goaway':
      valid = isGoAway(c);
      break;
    default:
      return { type: 'unknown' };
  }
  return valid ? (c as unknown as Control) : 4000;
}

/** Returns the text of an ack for the count. */
export const encodeAck = (count: number) => '{"type":"ack","received":' + count + '}';

/** Returns the text of a ping with the id. */
export const encodePing = (id: number) => '{"type":"ping","id":' + id + '}';

/** Returns the text of a pong with the id. */
export const encodePong = (id: number) => '{"type":"pong","id":' + id + '}';
