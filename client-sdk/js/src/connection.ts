import type { Socket } from './types.js';

/** One connection: a WebSocket, and what the session knows of it. */
export class Connection {
  /** Undefined until the proof for the attempt is made. */
  socket?: Socket;
  /** True once the WebSocket was open. */
  opened = false;
  /** True once the session has given the connection up: its events are ignored. */
  closed = false;
  /** Number of the next reliable message to write. */
  nextFrame = 0;
  /** Time of the welcome, in milliseconds. */
  attachedAt = 0;
  /** Time of the last event, in milliseconds. */
  lastActivity = 0;
  /** Time limit of the attempt to attach. */
  timer?: ReturnType<typeof setTimeout>;
  private heldEvents: (() => void)[] | null = null;

  constructor(
    /** The stream that the handshake named, or an empty string. */
    readonly streamName: string,
  ) {}

  /** True while another connection attaches: nothing is written, and events wait. */
  get held(): boolean {
    return this.heldEvents !== null;
  }

  /** Holds the connection, because the node may have given the session to another connection. */
  hold(): void {
    this.heldEvents = this.heldEvents || [];
  }

  /** Ends the hold, and handles the events that came in the meantime. */
  release(): void {
    const events = this.heldEvents || [];
    this.heldEvents = null;
    for (const handle of events) if (!this.closed) handle();
  }

  /** Handles an event of the WebSocket now, or after the hold. */
  event(handle: () => void): void {
    if (this.closed) return;
    this.lastActivity = Date.now();
    if (this.heldEvents) this.heldEvents.push(handle);
    else handle();
  }

  /** Writes a control or a frame. */
  write(data: string | Uint8Array): void {
    try {
      this.socket!.send(data);
    } catch {
      // The WebSocket is closing: onclose follows, and reliable messages are kept.
    }
  }

  /** Gives the connection up and closes the WebSocket. */
  close(code = 1000): void {
    this.closed = true;
    clearTimeout(this.timer);
    try {
      if (this.socket) this.socket.close(code);
    } catch {
      // The WebSocket was closed already.
    }
  }
}
