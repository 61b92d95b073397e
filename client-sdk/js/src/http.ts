// HTTP requests to auth.

import { UsherError } from './errors.js';
import type { Fetch } from './types.js';

/** A request: `token` and `proof` are empty strings if the request has none. */
export interface Request {
  url: string;
  token: string;
  proof: string;
  body: unknown;
}

/** Sends a POST and returns the JSON object of the answer, or `{}`. Rejects with an UsherError. */
export async function post(fetch: Fetch, timeoutMs: number, request: Request): Promise<Record<string, any>> {
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  if (request.token) headers.Authorization = 'Bearer ' + request.token;
  if (request.proof) headers['Usher-Proof'] = request.proof;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer within ' + timeoutMs + ' ms')), timeoutMs);
  });
  const exchange = (async () => {
    const response = await fetch(request.url, {
      method: 'POST', headers, body: JSON.stringify(request.body), credentials: 'omit', redirect: 'error',
    });
    return { response, json: await response.json().catch(() => null) }; // a 204 has no body
  })();
  exchange.catch(() => {}); // it may fail after the timeout
  try {
    const { response, json } = await Promise.race([exchange, timeout]);
    const fields = (json || {}) as Record<string, any>;
    if (response.status >= 200 && response.status < 300) return fields;
    // Retry-After may also be a date, which auth never sends.
    const retryAfter = Number(response.headers.get('Retry-After')) || 0;
    throw new UsherError(fields.code || 'http_error', fields.detail || 'auth answered with status ' + response.status, response.status, retryAfter * 1000);
  } catch (error) {
    if (error instanceof UsherError) throw error;
    throw new UsherError('unreachable', 'auth did not answer: ' + (error as Error).message);
  } finally {
    clearTimeout(timer);
  }
}
