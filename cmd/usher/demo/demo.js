'use strict';
// The demo page. It uses the public SDK, usher.min.js, and the application node/field.
// The buttons that act on nodes work only in `usher dev`.

const $ = (id) => document.getElementById(id);
const pick = (list) => list[Math.floor(Math.random() * list.length)];

// ---- a WebSocket with faults

const sockets = new Set();

/** The browser's WebSocket. It can be cut, or blocked, which loses all messages. */
class FaultySocket {
  constructor(url, protocols) {
    const ws = (this.ws = new WebSocket(url, protocols));
    sockets.add(this);
    ws.binaryType = 'arraybuffer';
    ws.onopen = (e) => this.usable() && this.onopen(e);
    ws.onmessage = (e) => this.usable() && this.onmessage(e);
    ws.onerror = () => {};
    ws.onclose = (e) => {
      sockets.delete(this);
      if (this.usable()) this.onclose({ code: e.code, reason: e.reason });
    };
  }
  usable() {
    return !this.blocked && !this.closed;
  }
  get bufferedAmount() {
    return this.ws.bufferedAmount;
  }
  get protocol() {
    return this.ws.protocol;
  }
  send(data) {
    if (this.usable()) this.ws.send(data);
  }
  close(code) {
    this.closed = true;
    this.ws.close(code === undefined || code === 1000 || code >= 3000 ? code : 1000);
  }
  /** Breaks the connection as the SDK sees it: code 1006, without a close frame. */
  cut() {
    if (!this.usable()) return;
    this.closed = true;
    this.ws.close();
    this.onclose({ code: 1006, reason: '' });
  }
}

// ---- the session

const names = ['Ada', 'Alan', 'Barbara', 'Edsger', 'Grace', 'Ken', 'Leslie', 'Margaret', 'Radia', 'Tony'];
const name = sessionStorage.getItem('demo-name') || `${pick(names)}-${Math.floor(Math.random() * 90) + 10}`;
sessionStorage.setItem('demo-name', name);

let session;
const me = { x: 0.2 + Math.random() * 0.6, y: 0.2 + Math.random() * 0.6 };
// The application echoes every counted message. A reloaded page continues to count.
const count = Object.assign({ sent: 0, echoed: 0, lost: 0, duplicated: 0, resets: 0 }, JSON.parse(sessionStorage.getItem('demo-count') || '{}'));

function log(text, kind) {
  const li = document.createElement('li');
  li.textContent = `${new Date().toLocaleTimeString()}  ${text}`;
  if (kind) li.className = kind;
  $('log').prepend(li);
  while ($('log').children.length > 50) $('log').lastChild.remove();
}

let lastNode = '';
const on = {
  message: (m) => receive(m.data),
  state: (s) => {
    const text = { detached: 'Disconnected. New messages wait for the next connection.', moving: `${s.node} asks its clients to leave. The session moves.` }[s.state];
    if (text) log(text);
    if (s.state === 'attached') {
      log(lastNode && lastNode !== s.node ? `Attached to another node: ${s.node}.` : `Attached to ${s.node}.`, 'good');
      lastNode = s.node;
    }
    if (s.state === 'ended') log(`The session ended: ${s.reason || s.code}. Reload the page to start another.`, 'bad');
    show();
  },
  reset: (r) => {
    // The node died, and it is unknown which messages in flight were handled. All that were not echoed count as lost.
    count.resets++;
    const inFlight = count.sent - count.echoed;
    count.lost += inFlight;
    count.echoed = count.sent;
    log(`The stream was reset (${r.reason}). Messages in flight: ${inFlight}, not confirmed: ${r.unconfirmed.length}.`, 'bad');
    // The new node may not know that this player joined. If it does, joining again changes nothing.
    if (session) join();
  },
  rtt: show,
};

function receive(text) {
  const e = JSON.parse(text);
  switch (e.t) {
    case 'field':
      players.forEach((p) => p.body.remove());
      players.clear();
      e.players.forEach((p) => addPlayer(p, p.id === e.you));
      break;
    case 'in':
      addPlayer(e.player, false);
      break;
    case 'out':
      if (players.has(e.id)) players.get(e.id).body.remove();
      players.delete(e.id);
      break;
    case 'away':
      if (players.has(e.id)) players.get(e.id).body.classList.toggle('away', e.away);
      break;
    case 'at':
      move(e.id, e.x, e.y);
      break;
    case 'say': {
      const li = document.createElement('li');
      li.textContent = `${e.name}: ${e.text}`;
      $('chat').append(li);
      $('chat').scrollTop = 1e6;
      break;
    }
    case 'count':
      if (e.n <= count.echoed) count.duplicated++;
      else {
        count.lost += e.n - count.echoed - 1;
        count.echoed = e.n;
      }
      show();
  }
}

function send(o, volatile) {
  if (!session || session.state === 'ended') return false;
  return session.send(JSON.stringify(o), { volatile });
}

function join() {
  send({ t: 'join', field: 'main', name });
  send({ t: 'at', ...me }, true);
}

async function start() {
  try {
    session = await usher.connect({
      auth: location.origin, credentials: usher.guest(name), placement: { group: 'field-main' }, storage: sessionStorage, WebSocket: FaultySocket, on,
    });
  } catch (e) {
    log(`${e.message} Retrying.`, 'bad');
    setTimeout(start, 2000);
    return;
  }
  if (session.stats.resumes) log('Page reloaded; the session goes on.', 'good');
  else {
    count.sent = count.echoed = 0;
    join();
  }
  setInterval(() => {
    if (send({ t: 'count', n: count.sent + 1 })) count.sent++;
    sessionStorage.setItem('demo-count', JSON.stringify(count));
    show();
  }, 200);
  setInterval(() => session.ping(), 2000);
}
addEventListener('pagehide', () => sessionStorage.setItem('demo-count', JSON.stringify(count)));

function show() {
  if (!session) return;
  const set = (id, text, kind) => {
    $(id).textContent = text;
    $(id).className = kind || '';
  };
  set('state', session.state, { attached: 'good', moving: 'good', ended: 'bad' }[session.state] || '');
  set('node', session.node);
  set('session', session.id);
  set('rtt', session.rtt ? `${session.rtt} ms` : '< 1 ms');
  set('sent', count.sent);
  set('received', count.echoed);
  set('lost', count.lost, count.lost ? 'bad' : 'good');
  set('duplicated', count.duplicated, count.duplicated ? 'bad' : 'good');
  set('resumes', session.stats.resumes);
  set('resets', count.resets);
}

// ---- the field

const players = new Map();

function addPlayer(p, mine) {
  if (players.has(p.id)) players.get(p.id).body.remove();
  const body = document.createElement('div');
  body.className = `player${mine ? ' me' : ''}${p.away ? ' away' : ''}`;
  const dot = document.createElement('span');
  dot.className = 'body';
  dot.style.background = `hsl(${p.hue} 70% 50%)`;
  const label = document.createElement('span');
  label.className = 'name';
  label.textContent = p.name;
  body.append(dot, label);
  $('field').append(body);
  players.set(p.id, { body });
  if (mine) Object.assign(me, { x: p.x, y: p.y });
  move(p.id, p.x, p.y);
}

function move(id, x, y) {
  const p = players.get(id);
  if (!p) return;
  p.body.style.left = `${x * 100}%`;
  p.body.style.top = `${y * 100}%`;
}

let sendScheduled = false;

/** Moves the own player, and sends the position at most every 50 ms. */
function moveTo(x, y) {
  me.x = Math.min(Math.max(x, 0), 1);
  me.y = Math.min(Math.max(y, 0), 1);
  if (session) move(session.id, me.x, me.y);
  if (sendScheduled) return;
  sendScheduled = true;
  setTimeout(() => {
    sendScheduled = false;
    send({ t: 'at', x: me.x, y: me.y }, true);
  }, 50);
}

$('field').addEventListener('pointermove', (e) => {
  const box = $('field').getBoundingClientRect();
  moveTo((e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height);
});
$('field').addEventListener('keydown', (e) => {
  const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.03], ArrowDown: [0, 0.03] }[e.key];
  if (!step) return;
  e.preventDefault();
  moveTo(me.x + step[0], me.y + step[1]);
});
$('say').addEventListener('submit', (e) => {
  e.preventDefault();
  if ($('text').value.trim()) send({ t: 'say', text: $('text').value.trim() });
  $('text').value = '';
});

// ---- faults and node commands

$('cut').addEventListener('click', () => {
  log('You cut the connection.');
  sockets.forEach((s) => s.cut());
});
$('switch').addEventListener('click', () => {
  log('You switch networks: the old connection stays half-open.');
  sockets.forEach((s) => (s.blocked = true));
  session.networkChanged();
});

async function command(method, path, text) {
  log(text);
  const r = await fetch(`/demo/nodes${path}`, { method, headers: { 'Usher-Demo': '1' } });
  if (!r.ok) log((await r.json()).detail, 'bad');
  nodes();
}
$('drain').addEventListener('click', () => command('POST', `/${session.node}/drain`, `You drain ${session.node}.`));
$('kill').addEventListener('click', () => command('POST', `/${session.node}/kill`, `You kill ${session.node}.`));
$('add').addEventListener('click', () => command('POST', '', 'You start another node.'));

async function nodes() {
  const r = await fetch('/demo/nodes', { headers: { 'Usher-Demo': '1' } }).catch(() => null);
  if (!r || !r.ok) return;
  const { nodes: list } = await r.json();
  $('nodes').replaceChildren(...list.map((n) => {
    const li = document.createElement('li');
    li.textContent = `${n.id}: ${n.state}, ${n.live} session${n.live === 1 ? '' : 's'} `;
    if (session && n.id === session.node) li.className = 'mine';
    if (n.state === 'draining') {
      const b = document.createElement('button');
      b.textContent = 'Cancel drain';
      b.addEventListener('click', () => command('POST', `/${n.id}/undrain`, `You cancel the drain of ${n.id}.`));
      li.append(b);
    }
    return li;
  }));
}
setInterval(nodes, 1000);
nodes();
start();
