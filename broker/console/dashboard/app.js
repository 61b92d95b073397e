'use strict';
// The dashboard. It calls the private API as any other program does, with the key that
// the operator has typed. The key is stored in this tab only.

const $ = (id) => document.getElementById(id);
const storedKey = { get: () => sessionStorage.getItem('usher-key') || '', set: (k) => sessionStorage.setItem('usher-key', k), drop: () => sessionStorage.removeItem('usher-key') };
let role = '';
let stream = null; // the AbortController of the stream of events
let noticeUntil = 0; // until when the last notice stays on the page
const mayChange = () => role === 'operator' || role === 'local';
const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

// ---- the API

class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function api(method, path, body) {
  const headers = {};
  if (storedKey.get()) headers.Authorization = 'Bearer ' + storedKey.get();
  if (body) headers['Content-Type'] = 'application/json';
  const r = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
  const text = await r.text();
  const json = text ? JSON.parse(text) : null;
  if (!r.ok) throw new ApiError(r.status, (json && json.detail) || r.statusText);
  return json;
}

/** Calls f with each event, until the stream ends. */
async function events(signal, f) {
  const headers = storedKey.get() ? { Authorization: 'Bearer ' + storedKey.get() } : {};
  const r = await fetch('/v1/events', { headers, signal, cache: 'no-store' });
  if (!r.ok) throw new ApiError(r.status, 'The broker refused the stream of events.');
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

// ---- the key

async function begin() {
  let me;
  try {
    me = await api('GET', '/v1/me');
  } catch (e) {
    if (e.status === 401 || e.status === 429) return askForKey(storedKey.get() ? e.message : '');
    setStatus(e.message || 'The broker does not answer.', 'bad');
    setTimeout(begin, 2000);
    return undefined;
  }
  if (me.role === 'backend') return askForKey('A key of role backend cannot read the nodes. Use a key of role viewer or operator.');
  role = me.role;
  $('who').textContent = role === 'local' ? 'no key needed on this machine' : `${me.name}, ${role}`;
  $('leave').hidden = role === 'local';
  if ($('key-dialog').open) $('key-dialog').close();
  $('main').hidden = false;
  follow();
  return undefined;
}

function askForKey(why) {
  storedKey.drop();
  $('main').hidden = true;
  $('who').textContent = '';
  $('leave').hidden = true;
  setStatus('An API key is required.');
  $('key-error').textContent = why;
  $('key').value = '';
  if (!$('key-dialog').open) $('key-dialog').showModal();
}

$('key-dialog').addEventListener('cancel', (e) => e.preventDefault());
$('key-form').addEventListener('submit', (e) => {
  e.preventDefault();
  storedKey.set($('key').value.trim());
  begin();
});
$('leave').addEventListener('click', () => {
  if (stream) stream.abort();
  askForKey('');
});

function setStatus(text, kind) {
  if ($('state').textContent !== text) $('state').textContent = text;
  $('state').className = kind || '';
}

/** Shows the events. Opens the stream again when it breaks. */
async function follow() {
  const own = (stream = new AbortController());
  for (let wait = 500; !own.signal.aborted; wait = Math.min(wait * 2, 10000)) {
    try {
      await events(own.signal, (e) => {
        wait = 500;
        if (Date.now() > noticeUntil) setStatus('Live', 'good');
        show(e.nodes, Date.parse(e.at));
      });
    } catch (e) {
      if (own.signal.aborted) return;
      if (e.status === 401 || e.status === 403) return void askForKey(e.message);
    }
    setStatus('The broker does not answer. The numbers below are old.', 'bad');
    await new Promise((ok) => setTimeout(ok, wait));
  }
}

// ---- numbers

const chartSeconds = 600; // the time that the charts show
const chartData = { at: [], sessions: [], arrivals: [], balance: [] };
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
    chartData[name].push(value);
    if (chartData[name].length > chartSeconds) chartData[name].shift();
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
    }, [chartData.at, chartData[name]], $(id));
    charts.push({ id, name, plot });
  }
}

function updateCharts() {
  if (!charts.length) drawCharts();
  for (const c of charts) {
    c.plot.setData([chartData.at, chartData[c.name]]);
    const now = chartData[c.name][chartData[c.name].length - 1];
    $(c.id).setAttribute('aria-label', `${$(c.id).previousElementSibling.textContent} over the last ten minutes, now ${number.format(now)}`);
  }
}

addEventListener('resize', () => charts.forEach((c) => c.plot.setSize({ width: $(c.id).clientWidth, height: 140 })));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawCharts);

// ---- the table. Rows are changed in place, so that the focus and the position of a
// screen reader do not get lost.

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
    attached: element('span'), rate: element('span'), reportAge: element('span'), reach: element('span'), pool: element('span'),
    version: element('span'), button: element('button', { type: 'button' }),
  };
  r.id.textContent = id;
  const gets = cell('Gets new sessions', element('span', {}, r.gets, ' ', r.progress, r.drain));
  gets.className = 'why';
  const act = element('td', { class: 'act', 'data-name': '' }, r.button);
  r.row = element('tr', {}, element('th', { scope: 'row' }, r.id), gets, cell('Sessions', element('span', {}, r.count, r.bar)), cell('Attached', r.attached),
    cell('Arrivals', r.rate), cell('Last report', r.reportAge), cell('Reachability', r.reach), cell('Pool, region', r.pool), cell('Version', r.version), act);
  r.button.addEventListener('click', () => (r.draining ? undrain(id) : drain(id, r.live)));
  return r;
}

function updateRow(r, n, at) {
  r.live = n.live;
  r.draining = n.state === 'draining';
  const problem = !n.eligible && !r.draining && n.state !== 'full';
  setText(r.gets, n.eligible ? (n.load_penalty ? `yes, load penalty ${n.load_penalty} %` : 'yes') : n.why || n.state, n.eligible ? (n.load_penalty ? 'warn' : 'good') : problem ? 'bad' : 'warn');
  r.drain.hidden = r.progress.hidden = !n.drain;
  if (n.drain) {
    const total = Math.max(n.drain.total, n.drain.remaining, 1);
    r.drain.value = (total - n.drain.remaining) / total;
    setText(r.progress, n.drain.remaining ? `${number.format(n.drain.remaining)} remaining` : 'empty', 'soft');
    r.drain.setAttribute('aria-label', `Drain of ${n.id}: ${n.drain.remaining} of ${total} sessions remaining`);
  }
  setText(r.count, `${number.format(n.live)} of ${number.format(n.capacity)}`);
  r.bar.value = n.capacity ? n.live / n.capacity : 0;
  r.bar.setAttribute('aria-label', `${n.id} is ${Math.round(r.bar.value * 100)} percent full`);
  setText(r.attached, number.format(n.attached));
  setText(r.rate, number.format(rateOf(n, at)) + ' /s');
  setText(r.reportAge, (n.report_age_ms / 1000).toFixed(1) + ' s ago', n.report_age_ms > 3500 ? 'bad' : '');
  setText(r.reach, n.reach, { reached: 'good', untried: 'soft' }[n.reach] || 'bad');
  setText(r.pool, n.pool + (n.region ? ', ' + n.region : ''));
  setText(r.version, n.version || '–', 'soft');
  r.button.hidden = !mayChange();
  setText(r.button, r.draining ? 'Cancel drain' : 'Drain');
  r.button.setAttribute('aria-label', r.draining ? `Cancel the drain of ${n.id}` : `Drain ${n.id}`);
}

const orders = {
  id: (a, b) => (a.id < b.id ? -1 : 1),
  full: (a, b) => b.live / (b.capacity || 1) - a.live / (a.capacity || 1),
  problems: (a, b) => Number(a.eligible) - Number(b.eligible) || (a.id < b.id ? -1 : 1),
};

let latest = [[], 0];

function show(nodes, at) {
  latest = [nodes, at];
  totals(nodes, at);
  updateCharts();
  showTable();
}

function showTable() {
  const [nodes, at] = latest;
  const terms = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (n) => terms.every((w) => [n.id, n.pool, n.region, n.state, n.reach, n.why, n.version].join(' ').toLowerCase().includes(w));
  const list = nodes.filter(matches).sort(orders[$('order').value]);
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

// ---- commands of the operator

function confirmed(title, text, yes) {
  $('confirm-title').textContent = title;
  $('confirm-text').textContent = text;
  $('confirm-yes').textContent = yes;
  $('confirm').returnValue = '';
  $('confirm').showModal();
  return new Promise((ok) => $('confirm').addEventListener('close', () => ok($('confirm').returnValue === 'yes'), { once: true }));
}

/** Calls f, and shows the text, or the error of f. */
async function run(text, f) {
  noticeUntil = Date.now() + 4000;
  try {
    await f();
    setStatus(text, 'good');
  } catch (e) {
    setStatus(e.message, 'bad');
  }
}

async function drain(id, live) {
  const text = `The node moves its ${number.format(live)} sessions to other nodes, over some seconds. Its process keeps running without sessions, until you stop it or cancel the drain.`;
  if (await confirmed(`Drain ${id}?`, text, 'Drain')) run(`${id} is draining.`, () => api('PUT', `/v1/nodes/${encodeURIComponent(id)}/drain`, { keep: true }));
}

function undrain(id) {
  run(`${id} gets new sessions again.`, () => api('DELETE', `/v1/nodes/${encodeURIComponent(id)}/drain`));
}

$('find').addEventListener('submit', (e) => {
  e.preventDefault();
  find();
});

async function find() {
  const name = $('name').value.trim();
  const isSession = /^[0-9a-f]{2}\.[a-z2-7]{26}$/.test(name);
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
  const ended = s.state === 'ended';
  const li = element('li', {}, element('strong', {}, s.state), element('span', {}, `at ${s.node}`), element('code', {}, s.id),
    element('span', { class: 'soft' }, `since ${new Date(s.created).toLocaleString()}, pool ${s.pool}${s.region ? ', region ' + s.region : ''}${s.group ? ', group ' + s.group : ''}, epoch ${s.epoch}`));
  if (mayChange() && !ended) {
    const kick = element('button', { type: 'button', class: 'danger', 'aria-label': `Kick session ${s.id}` }, 'Kick');
    kick.addEventListener('click', async () => {
      if (!(await confirmed(`Kick ${s.user}?`, 'The session ends, and its client gets close code 4002 (kicked). The user can log in again.', 'Kick'))) return;
      await run(`The session of ${s.user} has ended.`, () => api('DELETE', `/v1/sessions/${s.id}`));
      find();
    });
    li.append(kick);
  }
  return li;
}

begin();
