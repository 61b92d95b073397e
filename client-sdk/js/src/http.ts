// Requests to auth.

/** Part of fetch, as far as it is used. */
export type Fetch = (
  url: string,
  init: { method: string; headers: Record<string, string>; body: string; credentials?: 'omit'; redirect?: 'error' },
) => Promise<{ status: number; headers: { get(name: string): string | null }; json(): Promise<unknown> }>;

/** Auth has refused, or did not answer. */
export class UsherError extends Error {
  constructor(
    /** Stable: a code of the HTTP interface, or «unreachable» when there was no answer. */
    readonly code: string,
    message: string,
    /** Of the answer; 0 when there was none. */
    readonly status = 0,
    /** How long auth asks to wait, in milliseconds. */
    readonly retryAfter = 0,
  ) {
    super(message);
    this.name = 'UsherError';
  }

  /** Whether another try may go better. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500 || this.code === 'stale_proof';
  }
}

export async function post(fetch: Fetch, timeout: number, url: string, token: string, proof: string, body: unknown): Promise<Record<string, any>> {
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  if (token) headers.Authorization = 'Bearer ' + token;
  if (proof) headers['Usher-Proof'] = proof;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('timeout')), timeout);
  });
  const answered = (async () => {
    const r = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body), credentials: 'omit', redirect: 'error' });
    return { r, json: await r.json().catch(() => 0) }; // a 204 has no body
  })();
  try {
    const { r, json } = await Promise.race([answered, late]);
    const fields = (json || {}) as Record<string, any>;
    if (r.status >= 200 && r.status < 300) return fields;
    const after = Number(r.headers.get('Retry-After')) || 0; // or a date, which Usher does not send
    throw new UsherError(fields.code || 'http_error', fields.detail || 'auth answered ' + r.status, r.status, after * 1000);
  } catch (e) {
    if (e instanceof UsherError) throw e;
    throw new UsherError('unreachable', 'no answer: ' + (e as Error).message);
  } finally {
    clearTimeout(timer);
    answered.catch(() => {}); // it may fail after the timeout
  }
}
