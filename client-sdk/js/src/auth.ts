// The client of auth: login, queue, reconnect, logout.

import { UsherError } from './errors.js';
import { post } from './http.js';
import type { Act, Prover } from './prover.js';
import type { Assignment, Fetch, Options, Queued } from './types.js';

const defaultRequestTimeout = 10_000;
const minPoll = 250; // ms
const maxPoll = 60_000; // ms
const maxPollFailures = 5; // in a row; auth keeps the position for about as long

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export class AuthClient {
  /** Set if the session's tokens are bound to a key. */
  prover: Prover | null = null;

  constructor(private readonly options: Options) {}

  /** Logs in, and waits in the queue if every node is full. */
  async login(): Promise<Assignment> {
    const source = this.options.credentials;
    if (!source) throw new Error('usher: set credentials, assignment or position in the options of connect');
    const { method, credentials } = typeof source === 'function' ? await source() : source;
    const body = { method, credentials, placement: this.options.placement, cnf: this.prover ? this.prover.cnf : undefined };
    const answer = await this.request('/v1/login', '', body);
    return checkAssignment(answer.token ? answer : await this.waitInQueue(answer));
  }

  /** Asks which node serves the session, and reports a node that could not be reached, if `unreachable` is not empty. */
  async reconnect(token: string, unreachable: string): Promise<Assignment> {
    return checkAssignment(await this.request('/v1/reconnect', token, unreachable ? { unreachable } : {}, 'reconnect'));
  }

  /** Ends the session everywhere. */
  async logout(token: string): Promise<void> {
    await this.request('/v1/logout', token, {}, 'logout');
  }

  /** Polls the queue until it admits the login. */
  private async waitInQueue(answer: Record<string, any>): Promise<Record<string, any>> {
    let failures = 0;
    while (!answer.token && answer.ticket) {
      if (!failures && this.options.onQueue) this.options.onQueue(answer as Queued);
      await sleep(failures ? 500 + Math.random() * 1000 * failures : Math.min(Math.max(answer.poll_after_ms, minPoll), maxPoll));
      try {
        answer = await this.request('/v1/queue', answer.ticket, {});
        failures = 0;
      } catch (error) {
        if (++failures >= maxPollFailures || !(error as UsherError).passing) throw error;
      }
    }
    return answer;
  }

  private async request(path: string, token: string, body: unknown, act?: Act): Promise<Record<string, any>> {
    const proof = act && this.prover ? await this.prover.prove(act, token) : '';
    const fetch: Fetch = this.options.fetch || ((url, init) => (globalThis as any).fetch(url, init));
    const url = this.options.auth.replace(/\/+$/, '') + path;
    return post(fetch, this.options.requestTimeout || defaultRequestTimeout, { url, token, proof, body });
  }
}

function checkAssignment(answer: Record<string, any>): Assignment {
  if (typeof answer.token !== 'string' || !answer.token || !answer.node || !/^wss?:\/\//.test(answer.node.url)) {
    throw new UsherError('bad_answer', 'auth answered without a token or without a node that has a ws:// or wss:// URL');
  }
  return answer as Assignment;
}
