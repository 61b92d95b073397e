// How long a client waits after a failure, and what it does then: section 13 of PROTOCOL.md, without a clock or a socket.

/** What a client does after a wait: attach at the node last named, call /v1/reconnect, or stop. */
export type Step = 'attach' | 'reconnect' | 'stop';

/** What a close code means: stop, attach again at the same node, call /v1/reconnect, or the application has ended the session. */
export type Action = 'stop' | 'retry' | 'reconnect' | 'app';

/** How long to wait, in milliseconds, and what to do then. */
export interface Decision {
  wait: number;
  step: Step;
}

const minCeiling = 100; // ms
const maxCeiling = 20_000; // ms
const maxHint = 60_000; // ms
const stableAfter = 10_000; // ms attached, after which the ceiling returns to 0
const maxFailures = 3; // failed attempts to attach at one node
const maxAtOneNode = 10_000; // ms without a connection at one node

/** Returns what a close code means. It depends on the range of the code alone. */
export function actionOf(code: number): Action {
  if (code >= 4000 && code < 4100) return 'stop';
  if (code >= 4200 && code < 4300) return 'reconnect';
  if (code >= 4500 && code < 5000) return 'app';
  return 'retry';
}

/** Each method reports an event at the time `now`, in milliseconds; most return a decision. */
export class Backoff {
  private ceiling = 0;
  private failures = 0; // failed attempts to attach since the last welcome or assignment
  private since = 0; // when the last connection ended, or auth named the node

  /** random returns a number in [0, 1). */
  constructor(private readonly random: () => number) {}

  /** A connection that had its welcome ended with the code, after it was attached for attachedMs. */
  connectionEnded(now: number, code: number, attachedMs: number): Decision {
    if (attachedMs >= stableAfter) this.ceiling = 0;
    this.since = now;
    return this.afterCode(now, code);
  }

  /** An attempt opened a WebSocket, which ended with the code before a welcome. */
  attachFailed(now: number, code: number): Decision {
    this.failures++;
    return this.afterCode(now, code);
  }

  /** An attempt did not open a WebSocket. */
  unreachable(): Decision {
    return { wait: this.nextWait(0), step: 'reconnect' };
  }

  /** A /v1/reconnect had no answer, or an answer that asks to try again after the hint, in milliseconds. */
  reconnectFailed(hint: number): Decision {
    return { wait: this.nextWait(hint), step: 'reconnect' };
  }

  /** A welcome came. It does not reset the ceiling: the node may drop connections right after the welcome. */
  welcomed(): void {
    this.failures = 0;
  }

  /** Auth has named a node. */
  assigned(now: number): void {
    this.failures = 0;
    this.since = now;
  }

  private afterCode(now: number, code: number): Decision {
    const action = actionOf(code);
    if (action === 'stop' || action === 'app') return { wait: 0, step: 'stop' };
    const askAuth = action === 'reconnect' || this.failures >= maxFailures || now - this.since >= maxAtOneNode;
    return { wait: this.nextWait(0), step: askAuth ? 'reconnect' : 'attach' };
  }

  private nextWait(hint: number): number {
    this.ceiling = Math.max(minCeiling, Math.min(2 * this.ceiling, maxCeiling), Math.min(hint, maxHint));
    return this.random() * this.ceiling;
  }
}
