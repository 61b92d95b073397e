// An acknowledgement is due at once, and not only by the timer, when ackEvery messages or 1/ackPart of either limit have
// been handled since the last one.
const ackEvery = 32;
const ackPart = 4;

/**
 * The client's side of a stream: the messages that it sent and may have to send again, and the number of messages that it
 * accepted.
 */
export class Stream {
  /** Number of the last sent message that the node has acknowledged. */
  acked = 0;
  /** Number of accepted messages. */
  received = 0;
  /** Number of messages that the application has handled. */
  handled = 0;
  private kept: Uint8Array[] = []; // frames acked + 1 and later
  private keptBytes = 0; // payload bytes of the kept frames
  private acknowledged = 0; // last count that was sent to the node
  private handledBytes = 0; // payload bytes handled after that count

  constructor(
    /** Largest number of messages that may be unacknowledged. */
    public maxMessages: number,
    /** Largest number of payload bytes that may be unacknowledged. */
    public maxBytes: number,
  ) {}

  /** Number of the last message sent. */
  get sent(): number {
    return this.acked + this.kept.length;
  }

  /** The frames that are not acknowledged, oldest first. */
  get frames(): Uint8Array[] {
    return this.kept;
  }

  /** Counts and keeps a frame. Returns false if the stream is full. */
  send(frame: Uint8Array): boolean {
    if (!this.fits(frame.length - 1)) return false;
    this.kept.push(frame);
    this.keptBytes += frame.length - 1;
    return true;
  }

  /** Reports whether a message with that many bytes of payload may be sent. */
  fits(bytes: number): boolean {
    return this.kept.length < this.maxMessages && this.keptBytes + bytes <= this.maxBytes;
  }

  /** Returns the kept frame with the number, or undefined. */
  frame(n: number): Uint8Array | undefined {
    return this.kept[n - this.acked - 1];
  }

  /** Discards the frames up to the node's count n. Returns false if the count is impossible. */
  ack(n: number): boolean {
    if (n < this.acked || n > this.sent) return false;
    for (const frame of this.kept.splice(0, n - this.acked)) this.keptBytes -= frame.length - 1;
    this.acked = n;
    return true;
  }

  /** Records that the application has handled its oldest unhandled message, with that many bytes of payload. */
  handle(bytes: number): void {
    this.handled++;
    if (this.handled > this.acknowledged) this.handledBytes += bytes;
  }

  /** Returns when an acknowledgement has to be sent: `no` (none is pending), `soon` (with the timer), or `now`. */
  ackDue(): 'no' | 'soon' | 'now' {
    const n = this.handled - this.acknowledged;
    if (n <= 0) return 'no';
    return n >= ackEvery || ackPart * n >= this.maxMessages || ackPart * this.handledBytes >= this.maxBytes ? 'now' : 'soon';
  }

  /** Returns the count to acknowledge, and records that it is being sent. */
  takeAck(): number {
    this.acknowledged = Math.max(this.acknowledged, this.handled);
    this.handledBytes = 0;
    return this.acknowledged;
  }

  /** Records that a handshake sent `received` to the node: no later acknowledgement may be lower. */
  resumed(): void {
    this.acknowledged = this.received;
    this.handledBytes = 0;
  }
}
