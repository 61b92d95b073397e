// The position of a session: its assignment, and the state of its stream. Session.save returns it as a text, from which
// another process continues the session.

import { Stream } from './stream.js';
import type { Assignment, Storage } from './types.js';

/** The JSON of a position. The names are part of the format: a text that was saved before must stay readable. */
interface Position {
  v: 1;
  at: Assignment;
  stream: string; // name; empty before the first welcome
  received: number;
  acked: number;
  kept: string[]; // unacknowledged frames, in hexadecimal
  pop: unknown; // of Prover.save
}

// The limits of a restored stream until the welcome sets them.
const unlimitedMessages = 1 << 20;
const unlimitedBytes = 1 << 30;

/** What a position holds. `stream` is null before the first welcome; `frames` are then sent after it. */
export interface SavedSession {
  assignment: Assignment;
  streamName: string;
  stream: Stream | null;
  frames: Uint8Array[];
  prover: unknown;
}

const toHex = (bytes: Uint8Array) => Array.from(bytes, (b) => (b < 16 ? '0' : '') + b.toString(16)).join('');
const fromHex = (hex: string) => Uint8Array.from(hex.match(/../g)!, (digits) => parseInt(digits, 16));

/** Returns the text of a position. Messages that are received and not handled count as not received. */
export function encodePosition(saved: SavedSession): string {
  const { assignment, streamName, stream, frames, prover } = saved;
  const position: Position = {
    v: 1,
    at: assignment,
    stream: streamName,
    received: stream ? stream.handled : 0,
    acked: stream ? stream.acked : 0,
    pop: prover,
    kept: (stream ? stream.frames : frames).map(toHex),
  };
  return JSON.stringify(position);
}

/** Returns what the text of a position holds, or null if the text is not a position of this version. */
export function decodePosition(text: string): SavedSession | null {
  try {
    const position: Position = JSON.parse(text);
    if (position.v !== 1 || !position.at.token) return null;
    const frames = position.kept.map(fromHex);
    const saved: SavedSession = { assignment: position.at, streamName: position.stream, stream: null, frames, prover: position.pop };
    if (position.stream) {
      const stream = new Stream(unlimitedMessages, unlimitedBytes);
      stream.acked = position.acked;
      stream.received = stream.handled = position.received;
      for (const frame of frames) stream.send(frame);
      saved.stream = stream;
      saved.frames = [];
    }
    return saved;
  } catch {
    return null;
  }
}

const writeDelay = 250; // ms

/** Keeps a position in Options.storage. Without a storage it does nothing. */
export class PositionStore {
  private timer?: ReturnType<typeof setTimeout>;

  constructor(
    private readonly storage: Storage | undefined,
    private readonly key: string,
  ) {}

  /** Returns the stored position, or null. */
  read(): string | null {
    return this.storage ? this.storage.getItem(this.key) : null;
  }

  /** Stores the result of position, or removes the stored position if position is null. */
  write(position: (() => string) | null): void {
    if (!this.storage) return;
    try {
      if (position) this.storage.setItem(this.key, position());
      else this.storage.removeItem(this.key);
    } catch {
      // The storage is full, or not allowed. A reloaded page then logs in again.
    }
  }

  /** Calls write after a short time, so that many changes cause one write. */
  writeSoon(write: () => void): void {
    if (!this.storage || this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      write();
    }, writeDelay);
  }

  /** Cancels writeSoon. */
  stop(): void {
    clearTimeout(this.timer);
  }
}
