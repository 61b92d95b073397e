// The chapter «Waiting and where to go» of PROTOCOL.md, without a clock or a
// socket.

export type Door = 'attach' | 'reconnect' | 'stop';
export type Action = 'stop' | 'retry' | 'reconnect' | 'app';

/** What a close code says to do next. */
export function actionOf(code: number): Action {
  if (code >= 4000 && code < 4100) return 'stop';
  if (code >= 4200 && code < 4300) return 'reconnect';
  if (code >= 4500 && code < 5000) return 'app';
  return 'retry';
}

/** How long to wait, in milliseconds, and where to go then. */
export type Next = [wait: number, door: Door];

export class Retry {
  private ceiling = 0;
  private failures = 0;
  private since = 0;

  constructor(private random: () => number) {}

  /** A connection that had its welcome has ended. */
  ended(now: number, code: number, attached: number): Next {
    if (attached >= 10_000) this.ceiling = 0;
    this.since = now;
    return this.after(now, code);
  }

  /** An attempt opened a WebSocket and had no welcome. */
  failed(now: number, code: number): Next {
    this.failures++;
    return this.after(now, code);
  }

  /** An attempt opened no WebSocket. */
  unreachable(): Next {
    return [this.wait(0), 'reconnect'];
  }

  /** A /v1/reconnect had no answer, or one that says to try again after the hint. */
  unanswered(hint: number): Next {
    return [this.wait(hint), 'reconnect'];
  }

  welcomed(): void {
    this.failures = 0;
  }

  /** Auth has named a node. */
  named(now: number): void {
    this.failures = 0;
    this.since = now;
  }

  private after(now: number, code: number): Next {
    const action = actionOf(code);
    if (action === 'stop' || action === 'app') return [0, 'stop'];
    const elsewhere = action === 'reconnect' || this.failures >= 3 || now - this.since >= 10_000;
    return [this.wait(0), elsewhere ? 'reconnect' : 'attach'];
  }

  private wait(hint: number): number {
    this.ceiling = Math.max(100, Math.min(2 * this.ceiling, 20_000), Math.min(hint, 60_000));
    return this.random() * this.ceiling;
  }
}
