import { type Fetch, post, UsherError } from './http.js';
import { actionOf, type Next, Retry } from './retry.js';
import { Stream } from './stream.js';
import { type Control, decodeMessage, encodeMessage, type Message, parseControl, type Welcome } from './wire.js';

/** A pair of keys of WebCrypto: ECDSA on P-256. */
export interface KeyPair {
  readonly privateKey: any;
  readonly publicKey: any;
}

/** Proves that this client has the key that its tokens are bound to. */
export interface Prover {
  readonly cnf: object; // the public key, as a login names it
  prove(act: string, token: string): Promise<string>;
  /** Returns what another process makes a prover of that goes on. */
  save(): unknown;
  /** The session has ended. */
  forget(): void;
}

/** Makes a prover with the key, with the one that was saved, or with a new one: see proof.ts. */
export type Proofs = (pair: KeyPair | undefined, saved?: unknown) => Promise<Prover>;

/** Part of a WebSocket, as far as it is used: the browser's, or one like it. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly protocol: string;
  onopen: ((e: any) => void) | null;
  onmessage: ((e: any) => void) | null;
  onclose: ((e: any) => void) | null;
  onerror: ((e: any) => void) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

/** Who logs in. */
export interface Credentials {
  method: string;
  credentials: Record<string, unknown>;
}

/** Wishes about the node. All are optional. */
export interface Placement {
  region?: string;
  fallback?: string[];
  strict?: boolean;
  pool?: string;
  group?: string;
}

/** What auth answers: where the client goes, and with what token. */
export interface Assignment {
  token: string;
  token_expires_at?: string;
  session: string;
  user?: string;
  node: { id: string; url: string };
}

/** A login waits because every node is full. */
export interface Queued {
  position: number;
  waiting: number;
  estimate_ms?: number;
}

/** Where a position is kept, so that a page that is loaded again goes on: sessionStorage, for example. */
export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export interface Options {
  /** Base URL of the auth service, such as https://auth.example.com. */
  auth: string;
  /** Who logs in; a function is asked whenever it is needed. */
  credentials?: Credentials | (() => Credentials | Promise<Credentials>);
  /** A session that was opened before: what a backend handed over. */
  assignment?: Assignment;
  /** What Session.save returned, in another process perhaps: the stream goes on. */
  position?: string;
  /** Keeps the position; a page that is loaded again goes on where it was. */
  storage?: Storage;
  /** Key in the storage. Default: «usher». */
  storageKey?: string;
  placement?: Placement;
  /**
   * What the session's tokens are bound to, so that one that was stolen opens nothing. Default: a key of the session's
   * own, which no script can read where the browser keeps keys; none where there is no WebCrypto. With an assignment, the
   * key that its login named; to hand a session over, log in with a key of your own. false: tokens are bound to nothing.
   */
  key?: KeyPair | false;
  /** Told when the login has to wait because every node is full, and as it moves up. */
  onQueue?: (q: Queued) => void;
  /** Handlers from the beginning on: what happens before connect has resolved, a reset for example, is told to them. */
  on?: { [K in keyof Events]?: (e: Events[K]) => void };
  /** Default: the global ones. */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
  fetch?: Fetch;
  /** Time for an attempt to attach, in milliseconds. Default 5,000. */
  attachTimeout?: number;
  /** Time for a request to auth, in milliseconds. Default 10,000. */
  requestTimeout?: number;
  /** Draws from [0, 1) for the waits. Default Math.random. */
  random?: () => number;
}

export type State = 'connecting' | 'attached' | 'moving' | 'detached' | 'ended';

export interface StateChange {
  state: State;
  /** Id of the node that the session is at, or was at last. */
  node: string;
  /** Close code, where one led here; 1006 for a connection that broke. */
  code?: number;
  /** One word, or a sentence: why. */
  reason?: string;
  /** When it has ended: messages of ours that were never confirmed. Some may have arrived. */
  unconfirmed?: Message[];
}

/** A stream could not go on; another one has begun. */
export interface Reset {
  /** expired, overflow, node_lost, unknown, or a later word. */
  reason: string;
  /** Messages of ours that were never confirmed. Some may have been handled. They are not sent again. */
  unconfirmed: Message[];
}

export interface Events {
  message: Message;
  state: StateChange;
  reset: Reset;
  /** Round trip to the node, in milliseconds. */
  rtt: number;
  /** There is room again after send reported that there was none. */
  drain: void;
}

export interface Stats {
  sent: number; // reliable messages of ours
  received: number; // reliable messages of the node
  attempts: number;
  resumes: number;
  resets: number;
  lost: number; // messages of ours that were reported as never confirmed
  dropped: number; // volatile messages of ours
}

/** One connection. */
interface Conn {
  ws: Socket;
  opened?: boolean;
  done?: boolean; // nothing of it counts any more
  held: (() => void)[] | null; // what comes while a successor attaches
  next: number; // number of the next message to write
  since: number;
  heard: number;
  stream: string; // that the handshake named
  timer?: ReturnType<typeof setTimeout>;
}

interface Position {
  v: 1;
  at: Assignment;
  stream: string;
  received: number;
  acked: number;
  kept: string[]; // frames, in hexadecimal
  pop: unknown; // of the prover
}

const tooMuch = 64 << 10; // bytes that wait in a socket before volatile messages are dropped
const saveEvery = 250;

/** A session with a node. Made by connect. */
export class Session {
  state: State = 'connecting';
  /** Round trip to the node, in milliseconds; 0 until it is known. */
  rtt = 0;
  readonly stats: Stats = { sent: 0, received: 0, attempts: 0, resumes: 0, resets: 0, lost: 0, dropped: 0 };

  private prover: Prover | null = null;
  private at: Assignment = { token: '', session: '', node: { id: '', url: '' } };
  private fresh = false; // the token was just given by auth
  private streamName = '';
  private stream: Stream | null = null;
  private limits?: Welcome;
  private restored = false; // the position is another process's, and no node has seen it yet
  private early: Uint8Array[] = []; // sent before the first welcome
  private conn: Conn | null = null; // has had its welcome
  private next: Conn | null = null; // is on its way
  private unclear = false; // an attempt ended without a word: the node may have let it in
  private unreachable = '';
  private barren = false;
  private again = false;
  private retry: Retry;
  private turn = 0; // of the latest decision; answers to earlier ones are not listened to
  private waiting?: { timer: ReturnType<typeof setTimeout>; go: () => void };
  private moveTimer?: ReturnType<typeof setTimeout>;
  private pulse?: ReturnType<typeof setTimeout>;
  private ackTimer?: ReturnType<typeof setTimeout>;
  private saveTimer?: ReturnType<typeof setTimeout>;
  private pings = 0;
  private pinged = new Map<number, number>();
  private probe = 0;
  private inbox: { m: Message; size: number }[] = [];
  private delivering = false;
  private wasFull = false;
  private handlers: { [event: string]: ((e: any) => void)[] | undefined } = {};
  private off: (() => void)[] = [];
  private readonly client = Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);

  /** @internal */
  constructor(
    private readonly o: Options,
    private readonly proofs: () => Promise<Proofs>,
  ) {
    this.retry = new Retry(o.random || Math.random);
    const on = (o.on || {}) as { [event: string]: (e: any) => void };
    for (const event of Object.keys(on)) this.on(event as keyof Events, on[event]);
  }

  get id(): string {
    return this.at.session;
  }
  get user(): string {
    return this.at.user || '';
  }
  get node(): string {
    return this.at.node.id;
  }
  /** Messages of ours that the node has not confirmed yet. */
  get unconfirmed(): number {
    return this.stream ? this.stream.sent - this.stream.acked : this.early.length;
  }

  /** Has f called with every event of the kind. Returns what takes that back. */
  on<K extends keyof Events>(event: K, f: (e: Events[K]) => void): () => void {
    const list = this.handlers[event] || [];
    this.handlers[event] = list;
    list.push(f);
    if (event === 'message') Promise.resolve().then(() => this.deliver());
    return () => {
      const i = list.indexOf(f);
      if (i >= 0) list.splice(i, 1);
    };
  }

  private emit<K extends keyof Events>(event: K, e: Events[K]): void {
    for (const f of (this.handlers[event] || []).slice()) {
      try {
        f(e);
      } catch (err) {
        // The fault is the application's: it must not stop the session.
        setTimeout(() => {
          throw err;
        });
      }
    }
  }

  /**
   * Sends a message, a string or bytes. A reliable one is kept until the node has confirmed it, and arrives exactly
   * once and in order, however often the connection is cut; a volatile one is dropped when there is no connection, or
   * a slow one. Returns false when too much is unconfirmed: wait for the event «drain». Throws a RangeError for a message
   * that is larger than the node takes, and an Error when the session has ended.
   */
  send(data: string | Uint8Array | ArrayBuffer, options?: { volatile?: boolean }): boolean {
    if (this.state === 'ended') throw new Error('the session has ended');
    const volatile = !!(options && options.volatile);
    const frame = encodeMessage(data, volatile);
    const most = this.limits ? this.limits.max_message_bytes : 65536;
    if (frame.length - 1 > most) throw new RangeError('over ' + most + ' bytes');
    const c = this.conn;
    if (volatile) {
      if (c && !c.held && c.next > this.stream!.sent && c.ws.bufferedAmount < tooMuch) this.write(c, frame);
      else this.stats.dropped++;
      return true;
    }
    if (this.stream) {
      if (!this.stream.send(frame)) {
        this.wasFull = true;
        return false;
      }
    } else {
      if (this.early.length >= 1024) return false;
      this.early.push(frame);
    }
    this.stats.sent++;
    if (c) this.pump(c);
    this.saveSoon();
    return true;
  }

  /** Measures the round trip now; the event «rtt» tells it. */
  ping(): void {
    if (this.conn && !this.conn.held) this.sendPing(this.conn);
  }

  /**
   * Says that the network is another one, or that the device slept: the connection is probed, and replaced after two
   * seconds of silence. In a browser the session finds out by itself.
   */
  networkChanged(): void {
    if (this.waiting) {
      const { timer, go } = this.waiting;
      clearTimeout(timer);
      this.waiting = undefined;
      go();
      return;
    }
    const c = this.conn;
    if (!c || this.next || this.probe) return;
    const id = (this.probe = this.sendPing(c));
    setTimeout(() => {
      if (this.probe !== id) return;
      this.probe = 0;
      if (this.conn === c && !c.done && this.pinged.has(id)) this.lost(c, 1006, 'silence', true);
    }, 2000);
  }

  /** Token and position, to go on with in another process: Options.position. A secret. */
  save(): string {
    const s = this.stream;
    const p: Position = {
      v: 1,
      at: this.at,
      stream: this.streamName,
      received: s ? s.handled : 0,
      acked: s ? s.acked : 0,
      pop: this.prover && this.prover.save(),
      kept: (s ? s.frames : this.early).map((f) => Array.from(f, (b) => (b + 256).toString(16).slice(1)).join('')),
    };
    return JSON.stringify(p);
  }

  /** What another process takes the session up with, with a stream of its own: Options.assignment. A secret. */
  assignment(): Assignment {
    return this.at;
  }

  /** Leaves. The session waits for its resume window, and can be taken up with what save returned before. */
  close(): void {
    this.end(1000, 'closed');
  }

  /** Ends the session everywhere. */
  async logout(): Promise<void> {
    if (this.state !== 'ended') this.end(4001, 'logged_out', true);
    await this.ask('/v1/logout', this.at.token, {});
  }

  // ---- beginning

  /** @internal */
  async start(): Promise<this> {
    const saved = this.o.position || (this.o.storage && this.o.storage.getItem(this.slot));
    const attached = new Promise<void>((ok, no) => {
      const off = this.on('state', (c) => {
        if (c.state === 'attached') ok();
        else if (c.state === 'ended') no(new UsherError(c.reason || 'ended', 'the session has ended: ' + c.reason));
        else return;
        off();
      });
    });
    attached.catch(() => {});
    if (!(saved && (await this.restore(saved)))) {
      const key = this.o.key;
      const crypto = (globalThis as any).crypto;
      if (key !== false && (key || !this.o.assignment) && crypto && crypto.subtle) {
        this.prover = await (await this.proofs())(key);
      }
      if (this.o.assignment) this.at = this.o.assignment;
      else await this.login();
      this.fresh = true;
    }
    this.listen();
    this.retry.named(Date.now());
    if (this.at.node.url && !this.expired()) this.attach();
    else this.reconnect();
    try {
      await attached;
    } catch (e) {
      // What was kept may be of a session that is long over: then log in.
      if (!saved || !this.o.credentials) throw e;
      this.store(); // which takes it away
      return new Session(Object.assign({}, this.o, { position: '' }), this.proofs).start() as Promise<this>;
    }
    return this;
  }

  private get slot(): string {
    return this.o.storageKey || 'usher';
  }

  private async restore(text: string): Promise<boolean> {
    let p: Position;
    try {
      p = JSON.parse(text);
      if (p.v !== 1 || !p.at.token) return false;
      if (p.pop) this.prover = await (await this.proofs())(this.o.key as KeyPair, p.pop);
      const frames = p.kept.map((k) => Uint8Array.from(k.match(/../g)!, (b) => parseInt(b, 16)));
      this.at = p.at;
      if (p.stream) {
        const s = (this.stream = new Stream(1 << 20, 1 << 30)); // the bounds come with the welcome
        s.acked = p.acked;
        s.received = s.handled = p.received;
        for (const f of frames) s.send(f);
        this.streamName = p.stream;
        this.restored = true;
      } else this.early = frames;
    } catch {
      return false;
    }
    return true;
  }

  private async login(): Promise<void> {
    const c = this.o.credentials;
    if (!c) throw new Error('set credentials');
    const who = typeof c === 'function' ? await c() : c;
    let answer = await this.ask('/v1/login', '', { method: who.method, credentials: who.credentials, placement: this.o.placement, cnf: this.prover ? this.prover.cnf : undefined });
    for (let failures = 0; !answer.token && answer.ticket; ) {
      if (!failures && this.o.onQueue) this.o.onQueue(answer as Queued);
      const pause = failures ? 500 + Math.random() * 1000 * failures : Math.min(Math.max(answer.poll_after_ms, 250), 60_000);
      await new Promise((ok) => setTimeout(ok, pause));
      try {
        answer = await this.ask('/v1/queue', answer.ticket, {});
        failures = 0;
      } catch (e) {
        if (++failures >= 5 || !(e as UsherError).passing) throw e;
      }
    }
    this.at = assignmentOf(answer);
  }

  private async ask(path: string, token: string, body: unknown): Promise<Record<string, any>> {
    const proof = token && this.prover ? await this.prover.prove(path.slice(4), token) : ''; // the queue looks at none
    const f: Fetch = this.o.fetch || ((url, init) => (globalThis as any).fetch(url, init));
    return post(f, this.o.requestTimeout || 10_000, this.o.auth.replace(/\/+$/, '') + path, token, proof, body);
  }

  private listen(): void {
    const g = globalThis as any;
    const add = (target: any, name: string, f: () => void) => {
      target.addEventListener(name, f);
      this.off.push(() => target.removeEventListener(name, f));
    };
    const wake = () => this.networkChanged();
    const document = g.addEventListener && g.document;
    if (!document) return; // a game engine's: the application calls networkChanged
    add(g, 'online', wake);
    add(g, 'pagehide', () => this.store());
    add(document, 'visibilitychange', () => (document.hidden ? this.store() : wake()));
  }

  // ---- storing

  private saveSoon(): void {
    if (this.o.storage && !this.saveTimer) {
      this.saveTimer = setTimeout(() => {
        this.saveTimer = undefined;
        this.store();
      }, saveEvery);
    }
  }

  private store(): void {
    if (!this.o.storage) return;
    try {
      if (this.state === 'ended') this.o.storage.removeItem(this.slot);
      else this.o.storage.setItem(this.slot, this.save());
    } catch {
      // It is full, or not allowed: then a page that is loaded again begins anew.
    }
  }

  // ---- from door to door

  private expired(): boolean {
    const at = Date.parse(this.at.token_expires_at || '');
    return !this.fresh && at < Date.now();
  }

  /** Goes through the door after the wait. While there is a connection, that is one to move to. */
  private go([wait, door]: Next, code = 1006, reason = ''): void {
    if (door === 'stop') {
      this.end(code, reason);
      return;
    }
    if (this.conn) {
      this.moveLater(wait);
      return;
    }
    const turn = ++this.turn;
    const go = () => {
      this.waiting = undefined;
      if (turn !== this.turn || this.state === 'ended') return;
      if (door === 'attach' && !this.expired()) this.attach();
      else this.reconnect();
    };
    this.waiting = { go, timer: setTimeout(go, wait) };
  }

  private reconnect(): void {
    const turn = ++this.turn;
    const body = this.unreachable ? { unreachable: this.unreachable } : {};
    this.ask('/v1/reconnect', this.at.token, body).then(
      (answer) => {
        if (turn !== this.turn || this.state === 'ended') return;
        let a: Assignment;
        try {
          a = assignmentOf(answer);
        } catch {
          this.go(this.retry.unanswered(0));
          return;
        }
        this.again = this.barren && a.node.id === this.at.node.id;
        this.at = a;
        this.fresh = true;
        this.unreachable = '';
        this.retry.named(Date.now());
        this.attach();
      },
      (e: UsherError) => {
        if (turn !== this.turn || this.state === 'ended') return;
        if (e.passing || this.conn) {
          // Whatever kept this request from auth may have kept the one before from the node. And while there is a
          // connection, it is the node that says when the session is over.
          if (!e.status) this.unreachable = '';
          this.go(this.retry.unanswered(e.retryAfter || 0));
        } else this.end(4001, e.code);
      },
    );
  }

  private attach(): void {
    this.turn++;
    const s = this.stream;
    if (this.conn) this.conn.held = this.conn.held || [];
    this.stats.attempts++;
    this.fresh = false;
    let url = this.at.node.url + (this.at.node.url.indexOf('?') < 0 ? '?' : '&') + 'client=' + this.client + '&attempt=' + this.stats.attempts;
    if (this.streamName) url += '&stream=' + encodeURIComponent(this.streamName) + '&received=' + s!.received;
    const c = { stream: this.streamName, held: null } as unknown as Conn;
    this.next = c;
    c.timer = setTimeout(() => this.attemptFailed(c, 1006, 'timeout'), this.o.attachTimeout || 5000);
    const token = this.at.token;
    Promise.resolve(this.prover && this.prover.prove('attach', token))
      .then((proof) => {
        if (c.done) return;
        const protocols = ['usher.v1', 'usher.token.' + token];
        if (proof) protocols.push('usher.proof.' + proof);
        const ws = (c.ws = new (this.o.WebSocket || (globalThis as any).WebSocket)(url, protocols) as Socket);
        ws.binaryType = 'arraybuffer';
        ws.onopen = () => {
          c.opened = true;
        };
        ws.onerror = () => {}; // a close follows
        ws.onclose = (e: { code: number; reason: string }) => this.event(c, () => this.closed(c, e.code, e.reason));
        ws.onmessage = (e: { data: string | ArrayBuffer }) => this.event(c, () => this.heard(c, e.data));
      })
      .catch((e) => this.attemptFailed(c, 1006, e.message));
  }

  /** Runs what comes of a connection, or keeps it while a successor attaches: the node may have taken the session away. */
  private event(c: Conn, f: () => void): void {
    if (c.done) return;
    c.heard = Date.now();
    if (c.held) c.held.push(f);
    else f();
  }

  private closed(c: Conn, code: number, reason: string): void {
    if (c.done) return;
    if (c === this.next) this.attemptFailed(c, code, reason);
    else this.lost(c, this.unclear && code === 4003 ? 1006 : code, reason);
  }

  private attemptFailed(c: Conn, code: number, reason: string): void {
    if (c.done || c !== this.next) return;
    this.drop(c);
    this.next = null;
    if (this.restored && code === 4000) {
      // What was kept is older than what the node has been told: begin a stream of this process's own.
      this.forget('unknown');
      this.attach();
      return;
    }
    const old = this.conn;
    this.unclear = this.unclear || code === 1006;
    this.barren = true;
    if (!c.opened) this.unreachable = this.at.node.id;
    const turn = this.turn;
    if (old && old.held) {
      const held = old.held;
      old.held = null;
      for (const f of held) if (!old.done) f();
      if (!old.done) this.pump(old);
    }
    if (turn !== this.turn || (this.state as State) === 'ended') return; // the old connection is gone as well
    const next = c.opened ? this.retry.failed(Date.now(), code) : this.retry.unreachable();
    // Auth has named a node twice at which nobody can attach: name it, or auth will go on naming it.
    if (this.again && next[1] === 'reconnect' && actionOf(code) === 'retry') this.unreachable = this.at.node.id;
    this.go(next, code, reason);
  }

  /** The connection that carried the session is gone, and no successor is on its way: c would be held. */
  private lost(c: Conn, code: number, reason: string, atOnce?: boolean): void {
    if (c.done) return;
    this.drop(c);
    this.conn = null;
    clearTimeout(this.moveTimer);
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    const next = this.retry.ended(Date.now(), code, Date.now() - c.since);
    if (next[1] !== 'stop') this.enter('detached', code, reason);
    if (atOnce) next[0] = 0;
    this.go(next, code, reason);
  }

  private drop(c: Conn, code = 1000): void {
    c.done = true;
    clearTimeout(c.timer);
    try {
      if (c.ws) c.ws.close(code);
    } catch {
      // It was closed already.
    }
  }

  private moveLater(wait: number): void {
    clearTimeout(this.moveTimer);
    this.moveTimer = setTimeout(() => {
      if (!this.conn || this.next) return;
      if (this.state !== 'moving') this.enter('moving');
      this.reconnect();
    }, wait);
  }

  // ---- a connection

  private heard(c: Conn, data: string | ArrayBuffer): void {
    if (typeof data === 'string') {
      const ctl = parseControl(data);
      if (typeof ctl === 'number') this.violation(c, ctl);
      else if (c === this.next) this.welcome(c, ctl);
      else this.control(c, ctl);
      return;
    }
    const m = decodeMessage(new Uint8Array(data));
    if (!m || c === this.next) {
      this.violation(c);
      return;
    }
    const size = data.byteLength - 1;
    if (!m.volatile) {
      this.stream!.received++;
      this.stats.received++;
    }
    this.inbox.push({ m, size });
    this.deliver();
  }

  private deliver(): void {
    if (this.delivering) return;
    this.delivering = true;
    const list = this.handlers.message;
    while (this.inbox.length && list && list.length) {
      const { m, size } = this.inbox.shift()!;
      const s = this.stream;
      this.emit('message', m);
      if (!m.volatile && s && s === this.stream) s.handle(size);
    }
    this.delivering = false;
    this.acknowledge();
    this.saveSoon();
  }

  private acknowledge(): void {
    const c = this.conn;
    const s = this.stream;
    if (!c || !s || c.held || c.done) return;
    const due = s.due();
    if (due === 'now') this.sendAck(c, s);
    else if (due === 'soon' && !this.ackTimer) {
      this.ackTimer = setTimeout(() => {
        this.ackTimer = undefined;
        const now = this.conn;
        if (now && !now.held && this.stream!.due() !== 'no') this.sendAck(now, this.stream!);
      }, 100);
    }
  }

  private control(c: Conn, ctl: Control): void {
    switch (ctl.type) {
      case 'ack':
        if (!this.stream!.ack(ctl.received)) this.violation(c);
        else this.room();
        break;
      case 'ping':
        this.write(c, '{"type":"pong","id":' + ctl.id + '}');
        break;
      case 'pong': {
        const at = this.pinged.get(ctl.id);
        if (at === undefined) break;
        this.pinged.clear();
        this.probe = 0;
        this.emit('rtt', (this.rtt = Date.now() - at));
        break;
      }
      case 'goaway':
        if (this.state === 'attached') {
          // Nodes ask one after another: a moment soon after is spread enough.
          const span = Math.min((ctl.by_ms - ctl.after_ms) / 2, 2000) * (this.o.random || Math.random)();
          this.moveLater(ctl.after_ms + span);
        }
        break;
      case 'welcome':
        this.violation(c);
    }
  }

  private welcome(c: Conn, w: Control): void {
    if (w.type !== 'welcome' || (this.at.session && w.session !== this.at.session) || (w.resumed && (!c.stream || w.stream !== c.stream))) {
      this.violation(c);
      return;
    }
    let reset: Reset | null = null;
    if (w.resumed) {
      const s = this.stream!;
      if (this.restored && w.received > s.sent) {
        s.ack(s.sent); // sent after the position was kept
        s.acked = w.received;
      }
      if (!s.ack(w.received)) {
        this.violation(c);
        return;
      }
      s.resumed();
      s.messages = w.max_unacked_messages;
      s.size = w.max_unacked_bytes;
      this.stats.resumes++;
    } else {
      if (c.stream) reset = this.forget(w.reason || 'unknown');
      this.stream = new Stream(w.max_unacked_messages, w.max_unacked_bytes);
      this.streamName = w.stream;
    }
    this.restored = false;
    this.limits = w;
    this.at.session = w.session;
    this.at.token_expires_at = w.token_expires_at;
    if (this.conn) this.drop(this.conn);
    clearTimeout(c.timer);
    clearTimeout(this.moveTimer);
    this.turn++;
    this.next = null;
    this.conn = c;
    this.unclear = this.barren = this.again = false;
    this.unreachable = '';
    this.retry.welcomed();
    c.since = Date.now();
    c.next = this.stream!.acked + 1;
    this.probe = 0;
    for (const f of this.early.splice(0)) this.stream!.send(f);
    this.pump(c);
    if (reset) this.emit('reset', reset);
    this.enter('attached');
    this.room();
    this.beat(c, w.ping_interval_ms);
    this.sendPing(c);
  }

  /** Lets go of the stream, and says what was never confirmed of it. */
  private forget(reason: string): Reset | null {
    const unconfirmed = this.unconfirmedMessages();
    const had = this.streamName !== '';
    this.streamName = '';
    this.stream = null;
    this.stats.lost += unconfirmed.length;
    this.stats.resets++;
    const reset = { reason, unconfirmed };
    if (!this.restored) return had ? reset : null;
    this.restored = false;
    this.emit('reset', reset);
    return null;
  }

  private unconfirmedMessages(): Message[] {
    return (this.stream ? this.stream.frames : this.early).map((f) => decodeMessage(f)!);
  }

  private room(): void {
    this.saveSoon();
    if (!this.wasFull || !this.stream || !this.stream.fits(0)) return;
    this.wasFull = false;
    this.emit('drain', undefined);
  }

  private pump(c: Conn): void {
    const s = this.stream;
    if (c.held || c.done || !s) return;
    if (c.next <= s.acked) c.next = s.acked + 1;
    for (let f = s.frame(c.next); f; f = s.frame(c.next)) {
      c.next++;
      this.write(c, f);
    }
  }

  private write(c: Conn, data: string | Uint8Array): void {
    try {
      c.ws.send(data);
    } catch {
      // It is closing; onclose tells, and what counts is kept.
    }
  }

  private sendAck(c: Conn, s: Stream): void {
    this.write(c, '{"type":"ack","received":' + s.takeAck() + '}');
  }

  private sendPing(c: Conn): number {
    const id = ++this.pings;
    this.pinged.set(id, Date.now());
    this.write(c, '{"type":"ping","id":' + id + '}');
    return id;
  }

  /** Watches over the connection. */
  private beat(c: Conn, interval: number): void {
    clearTimeout(this.pulse);
    this.pulse = setTimeout(() => {
      if (c.done || c !== this.conn) return;
      const silent = Date.now() - c.heard;
      if (!c.held && silent >= 2.5 * interval) {
        this.lost(c, 1006, 'silence');
        return;
      }
      if (!c.held && silent >= interval / 2) this.sendPing(c);
      this.beat(c, interval);
    }, interval / 2);
  }

  /** The node broke the protocol. */
  private violation(c: Conn, code = 4000): void {
    this.drop(c, code);
    if (c === this.next && this.conn) this.drop(this.conn);
    this.end(code, 'protocol_error');
  }

  private enter(state: State, code?: number, reason?: string, unconfirmed?: Message[]): void {
    this.state = state;
    this.store();
    this.emit('state', { state, node: this.node, code, reason, unconfirmed });
  }

  private end(code: number, reason: string, quiet = false): void {
    if (this.state === 'ended') return;
    this.turn++;
    if (this.waiting) clearTimeout(this.waiting.timer);
    this.waiting = undefined;
    for (const t of [this.moveTimer, this.pulse, this.ackTimer, this.saveTimer]) clearTimeout(t);
    const c = this.conn;
    if (c && !quiet && this.stream && this.stream.due() !== 'no' && !c.held && !c.done) {
      this.sendAck(c, this.stream);
    }
    const saved = code === 1000 && this.o.storage ? this.save() : null;
    for (const x of [c, this.next]) if (x) this.drop(x);
    this.conn = this.next = null;
    for (const f of this.off.splice(0)) f();
    const unconfirmed = this.unconfirmedMessages();
    this.stats.lost += unconfirmed.length;
    if (this.prover && code !== 1000) this.prover.forget();
    this.enter('ended', code, reason, unconfirmed);
    if (saved) this.o.storage!.setItem(this.slot, saved);
  }
}

function assignmentOf(a: Record<string, any>): Assignment {
  if (typeof a.token !== 'string' || !a.token || !a.node || !/^wss?:\/\//.test(a.node.url)) {
    throw new UsherError('bad_answer', 'auth: no node');
  }
  return a as Assignment;
}
