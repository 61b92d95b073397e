'use strict';
// The demo: a client of the public SDK, usher.min.js, and of the application
// node/field. What the buttons at the nodes do is a matter of «usher dev».

const $ = (id) => document.getElementById(id);
const pick = (list) => list[Math.floor(Math.random() * list.length)];

// ---- a wire that can be spoiled

const sockets = new Set();

/** The browser's WebSocket, which can be cut or fall silent. */
class Wire {
  constructor(url, protocols) {
    const ws = (this.ws = new WebSocket(url, protocols));
    sockets.add(this);
    ws.binaryType = 'arraybuffer';
    ws.onopen = (e) => this.live() && this.onopen(e);
    ws.onmessage = (e) => this.live() && this.onmessage(e);
    ws.onerror = () => {};
    ws.onclose = (e) => {
      sockets.delete(this);
      if (this.live()) this.onclose({ code: e.code, reason: e.reason });
    };
  }
  live() {
    return !this.mute && !this.gone;
  }
  get bufferedAmount() {
    return this.ws.bufferedAmount;
  }
  get protocol() {
    return this.ws.protocol;
  }
  send(data) {
    if (this.live()) this.ws.send(data);
  }
  close(code) {
    this.gone = true;
    this.ws.close(code === undefined || code === 1000 || code >= 3000 ? code : 1000);
  }
  /** Breaks: nobody says farewell. */
  cut() {
    if (!this.live()) return;
    this.gone = true;
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
// Every message that is counted comes back; a page that is loaded again goes on counting.
const count = Object.assign({ sent: 0, back: 0, lost: 0, doubled: 0, resets: 0 }, JSON.parse(sessionStorage.getItem('demo-count') || '{}'));

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
    const text = { detached: 'The connection is gone; what is sent waits.', moving: `${s.node} asks to leave; the session moves.` }[s.state];
    if (text) log(text);
    if (s.state === 'attached') {
      log(lastNode && lastNode !== s.node ? `Attached, now to ${s.node}.` : `Attached to ${s.node}.`, 'good');
      lastNode = s.node;
    }
    if (s.state === 'ended') log(`The session is over: ${s.reason || s.code}. Load the page again for another.`, 'bad');
    show();
  },
  reset: (r) => {
    // The node died: what was under way is unknown. Those that were not confirmed are counted as lost, and told.
    count.resets++;
    const due = count.sent - count.back;
    count.lost += due;
    count.back = count.sent;
    log(`The stream was lost (${r.reason}). On their way: ${due}, not confirmed: ${r.unconfirmed.length}.`, 'bad');
    // The node that died may have taken along that this player had joined. One that is known is not joined twice.
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
      e.players.forEach((p) => place(p, p.id === e.you));
      break;
    case 'in':
      place(e.player, false);
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
      if (e.n <= count.back) count.doubled++;
      else {
        count.lost += e.n - count.back - 1;
        count.back = e.n;
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

async function begin() {
  try {
    session = await usher.connect({
      auth: location.origin, credentials: usher.guest(name), placement: { group: 'field-main' }, storage: sessionStorage, WebSocket: Wire, on,
    });
  } catch (e) {
    log(`${e.message} Trying again.`, 'bad');
    setTimeout(begin, 2000);
    return;
  }
  if (session.stats.resumes) log('The page was loaded again, and the session goes on.', 'good');
  else {
    count.sent = count.back = 0;
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
  set('received', count.back);
  set('lost', count.lost, count.lost ? 'bad' : 'good');
  set('doubled', count.doubled, count.doubled ? 'bad' : 'good');
  set('resumes', session.stats.resumes);
  set('resets', count.resets);
}

// ---- the field

const players = new Map();

function place(p, mine) {
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

let due = false;
function go(x, y) {
  me.x = Math.min(Math.max(x, 0), 1);
  me.y = Math.min(Math.max(y, 0), 1);
  if (session) move(session.id, me.x, me.y);
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    send({ t: 'at', x: me.x, y: me.y }, true);
  }, 50);
}

$('field').addEventListener('pointermove', (e) => {
  const box = $('field').getBoundingClientRect();
  go((e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height);
});
$('field').addEventListener('keydown', (e) => {
  const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.03], ArrowDown: [0, 0.03] }[e.key];
  if (!step) return;
  e.preventDefault();
  go(me.x + step[0], me.y + step[1]);
});
$('say').addEventListener('submit', (e) => {
  e.preventDefault();
  if ($('text').value.trim()) send({ t: 'say', text: $('text').value.trim() });
  $('text').value = '';
});

// ---- what takes something away

$('cut').addEventListener('click', () => {
  log('You cut the wire.');
  sockets.forEach((s) => s.cut());
});
$('switch').addEventListener('click', () => {
  log('You switch the network: the old connection is left half-open.');
  sockets.forEach((s) => (s.mute = true));
  session.networkChanged();
});

async function tell(method, path, what) {
  log(what);
  const r = await fetch(`/demo/nodes${path}`, { method, headers: { 'Usher-Demo': '1' } });
  if (!r.ok) log((await r.json()).detail, 'bad');
  nodes();
}
$('drain').addEventListener('click', () => tell('POST', `/${session.node}/drain`, `You drain ${session.node}.`));
$('kill').addEventListener('click', () => tell('POST', `/${session.node}/kill`, `You kill ${session.node}.`));
$('out').addEventListener('click', () => tell('POST', '', 'You start another node.'));

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
      b.textContent = 'Take it back';
      b.addEventListener('click', () => tell('POST', `/${n.id}/undrain`, `You take the drain of ${n.id} back.`));
      li.append(b);
    }
    return li;
  }));
}
setInterval(nodes, 1000);
nodes();
begin();
