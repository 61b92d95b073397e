/** What one side of a session has sent and may have to send again, and how much it took in. */
export class Stream {
  acked = 0;
  received = 0;
  handled = 0;
  private kept: Uint8Array[] = [];
  private bytes = 0; // of the payloads kept
  private acknowledged = 0; // told to the other side
  private unacked = 0; // bytes handled since

  constructor(
    public messages: number,
    public size: number,
  ) {}

  /** The number of the last message sent. */
  get sent(): number {
    return this.acked + this.kept.length;
  }

  /** The frames that are not acknowledged, oldest first. */
  get frames(): Uint8Array[] {
    return this.kept;
  }

  /** Counts and keeps a frame, unless as much is unacknowledged as may be. */
  send(frame: Uint8Array): boolean {
    if (!this.fits(frame.length - 1)) return false;
    this.kept.push(frame);
    this.bytes += frame.length - 1;
    return true;
  }

  fits(size: number): boolean {
    return this.kept.length < this.messages && this.bytes + size <= this.size;
  }

  frame(n: number): Uint8Array | undefined {
    return this.kept[n - this.acked - 1];
  }

  /** Lets go of the messages up to the other side's count, if that can be. */
  ack(n: number): boolean {
    if (n < this.acked || n > this.sent) return false;
    for (const frame of this.kept.splice(0, n - this.acked)) this.bytes -= frame.length - 1;
    this.acked = n;
    return true;
  }

  /** Notes that the application has handled the oldest message that it had not. */
  handle(size: number): void {
    this.handled++;
    if (this.handled > this.acknowledged) this.unacked += size;
  }

  /** Whether an acknowledgement is owed, and whether it must not wait for the timer. */
  due(): 'no' | 'soon' | 'now' {
    const n = this.handled - this.acknowledged;
    if (n <= 0) return 'no';
    return n >= 32 || 4 * n >= this.messages || 4 * this.unacked >= this.size ? 'now' : 'soon';
  }

  takeAck(): number {
    this.acknowledged = Math.max(this.acknowledged, this.handled);
    this.unacked = 0;
    return this.acknowledged;
  }

  /** A handshake has told the other side how many were received: no acknowledgement goes back behind it. */
  resumed(): void {
    this.acknowledged = this.received;
    this.unacked = 0;
  }
}
