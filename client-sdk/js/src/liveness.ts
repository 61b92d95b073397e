// Pings, the round-trip time, and the detection of dead connections: section 11 of PROTOCOL.md.

import type { Connection } from './connection.js';
import { encodePing } from './wire.js';

const probeTimeout = 2000; // ms

export class Liveness {
  /** The last round-trip time in milliseconds; 0 before the first pong. */
  rtt = 0;
  private lastId = 0;
  private readonly sentAt = new Map<number, number>(); // time of the open pings by id
  private probeId = 0; // of the probe that waits for its pong; 0 for none
  private timer?: ReturnType<typeof setTimeout>;

  /** Sends a ping and returns its id. */
  ping(connection: Connection): number {
    const id = ++this.lastId;
    this.sentAt.set(id, Date.now());
    connection.write(encodePing(id));
    return id;
  }

  /** Handles a pong. Returns false if it does not answer an open ping. */
  pong(id: number): boolean {
    const at = this.sentAt.get(id);
    if (at === undefined) return false;
    this.sentAt.clear();
    this.probeId = 0;
    this.rtt = Date.now() - at;
    return true;
  }

  /**
   * Sends a ping, and calls dead if it has no pong in time. Waits longer while the connection is held, because the pong may
   * be among the held events. Does nothing during another probe.
   */
  probe(connection: Connection, dead: () => void): void {
    if (this.probeId) return;
    const id = (this.probeId = this.ping(connection));
    const check = () => {
      if (this.probeId !== id || connection.closed) return;
      if (connection.held) {
        setTimeout(check, probeTimeout);
        return;
      }
      this.probeId = 0;
      if (this.sentAt.has(id)) dead();
    };
    setTimeout(check, probeTimeout);
  }

  /** Forgets a probe that waits for its pong. */
  cancelProbe(): void {
    this.probeId = 0;
  }

  /**
   * Watches the connection of the session, in place of the one before: pings it when there is no activity for half the
   * interval, and calls dead when there is none for 2.5 intervals.
   */
  watch(connection: Connection, intervalMs: number, dead: () => void): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (connection.closed) return;
      if (!connection.held) {
        const idle = Date.now() - connection.lastActivity;
        if (idle >= 2.5 * intervalMs) {
          dead();
          return;
        }
        if (idle >= intervalMs / 2) this.ping(connection);
      }
      this.watch(connection, intervalMs, dead);
    }, intervalMs / 2);
  }

  /** Ends the watch. */
  stop(): void {
    clearTimeout(this.timer);
  }
}
