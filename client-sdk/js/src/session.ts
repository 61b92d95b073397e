import { AuthClient } from './auth.js';
import { actionOf, Backoff, type Decision } from './backoff.js';
import { Connection } from './connection.js';
import { UsherError } from './errors.js';
import { Emitter } from './events.js';
import { Liveness } from './liveness.js';
import { listenToPage } from './page.js';
import { decodePosition, encodePosition, PositionStore } from './position.js';
import type { LoadProver } from './prover.js';
import { Stream } from './stream.js';
import type { Assignment, Events, Options, Reset, State, Stats } from './types.js';
import { type Control, decodeMessage, encodeAck, encodeMessage, encodePong, type Message, parseControl, type Welcome } from './wire.js';

const defaultAttachTimeout = 5000; // ms
const ackDelay = 100; // ms; the protocol allows 200
const maxLeaveSpread = 2000; // ms over which clients spread that were asked to leave at the same time
const maxSocketBytes = 64 << 10; // waiting in a WebSocket, above which volatile messages are dropped
// Limits before the first welcome.
const earlyMessageBytes = 64 << 10;
const maxEarlyMessages = 1024;

// Close codes that the client itself uses.
const CLOSED = 1000;
const ABNORMAL = 1006; // a connection that broke: there is no close frame
const PROTOCOL_ERROR = 4000;
const SESSION_ENDED = 4001;
const REPLACED = 4003;

const randomText = () => Math.random().toString(36).slice(2);

/**
 * A session with a node. `connect` opens it. It continues over any number of connections. Everything runs in one thread;
 * `send` and `on` call no handler before they return.
 */
export class Session {
  private currentState: State = 'connecting';
  private readonly counts: Stats = { sent: 0, received: 0, attempts: 0, resumes: 0, resets: 0, lost: 0, dropped: 0 };
  private readonly events = new Emitter<Events>();
  private readonly auth: AuthClient;
  private readonly backoff: Backoff;
  private readonly liveness = new Liveness();
  private readonly store: PositionStore;
  private readonly clientId = randomText() + randomText();
  private closedPosition: (() => string) | null = null; // stays in the store after close
  private removeListeners: (() => void)[] = [];

  // Where the session is.
  private current: Assignment = { token: '', session: '', node: { id: '', url: '' } };
  private tokenUntried = false; // auth has just issued the token
  private limits?: Welcome; // of the last welcome

  // The stream.
  private streamName = ''; // empty: no stream yet
  private stream: Stream | null = null;
  private earlyFrames: Uint8Array[] = []; // sent before the first welcome
  private restored = false; // the stream is that of another process, and no node has accepted it yet
  private sendWasFull = false;
  private inbox: { message: Message; stream: Stream; bytes: number }[] = []; // accepted, not yet delivered
  private delivering = false;

  // Connections.
  private connection: Connection | null = null; // has had its welcome
  private candidate: Connection | null = null; // is attaching
  private decision = 0; // number of the last decision; outcomes of earlier ones are ignored
  private nextStep?: { run: () => void; timer: ReturnType<typeof setTimeout> }; // waits for its time
  private networkChange = false; // the network has changed during an attempt
  private moveTimer?: ReturnType<typeof setTimeout>;
  private ackTimer?: ReturnType<typeof setTimeout>;

  // Failures since the last welcome.
  private failed = false; // an attempt failed
  private namedAgain = false; // and auth has named the same node again
  private outcomeUnknown = false; // an attempt ended without a close code: the node may have accepted it
  private unreachable = ''; // id of the node to report to auth

  private constructor(
    private readonly options: Options,
    private readonly loadProver: LoadProver,
  ) {
    this.auth = new AuthClient(options);
    this.backoff = new Backoff(options.random || Math.random);
    this.store = new PositionStore(options.storage, options.storageKey || 'usher');
    const handlers = (options.on || {}) as { [name: string]: (event: any) => void };
    for (const name of Object.keys(handlers)) this.on(name as keyof Events, handlers[name]);
  }

  /** @internal */
  static open(options: Options, loadProver: LoadProver): Promise<Session> {
    return new Session(options, loadProver).start();
  }

  /** The present state. */
  get state(): State {
    return this.currentState;
  }

  /** Id of the session. */
  get id(): string {
    return this.current.session;
  }

  /** Name of the user. */
  get user(): string {
    return this.current.user || '';
  }

  /** Id of the session's present or last node. */
  get node(): string {
    return this.current.node.id;
  }

  /** The last round-trip time to the node, in milliseconds; 0 until it is known. */
  get rtt(): number {
    return this.liveness.rtt;
  }

  /** The counts since `connect`. */
  get stats(): Stats {
    return this.counts;
  }

  /** Number of sent messages that the node has not confirmed yet. */
  get unconfirmed(): number {
    return this.stream ? this.stream.sent - this.stream.acked : this.earlyFrames.length;
  }

  /**
   * Adds a handler for an event, and returns a function that removes it. An event may have several handlers. Messages wait
   * until the event `message` has a handler.
   */
  on<K extends keyof Events>(event: K, handler: (event: Events[K]) => void): () => void {
    const remove = this.events.on(event, handler);
    if (event === 'message') Promise.resolve().then(() => this.deliver());
    return remove;
  }

  /**
   * Sends a message, a string or bytes. A reliable message is kept until the node has confirmed it, and arrives exactly once
   * and in order, however often the connection is cut. A volatile message is dropped if there is no connection, or if the
   * connection is slow. Returns false if too many messages are unconfirmed: wait for the event `drain`. Throws a RangeError
   * if the message is larger than the node allows, and an Error if the session has ended.
   */
  send(data: string | Uint8Array | ArrayBuffer, options?: { volatile?: boolean }): boolean {
    if (this.state === 'ended') throw new Error('usher: the session has ended: connect again');
    const volatile = !!(options && options.volatile);
    const frame = encodeMessage(data, volatile);
    const maxBytes = this.limits ? this.limits.max_message_bytes : earlyMessageBytes;
    if (frame.length - 1 > maxBytes) {
      throw new RangeError('usher: the message has ' + (frame.length - 1) + ' bytes, at most ' + maxBytes + ' are allowed');
    }
    if (volatile) {
      this.sendVolatile(frame);
      return true;
    }
    if (this.stream) {
      if (!this.stream.send(frame)) {
        this.sendWasFull = true;
        return false;
      }
    } else {
      if (this.earlyFrames.length >= maxEarlyMessages) return false;
      this.earlyFrames.push(frame);
    }
    this.counts.sent++;
    if (this.connection) this.writeFrames(this.connection);
    this.persistSoon();
    return true;
  }

  /** Measures the round-trip time now. The result is the event `rtt`. */
  ping(): void {
    if (this.connection && !this.connection.held) this.liveness.ping(this.connection);
  }

  /**
   * Notifies the session that the network has changed, or that the device was asleep. The session probes its connection,
   * and replaces it if there is no pong within two seconds; if it waits before its next attempt, it makes the attempt now.
   * During an attempt it does so afterwards. In a browser page the session calls it by itself.
   */
  networkChanged(): void {
    if (this.nextStep) {
      const { run, timer } = this.nextStep;
      clearTimeout(timer);
      run();
      return;
    }
    if (this.connection && !this.candidate) this.probe(this.connection);
    else this.networkChange = true;
  }

  /**
   * Returns the token and the position of the session as a text, with which another process continues it
   * (`Options.position`). The text is a secret.
   */
  save(): string {
    return encodePosition({
      assignment: this.current,
      streamName: this.streamName,
      stream: this.stream,
      frames: this.earlyFrames,
      prover: this.auth.prover && this.auth.prover.save(),
    });
  }

  /**
   * Returns the assignment of the session, with which another process continues it with a stream of its own
   * (`Options.assignment`). It holds the token, which is a secret.
   */
  assignment(): Assignment {
    return this.current;
  }

  /**
   * Closes the connection. The state becomes `ended`. The node keeps the session for its resume window; until then another
   * process can continue it with the result of `save`.
   */
  close(): void {
    this.inbox = []; // the node sends these messages again to the process that continues the session
    this.end(CLOSED, 'closed');
  }

  /** Ends the session everywhere. The state becomes `ended` at once. Rejects with an UsherError if auth does not confirm it. */
  async logout(): Promise<void> {
    this.inbox = [];
    this.end(SESSION_ENDED, 'logged_out', false);
    await this.auth.logout(this.current.token);
  }

  // ---- Opening a session.

  private async start(): Promise<Session> {
    const saved = this.options.position || this.store.read();
    const attached = this.firstAttach();
    if (!(saved && (await this.restore(saved)))) await this.openSession();
    this.removeListeners = listenToPage(() => this.networkChanged(), () => this.persist());
    this.backoff.assigned(Date.now());
    if (this.current.node.url && !this.tokenExpired()) this.attach();
    else this.reconnect();
    try {
      await attached;
    } catch (error) {
      // The saved session may have ended long ago: log in instead.
      if (!saved || !this.options.credentials) throw error;
      this.persist(); // the session has ended: this removes the stored position
      return Session.open(Object.assign({}, this.options, { position: '' }), this.loadProver);
    }
    return this;
  }

  /** Resolves when the session attaches for the first time, and rejects if it ends before. */
  private firstAttach(): Promise<void> {
    const attached = new Promise<void>((resolve, reject) => {
      const remove = this.on('state', ({ state, reason }) => {
        if (state === 'attached') resolve();
        else if (state === 'ended') reject(new UsherError(reason || 'ended', 'the session has ended: ' + reason));
        else return;
        remove();
      });
    });
    attached.catch(() => {}); // it may reject before start waits for it
    return attached;
  }

  /** Takes the assignment of the options, or logs in. */
  private async openSession(): Promise<void> {
    const { key, assignment } = this.options;
    const crypto = (globalThis as any).crypto;
    if (key !== false && (key || !assignment) && crypto && crypto.subtle) {
      const createProver = await this.loadProver();
      this.auth.prover = await createProver(key);
    }
    this.current = assignment || (await this.auth.login());
    this.tokenUntried = true;
  }

  /** Restores a saved position. Returns false if that is not possible. */
  private async restore(text: string): Promise<boolean> {
    const saved = decodePosition(text);
    if (!saved) return false;
    if (saved.prover) {
      try {
        const createProver = await this.loadProver();
        this.auth.prover = await createProver(this.options.key || undefined, saved.prover);
      } catch {
        return false;
      }
    }
    this.current = saved.assignment;
    this.streamName = saved.streamName;
    this.stream = saved.stream;
    this.earlyFrames = saved.frames;
    this.restored = saved.stream !== null;
    return true;
  }

  // ---- Storing the position.

  private persist(): void {
    this.store.write(this.state === 'ended' ? this.closedPosition : () => this.save());
  }

  private persistSoon(): void {
    if (this.state !== 'ended') this.store.writeSoon(() => this.persist());
  }

  // ---- Deciding what to do next.

  /** Reports whether the node would refuse the token. A token that auth has just issued is tried: the clock may be wrong. */
  private tokenExpired(): boolean {
    const expiry = Date.parse(this.current.token_expires_at || '');
    return !this.tokenUntried && expiry < Date.now();
  }

  /** Takes the step after the wait. While there is a connection, the step is to move to another one. */
  private schedule({ wait, step }: Decision, code = ABNORMAL, reason = ''): void {
    if (this.state === 'ended') return;
    if (step === 'stop') {
      this.end(code, reason);
      return;
    }
    const networkChange = this.takeNetworkChange();
    if (this.connection) {
      this.moveLater(wait);
      if (networkChange) this.probe(this.connection);
      return;
    }
    const decision = ++this.decision;
    const run = () => {
      this.nextStep = undefined;
      if (this.outdated(decision)) return;
      if (step === 'attach' && !this.tokenExpired()) this.attach();
      else this.reconnect();
    };
    this.nextStep = { run, timer: setTimeout(run, networkChange ? 0 : wait) };
  }

  /** Reports whether the outcome of a decision is to be ignored. */
  private outdated(decision: number): boolean {
    return decision !== this.decision || this.state === 'ended';
  }

  /** Moves the session to another connection after the wait. */
  private moveLater(wait: number): void {
    clearTimeout(this.moveTimer);
    this.moveTimer = setTimeout(() => {
      if (!this.connection || this.candidate) return;
      if (this.state !== 'moving') this.enter('moving');
      if (this.connection) this.reconnect(); // a handler may have ended the session
    }, wait);
  }

  /** Asks auth for the node, and attaches there. */
  private reconnect(): void {
    const decision = ++this.decision;
    this.auth.reconnect(this.current.token, this.unreachable).then(
      (assignment) => {
        if (!this.outdated(decision)) this.reassigned(assignment);
      },
      (error) => {
        if (!this.outdated(decision)) this.reconnectFailed(error);
      },
    );
  }

  private reassigned(assignment: Assignment): void {
    this.namedAgain = this.failed && assignment.node.id === this.node;
    this.current = assignment;
    this.tokenUntried = true;
    this.unreachable = '';
    this.backoff.assigned(Date.now());
    this.attach();
  }

  private reconnectFailed(error: unknown): void {
    const problem = error instanceof UsherError ? error : new UsherError('no_proof', String(error), 400);
    // While there is a connection, the node decides when the session is over.
    if (!problem.passing && !this.connection) {
      this.end(SESSION_ENDED, problem.code);
      return;
    }
    // The cause that kept this request from auth may also have kept the attempt before from the node: do not report the node.
    if (problem.code === 'unreachable' || problem.code === 'no_proof') this.unreachable = '';
    this.schedule(this.backoff.reconnectFailed(problem.retryAfter));
  }

  // ---- Attaching.

  private attach(): void {
    this.decision++;
    if (this.connection) this.connection.hold();
    this.counts.attempts++;
    this.tokenUntried = false;
    const c = new Connection(this.streamName);
    this.candidate = c;
    const timeout = this.options.attachTimeout || defaultAttachTimeout;
    c.timer = setTimeout(() => this.attachFailed(c, ABNORMAL, 'no welcome within ' + timeout + ' ms'), timeout);
    const url = this.attachUrl();
    const { token } = this.current;
    const { prover } = this.auth;
    Promise.resolve(prover && prover.prove('attach', token))
      .then((proof) => {
        if (!c.closed) this.openSocket(c, url, token, proof);
      })
      .catch((error) => this.attachFailed(c, ABNORMAL, error.message));
  }

  private attachUrl(): string {
    const { url } = this.current.node;
    let query = 'client=' + this.clientId + '&attempt=' + this.counts.attempts;
    if (this.streamName) query += '&stream=' + encodeURIComponent(this.streamName) + '&received=' + this.stream!.received;
    return url + (url.indexOf('?') < 0 ? '?' : '&') + query;
  }

  private openSocket(c: Connection, url: string, token: string, proof: string | null): void {
    const protocols = ['usher.v1', 'usher.token.' + token];
    if (proof) protocols.push('usher.proof.' + proof);
    const socket = new (this.options.WebSocket || (globalThis as any).WebSocket)(url, protocols);
    c.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      c.opened = true;
    };
    socket.onerror = () => {}; // onclose follows
    socket.onclose = (e: { code: number; reason: string }) => c.event(() => this.socketClosed(c, e.code, e.reason));
    socket.onmessage = (e: { data: string | ArrayBuffer }) => c.event(() => this.received(c, e.data));
  }

  private socketClosed(c: Connection, code: number, reason: string): void {
    if (c === this.candidate) {
      this.attachFailed(c, code, reason);
      return;
    }
    // An attempt with an unknown outcome may have replaced this connection: then the session is not over.
    this.connectionLost(c, this.outcomeUnknown && code === REPLACED ? ABNORMAL : code, reason);
  }

  private attachFailed(c: Connection, code: number, reason: string): void {
    if (c.closed || c !== this.candidate) return;
    c.close();
    this.candidate = null;
    if (this.restored && code === PROTOCOL_ERROR) {
      // The saved position is older than the counts that the node has seen: begin a new stream.
      this.restored = false;
      this.events.emit('reset', this.dropStream('unknown'));
      if (this.state !== 'ended') this.attach();
      return;
    }
    this.outcomeUnknown = this.outcomeUnknown || code === ABNORMAL;
    this.failed = true;
    if (!c.opened) this.unreachable = this.node;
    const decision = this.decision;
    const old = this.connection;
    if (old && old.held) {
      old.release();
      if (!old.closed) this.writeFrames(old);
      this.acknowledge(); // the timer may have passed during the hold
    }
    if (this.outdated(decision)) return; // the old connection has ended too, and its end was handled
    const next = c.opened ? this.backoff.attachFailed(Date.now(), code) : this.backoff.unreachable();
    // Auth has named the same node twice, and the client cannot attach there: report the node, otherwise auth names it again.
    if (this.namedAgain && next.step === 'reconnect' && actionOf(code) === 'retry') this.unreachable = this.node;
    this.schedule(next, code, reason);
  }

  /** Gives the connection up if there is no pong within two seconds. */
  private probe(c: Connection): void {
    this.liveness.probe(c, () => this.connectionLost(c, ABNORMAL, 'no pong within 2 s', true));
  }

  /** Reports whether the network has changed during the attempt, and forgets it. */
  private takeNetworkChange(): boolean {
    const changed = this.networkChange;
    this.networkChange = false;
    return changed;
  }

  /** The connection of the session has ended, while no other connection was attaching. */
  private connectionLost(c: Connection, code: number, reason: string, retryAtOnce?: boolean): void {
    if (c.closed) return;
    c.close();
    this.connection = null;
    clearTimeout(this.moveTimer);
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    const now = Date.now();
    const next = this.backoff.connectionEnded(now, code, now - c.attachedAt);
    if (next.step !== 'stop') this.enter('detached', code, reason);
    if (retryAtOnce) next.wait = 0;
    this.schedule(next, code, reason);
  }

  // ---- The welcome.

  private handleWelcome(c: Connection, w: Control): void {
    if (w.type !== 'welcome' || !this.mayAccept(c, w) || (w.resumed && !this.resumeStream(w))) {
      this.violation(c);
      return;
    }
    const reset = w.resumed ? null : this.beginStream(c, w);
    this.restored = false;
    this.limits = w;
    this.current.session = w.session;
    this.current.token_expires_at = w.token_expires_at;
    this.replaceConnection(c);
    for (const frame of this.earlyFrames.splice(0)) this.stream!.send(frame);
    this.writeFrames(c);
    this.liveness.watch(c, w.ping_interval_ms, () => this.connectionLost(c, ABNORMAL, 'no activity for 2.5 ping intervals'));
    if (this.takeNetworkChange()) this.probe(c);
    else this.liveness.ping(c);
    // Each handler may end the session, which closes c.
    if (reset) this.events.emit('reset', reset);
    if (!c.closed) this.enter('attached');
    if (!c.closed) this.notifyDrain();
  }

  /** Reports whether the welcome is for this session and resumes only the stream that the client named. */
  private mayAccept(c: Connection, w: Welcome): boolean {
    const { session } = this.current;
    return (!session || w.session === session) && (!w.resumed || (c.streamName !== '' && w.stream === c.streamName));
  }

  /** Continues the stream. Returns false if the node's count is impossible. */
  private resumeStream(w: Welcome): boolean {
    const stream = this.stream!;
    if (this.restored && w.received > stream.sent) {
      // The process before sent more messages after it had saved the position.
      stream.ack(stream.sent);
      stream.acked = w.received;
    }
    if (!stream.ack(w.received)) return false;
    stream.resumed();
    stream.maxMessages = w.max_unacked_messages;
    stream.maxBytes = w.max_unacked_bytes;
    this.counts.resumes++;
    return true;
  }

  /** Begins a new stream, and returns the reset of the stream that the client named. */
  private beginStream(c: Connection, w: Welcome): Reset | null {
    const reset = c.streamName ? this.dropStream(w.reason || 'unknown') : null;
    this.stream = new Stream(w.max_unacked_messages, w.max_unacked_bytes);
    this.streamName = w.stream;
    return reset;
  }

  /** Drops the stream and returns its reset. */
  private dropStream(reason: string): Reset {
    const reset = { reason, unconfirmed: this.unconfirmedMessages() };
    this.streamName = '';
    this.stream = null;
    this.counts.lost += reset.unconfirmed.length;
    this.counts.resets++;
    return reset;
  }

  /** Makes c the connection of the session. */
  private replaceConnection(c: Connection): void {
    if (this.connection) this.connection.close();
    clearTimeout(c.timer);
    clearTimeout(this.moveTimer);
    this.decision++;
    this.candidate = null;
    this.connection = c;
    this.outcomeUnknown = this.failed = this.namedAgain = false;
    this.unreachable = '';
    this.backoff.welcomed();
    this.liveness.cancelProbe();
    c.attachedAt = Date.now();
    c.nextFrame = this.stream!.acked + 1;
  }

  // ---- Receiving.

  private received(c: Connection, data: string | ArrayBuffer): void {
    if (typeof data === 'string') {
      const control = parseControl(data);
      if (typeof control === 'number') this.violation(c, control);
      else if (c === this.candidate) this.handleWelcome(c, control);
      else this.handleControl(c, control);
      return;
    }
    const message = decodeMessage(new Uint8Array(data));
    if (!message || c === this.candidate) {
      this.violation(c);
      return;
    }
    if (!message.volatile) {
      this.stream!.received++;
      this.counts.received++;
    }
    this.inbox.push({ message, stream: this.stream!, bytes: data.byteLength - 1 });
    this.deliver();
  }

  private handleControl(c: Connection, control: Control): void {
    switch (control.type) {
      case 'ack':
        if (this.stream!.ack(control.received)) this.notifyDrain();
        else this.violation(c);
        break;
      case 'ping':
        c.write(encodePong(control.id));
        break;
      case 'pong':
        if (this.liveness.pong(control.id)) this.events.emit('rtt', this.rtt);
        break;
      case 'goaway':
        if (this.state === 'attached') {
          // The node asks its clients one after another, so a short random spread suffices.
          const spread = Math.min((control.by_ms - control.after_ms) / 2, maxLeaveSpread);
          this.moveLater(control.after_ms + spread * (this.options.random || Math.random)());
        }
        break;
      case 'welcome':
        this.violation(c); // a second one
    }
  }

  /** Delivers the messages of the inbox to the handlers, one after another. */
  private deliver(): void {
    if (this.delivering) return;
    this.delivering = true;
    while (this.inbox.length && this.events.has('message')) {
      const { message, stream, bytes } = this.inbox.shift()!;
      this.events.emit('message', message);
      // After a reset the message's stream is over, and the new one does not count the message.
      if (!message.volatile && stream === this.stream) stream.handle(bytes);
    }
    this.delivering = false;
    this.acknowledge();
    this.persistSoon();
  }

  /** Sends an acknowledgement now, or soon, if one is pending. */
  private acknowledge(): void {
    const c = this.connection;
    const stream = this.stream;
    if (!c || !stream || c.held || c.closed) return;
    const due = stream.ackDue();
    if (due === 'now') c.write(encodeAck(stream.takeAck()));
    else if (due === 'soon' && !this.ackTimer) {
      this.ackTimer = setTimeout(() => {
        this.ackTimer = undefined;
        this.acknowledgeNow();
      }, ackDelay);
    }
  }

  private acknowledgeNow(): void {
    const c = this.connection;
    const stream = this.stream;
    if (c && stream && !c.held && !c.closed && stream.ackDue() !== 'no') c.write(encodeAck(stream.takeAck()));
  }

  // ---- Sending.

  private sendVolatile(frame: Uint8Array): void {
    const c = this.connection;
    const ready = c && !c.held && c.nextFrame > this.stream!.sent && c.socket!.bufferedAmount < maxSocketBytes;
    if (ready) c.write(frame);
    else this.counts.dropped++;
  }

  /** Writes the reliable messages that are not written yet. */
  private writeFrames(c: Connection): void {
    const stream = this.stream;
    if (c.held || c.closed || !stream) return;
    c.nextFrame = Math.max(c.nextFrame, stream.acked + 1);
    for (let frame = stream.frame(c.nextFrame); frame; frame = stream.frame(c.nextFrame)) {
      c.nextFrame++;
      c.write(frame);
    }
  }

  /** Emits `drain` if the stream has capacity again. */
  private notifyDrain(): void {
    this.persistSoon();
    if (!this.sendWasFull || !this.stream || !this.stream.fits(0)) return;
    this.sendWasFull = false;
    this.events.emit('drain', undefined);
  }

  private unconfirmedMessages(): Message[] {
    return (this.stream ? this.stream.frames : this.earlyFrames).map((frame) => decodeMessage(frame)!);
  }

  // ---- Ending.

  /** The node has violated the protocol. */
  private violation(c: Connection, code = PROTOCOL_ERROR): void {
    c.close(code);
    if (c === this.candidate && this.connection) this.connection.close();
    this.end(code, 'protocol_error');
  }

  private enter(state: State, code?: number, reason?: string, unconfirmed?: Message[]): void {
    this.currentState = state;
    this.persist();
    // After a handler that ends the session, the other handlers would get this state after `ended`.
    this.events.emit('state', { state, node: this.node, code, reason, unconfirmed }, () => this.currentState !== state);
  }

  /** Ends the session for this client. acknowledge: first acknowledge the handled messages. */
  private end(code: number, reason: string, acknowledge = true): void {
    if (this.state === 'ended') return;
    this.decision++;
    if (this.nextStep) clearTimeout(this.nextStep.timer);
    this.nextStep = undefined;
    clearTimeout(this.moveTimer);
    clearTimeout(this.ackTimer);
    this.liveness.stop();
    this.store.stop();
    if (acknowledge) this.acknowledgeNow();
    // The node keeps a session that is closed: its stored position stays.
    const position = code === CLOSED && this.options.storage ? this.save() : '';
    if (position) this.closedPosition = () => position;
    if (this.connection) this.connection.close();
    if (this.candidate) this.candidate.close();
    this.connection = this.candidate = null;
    for (const remove of this.removeListeners.splice(0)) remove();
    const unconfirmed = this.unconfirmedMessages();
    this.counts.lost += unconfirmed.length;
    if (code !== CLOSED && this.auth.prover) this.auth.prover.forget();
    this.enter('ended', code, reason, unconfirmed);
  }
}
