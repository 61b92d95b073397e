/** The error of a request to auth: auth has refused it, or did not answer. */
export class UsherError extends Error {
  constructor(
    /** A stable code of the HTTP interface, or `unreachable` if there was no answer. */
    readonly code: string,
    message: string,
    /** The HTTP status of the answer; 0 if there was no usable answer. */
    readonly status = 0,
    /** The time that auth asks to wait, in milliseconds. */
    readonly retryAfter = 0,
  ) {
    super(message);
    this.name = 'UsherError';
  }

  /** True if the cause is temporary, so that another try may succeed. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500 || this.code === 'stale_proof';
  }
}
