'use strict';
// The dashboard. It asks the private API as any program does, with the key that
// the operator typed; the key stays in this tab.

const $ = (id) => document.getElementById(id);
const keep = { get: () => sessionStorage.getItem('usher-key') || '', set: (k) => sessionStorage.setItem('usher-key', k), drop: () => sessionStorage.removeItem('usher-key') };
let role = '';
let stream = null; // what ends it
let notice = 0; // until when what was told stays
const may = () => role === 'operator' || role === 'local';
const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

// ---- the API

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function api(method, path, body) {
  const headers = {};
  if (keep.get()) headers.Authorization = 'Bearer ' + keep.get();
  if (body) headers['Content-Type'] = 'application/json';
  const r = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
  const text = await r.text();
  const json = text ? JSON.parse(text) : null;
  if (!r.ok) throw new Refused(r.status, (json && json.detail) || r.statusText);
  return json;
}

/** Reads the events until the stream ends. */
async function events(signal, f) {
  const headers = keep.get() ? { Authorization: 'Bearer ' + keep.get() } : {};
  const r = await fetch('/v1/events', { headers, signal, cache: 'no-store' });
  if (!r.ok) throw new Refused(r.status, 'The stream of events was refused.');
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const data = text.slice(0, end).split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)).join('\n');
      text = text.slice(end + 2);
      if (data) f(JSON.parse(data));
    }
  }
}

// ---- in and out

async function begin() {
  let me;
  try {
    me = await api('GET', '/v1/me');
  } catch (e) {
    if (e.status === 401 || e.status === 429) return ask(keep.get() ? e.message : '');
    say(e.message || 'The broker does not answer.', 'bad');
    setTimeout(begin, 2000);
    return undefined;
  }
  if (me.role === 'backend') return ask('A key of role backend does not see the nodes; viewer and operator do.');
  role = me.role;
  $('who').textContent = role === 'local' ? 'no key needed on this machine' : `${me.name}, ${role}`;
  $('leave').hidden = role === 'local';
  if ($('door').open) $('door').close();
  $('main').hidden = false;
  follow();
  return undefined;
}

function ask(why) {
  keep.drop();
  $('main').hidden = true;
  $('who').textContent = '';
  $('leave').hidden = true;
  say('An API key is needed.');
  $('key-error').textContent = why;
  $('key').value = '';
  if (!$('door').open) $('door').showModal();
}

$('door').addEventListener('cancel', (e) => e.preventDefault());
$('key-form').addEventListener('submit', (e) => {
  e.preventDefault();
  keep.set($('key').value.trim());
  begin();
});
$('leave').addEventListener('click', () => {
  if (stream) stream.abort();
  ask('');
});

function say(text, kind) {
  if ($('state').textContent !== text) $('state').textContent = text;
  $('state').className = kind || '';
}

/** Follows the events, and begins again when the stream breaks. */
async function follow() {
  const mine = (stream = new AbortController());
  for (let wait = 500; !mine.signal.aborted; wait = Math.min(wait * 2, 10000)) {
    try {
      await events(mine.signal, (e) => {
        wait = 500;
        if (Date.now() > notice) say('Live', 'good');
        show(e.nodes, Date.parse(e.at));
      });
    } catch (e) {
      if (mine.signal.aborted) return;
      if (e.status === 401 || e.status === 403) return void ask(e.message);
    }
    say('The broker does not answer; what is shown is old.', 'bad');
    await new Promise((ok) => setTimeout(ok, wait));
  }
}

// ---- numbers

const kept = 600; // seconds of the charts
const past = { at: [], sessions: [], arrivals: [], balance: [] };
const arrived = new Map(); // by node: count and time of the last event

function rateOf(n, at) {
  const last = arrived.get(n.id);
  if (last && at <= last.at) return last.rate;
  const rate = last && n.arrived >= last.arrived ? ((n.arrived - last.arrived) * 1000) / (at - last.at) : 0;
  arrived.set(n.id, { arrived: n.arrived, at, rate });
  return rate;
}

function totals(nodes, at) {
  const sum = (f) => nodes.reduce((t, n) => t + f(n), 0);
  const capacity = sum((n) => n.capacity);
  const live = sum((n) => n.live);
  const rate = sum((n) => rateOf(n, at));
  const part = nodes.filter((n) => n.capacity > 0 && n.state !== 'draining');
  const mean = part.reduce((t, n) => t + n.live, 0) / Math.max(part.reduce((t, n) => t + n.capacity, 0), 1);
  const most = Math.max(0, ...part.map((n) => n.live / n.capacity));
  const balance = mean > 0 ? most / mean : 1;
  $('t-sessions').textContent = number.format(live);
  $('t-attached').textContent = number.format(sum((n) => n.attached));
  $('t-full').textContent = capacity ? number.format((live * 100) / capacity) + ' %' : '–';
  $('t-arrivals').textContent = number.format(rate) + ' /s';
  $('t-balance').textContent = balance.toFixed(2);
  $('t-nodes').textContent = `${nodes.filter((n) => n.eligible).length} of ${nodes.length}`;
  for (const [name, value] of [['at', at / 1000], ['sessions', live], ['arrivals', rate], ['balance', balance]]) {
    past[name].push(value);
    if (past[name].length > kept) past[name].shift();
  }
}

// ---- charts

const charts = [];

function drawCharts() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  for (const c of charts.splice(0)) c.plot.destroy();
  for (const [id, name, floor] of [['chart-sessions', 'sessions', 0], ['chart-arrivals', 'arrivals', 0], ['chart-balance', 'balance', 1]]) {
    const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
    const plot = new uPlot({
      width: $(id).clientWidth || 300, height: 140, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
      scales: { y: { range: (_, low, high) => [Math.min(floor, low), Math.max(high * 1.05, floor + (floor ? 0.1 : 1))] } },
      axes: [{ ...axis, space: 60 }, { ...axis, size: 48, values: (_, list) => list.map((v) => (floor ? v.toFixed(2) : number.format(v))) }],
      series: [{}, { stroke: colour('--bar'), width: 1.5, fill: colour('--bar') + '22', points: { show: false } }],
    }, [past.at, past[name]], $(id));
    charts.push({ id, name, plot });
  }
}

function feedCharts() {
  if (!charts.length) drawCharts();
  for (const c of charts) {
    c.plot.setData([past.at, past[c.name]]);
    const now = past[c.name][past[c.name].length - 1];
    $(c.id).setAttribute('aria-label', `${$(c.id).previousElementSibling.textContent} over the last ten minutes, now ${number.format(now)}`);
  }
}

addEventListener('resize', () => charts.forEach((c) => c.plot.setSize({ width: $(c.id).clientWidth, height: 140 })));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawCharts);

// ---- the table. Rows are kept and changed in place: what is read aloud, or has
// the focus, stays.

const rows = new Map();

function element(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

function setText(e, text, kind) {
  if (e.textContent !== text) e.textContent = text;
  if (e.className !== (kind || '')) e.className = kind || '';
}

function newRow(id) {
  const cell = (name, ...children) => element('td', { 'data-name': name }, ...children);
  const r = {
    id: element('span'), gets: element('span'), drain: element('progress', { class: 'drain', max: 1, value: 0 }), progress: element('span'),
    count: element('span'), bar: element('meter', { class: 'bar', min: 0, max: 1, low: 0.75, high: 0.92, optimum: 0 }),
    attached: element('span'), rate: element('span'), heard: element('span'), reach: element('span'), place: element('span'),
    version: element('span'), button: element('button', { type: 'button' }),
  };
  r.id.textContent = id;
  const gets = cell('Gets sessions', element('span', {}, r.gets, ' ', r.progress, r.drain));
  gets.className = 'why';
  const act = element('td', { class: 'act', 'data-name': '' }, r.button);
  r.row = element('tr', {}, element('th', { scope: 'row' }, r.id), gets, cell('Sessions', element('span', {}, r.count, r.bar)), cell('Attached', r.attached),
    cell('Arrivals', r.rate), cell('Heard', r.heard), cell('Address', r.reach), cell('Pool, region', r.place), cell('Version', r.version), act);
  r.button.addEventListener('click', () => (r.draining ? undrain(id) : drain(id, r.live)));
  return r;
}

function updateRow(r, n, at) {
  r.live = n.live;
  r.draining = n.state === 'draining';
  const trouble = !n.eligible && !r.draining && n.state !== 'full';
  setText(r.gets, n.eligible ? (n.load_penalty ? `yes, ${n.load_penalty} % fewer` : 'yes') : n.why || n.state, n.eligible ? (n.load_penalty ? 'warn' : 'good') : trouble ? 'bad' : 'warn');
  r.drain.hidden = r.progress.hidden = !n.drain;
  if (n.drain) {
    const total = Math.max(n.drain.total, n.drain.remaining, 1);
    r.drain.value = (total - n.drain.remaining) / total;
    setText(r.progress, n.drain.remaining ? `${number.format(n.drain.remaining)} to go` : 'empty', 'soft');
    r.drain.setAttribute('aria-label', `Drain of ${n.id}: ${n.drain.remaining} of ${total} sessions to go`);
  }
  setText(r.count, `${number.format(n.live)} of ${number.format(n.capacity)}`);
  r.bar.value = n.capacity ? n.live / n.capacity : 0;
  r.bar.setAttribute('aria-label', `${n.id} is ${Math.round(r.bar.value * 100)} percent full`);
  setText(r.attached, number.format(n.attached));
  setText(r.rate, number.format(rateOf(n, at)) + ' /s');
  setText(r.heard, (n.report_age_ms / 1000).toFixed(1) + ' s ago', n.report_age_ms > 3500 ? 'bad' : '');
  setText(r.reach, n.reach, { reached: 'good', untried: 'soft' }[n.reach] || 'bad');
  setText(r.place, n.pool + (n.region ? ', ' + n.region : ''));
  setText(r.version, n.version || '–', 'soft');
  r.button.hidden = !may();
  setText(r.button, r.draining ? 'Take the drain back' : 'Drain');
  r.button.setAttribute('aria-label', r.draining ? `Take the drain of ${n.id} back` : `Drain ${n.id}`);
}

const orders = {
  id: (a, b) => (a.id < b.id ? -1 : 1),
  full: (a, b) => b.live / (b.capacity || 1) - a.live / (a.capacity || 1),
  trouble: (a, b) => Number(a.eligible) - Number(b.eligible) || (a.id < b.id ? -1 : 1),
};

let latest = [[], 0];

function show(nodes, at) {
  latest = [nodes, at];
  totals(nodes, at);
  feedCharts();
  showTable();
}

function showTable() {
  const [nodes, at] = latest;
  const words = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = (n) => words.every((w) => [n.id, n.pool, n.region, n.state, n.reach, n.why, n.version].join(' ').toLowerCase().includes(w));
  const list = nodes.filter(wanted).sort(orders[$('order').value]);
  const body = $('nodes').tBodies[0];
  const there = new Set();
  list.forEach((n, i) => {
    there.add(n.id);
    let r = rows.get(n.id);
    if (!r) rows.set(n.id, (r = newRow(n.id)));
    updateRow(r, n, at);
    if (body.rows[i] !== r.row) body.insertBefore(r.row, body.rows[i] || null);
  });
  for (const [id, r] of rows) {
    if (!there.has(id)) {
      r.row.remove();
      rows.delete(id);
    }
  }
  $('none').hidden = nodes.length > 0;
}

$('filter').addEventListener('input', showTable);
$('order').addEventListener('change', showTable);

// ---- what an operator does

function sure(title, text, yes) {
  $('sure-title').textContent = title;
  $('sure-text').textContent = text;
  $('sure-yes').textContent = yes;
  $('sure').returnValue = '';
  $('sure').showModal();
  return new Promise((ok) => $('sure').addEventListener('close', () => ok($('sure').returnValue === 'yes'), { once: true }));
}

async function tell(what, f) {
  notice = Date.now() + 4000;
  try {
    await f();
    say(what, 'good');
  } catch (e) {
    say(e.message, 'bad');
  }
}

async function drain(id, live) {
  const text = `${number.format(live)} sessions are asked to go elsewhere, over some seconds. The node's process stays, empty, until it is ended or the drain is taken back.`;
  if (await sure(`Drain ${id}?`, text, 'Drain')) tell(`${id} gives its sessions away.`, () => api('PUT', `/v1/nodes/${encodeURIComponent(id)}/drain`, { keep: true }));
}

function undrain(id) {
  tell(`${id} is given sessions again.`, () => api('DELETE', `/v1/nodes/${encodeURIComponent(id)}/drain`));
}

$('find').addEventListener('submit', (e) => {
  e.preventDefault();
  find();
});

async function find() {
  const name = $('name').value.trim();
  const isSession = /^[0-9a-f]{8}\.[a-z2-7]{26}$/.test(name);
  try {
    const list = isSession ? [await api('GET', `/v1/sessions/${name}`)] : (await api('GET', `/v1/users/${encodeURIComponent(name)}/sessions`)).sessions;
    $('found').textContent = list.length ? `${list.length} session${list.length > 1 ? 's' : ''} of ${list[0].user}` : `${name} has no session.`;
    $('found').className = '';
    $('sessions').replaceChildren(...list.map(showSession));
  } catch (err) {
    $('found').textContent = err.message;
    $('found').className = 'bad';
    $('sessions').replaceChildren();
  }
}

function showSession(s) {
  const over = s.state === 'ended';
  const li = element('li', {}, element('strong', {}, s.state), element('span', {}, `at ${s.node}`), element('code', {}, s.id),
    element('span', { class: 'soft' }, `since ${new Date(s.created).toLocaleString()}, pool ${s.pool}${s.region ? ', region ' + s.region : ''}${s.group ? ', group ' + s.group : ''}, move ${s.epoch}`));
  if (may() && !over) {
    const kick = element('button', { type: 'button', class: 'danger', 'aria-label': `Kick session ${s.id}` }, 'Kick');
    kick.addEventListener('click', async () => {
      if (!(await sure(`Kick ${s.user}?`, `The session ends, and its client is told that it was thrown out. It may log in again.`, 'Kick'))) return;
      await tell(`${s.user} was thrown out.`, () => api('DELETE', `/v1/sessions/${s.id}`));
      find();
    });
    li.append(kick);
  }
  return li;
}

begin();
