// The dashboard in a browser: without a key on this machine, and with keys of two roles.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { connect, guest } from '../dist/usher.mjs';
import { startCluster, usherBin } from '../test/cluster.mjs';
import { launch, open, picture, until } from './browser.mjs';

let browser;
let cluster;
const clients = [];
before(async () => {
  [browser, cluster] = await Promise.all([launch(), startCluster()]);
  for (let i = 0; i < 30; i++) clients.push(await connect({ auth: cluster.auth, credentials: guest(`player-${i}`), WebSocket }));
});
after(async () => {
  clients.forEach((p) => p.close());
  await browser?.close();
  await cluster?.stop();
});

const rows = (page) => page.locator('#nodes tbody tr');

test('three nodes, a drain to zero, a kick', { timeout: 120_000 }, async () => {
  const page = await open(browser, cluster.api);
  await until('three nodes', async () => (await rows(page).count()) === 3);
  await until('all sessions', async () => (await page.textContent('#t-sessions')) === '30');
  assert.equal(await page.textContent('#state'), 'Live');
  assert.equal(await page.locator('.uplot').count(), 3);
  await page.waitForTimeout(3000); // so that the charts have data
  await picture(page, 'dashboard');

  // With the keyboard only: Enter on the button, then Tab and Enter in the dialog.
  const drained = clients[0].node;
  await page.getByRole('button', { name: `Drain ${drained}`, exact: true }).focus();
  await page.keyboard.press('Enter');
  await until('the confirmation', () => page.locator('#confirm[open]').count());
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  const row = rows(page).filter({ hasText: drained });
  await until('the end of the drain', async () => /draining/.test(await row.textContent()) && /empty/.test(await row.textContent()), 30_000);
  assert.match(await row.textContent(), /0 of 10,000/);
  await until('all sessions on other nodes', () => clients.every((p) => p.node !== drained && p.state === 'attached'));
  await picture(page, 'dashboard-drained');
  await page.getByRole('button', { name: `Cancel the drain of ${drained}` }).click();
  await until('the node to be eligible', async () => /yes/.test(await row.textContent()));

  const victim = clients[7];
  const ended = new Promise((ok) => victim.on('state', (s) => s.state === 'ended' && ok(s)));
  await page.fill('#name', 'player-7');
  await page.click('#find button');
  await until('the session', async () => (await page.textContent('#sessions')).includes(victim.id));
  await page.getByRole('button', { name: `Kick session ${victim.id}` }).click();
  await page.click('#confirm-yes');
  assert.equal((await ended).code, 4002);
  await until('an empty list', async () => /no session/.test(await page.textContent('#found')));

  assert.deepEqual(page.complaints, []);
  for (const url of page.requested) assert.ok(url.startsWith(cluster.api), `the page requested ${url}`);

  const phone = await open(browser, cluster.api, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await until('three nodes', async () => (await rows(phone).count()) === 3);
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page is wider than a phone');
  await phone.waitForTimeout(2000);
  await picture(phone, 'dashboard-phone', { fullPage: true });
});

test('two hundred nodes', { timeout: 60_000 }, async () => {
  const page = await open(browser, cluster.api);
  await until('the nodes', async () => (await rows(page).count()) === 3);
  const took = await page.evaluate(() => {
    const nodes = Array.from({ length: 200 }, (_, i) => ({
      id: `many-${i}`, pool: 'default', region: 'eu', state: 'ready', capacity: 10000, live: i * 40, attached: i * 40, arrived: i * 50, pending: 0,
      estimate: i * 40, report_age_ms: 300, load_penalty: 0, reach: 'reached', eligible: true, version: 'v1',
    }));
    show(nodes, Date.now());
    const began = performance.now();
    for (let k = 1; k <= 10; k++) show(nodes.map((n) => ({ ...n, live: n.live + k })), Date.now() + k * 1000);
    return (performance.now() - began) / 10;
  });
  console.log(`an event of 200 nodes takes ${took.toFixed(1)} ms to show`);
  assert.ok(took < 500, `${took} ms`);
});

/** Starts a broker that requires API keys. */
async function brokerWithKeys(t) {
  const dir = mkdtempSync(join(tmpdir(), 'usher-'));
  const key = {};
  let lines = '';
  for (const role of ['viewer', 'operator']) {
    const out = execFileSync(usherBin, ['keys', 'api', role, `the-${role}`]).toString();
    lines += out.split('\n').find((l) => l.includes(`the-${role}`) && l.includes(role)) + '\n';
    key[role] = out.match(/usher_[A-Za-z0-9_-]+|[A-Za-z0-9_-]{40,}/)[0];
  }
  writeFileSync(join(dir, 'keys'), lines, { mode: 0o600 });
  const redisPort = await freePort();
  const redis = spawn('redis-server', ['--port', String(redisPort), '--save', '', '--bind', '127.0.0.1']);
  const api = `127.0.0.1:${await freePort()}`;
  const broker = spawn(usherBin, ['broker', `--listen=${api}`, '--gossip=127.0.0.1:0', `--redis=redis://127.0.0.1:${redisPort}/0`, `--api-keys=${join(dir, 'keys')}`]);
  let log = '';
  broker.stderr.on('data', (b) => (log += b));
  t.after(() => {
    broker.kill('SIGKILL');
    redis.kill('SIGKILL');
    rmSync(dir, { recursive: true });
  });
  await until('the start of the broker', () => /broker runs/.test(log));
  return { url: `http://${api}`, key };
}

function freePort() {
  return new Promise((ok) => {
    const s = createServer().listen(0, '127.0.0.1', () => {
      const { port } = s.address();
      s.close(() => ok(port));
    });
  });
}

test('keys: asked for once, kept in the tab, and a viewer sees no buttons', { timeout: 60_000 }, async (t) => {
  const { url, key } = await brokerWithKeys(t);
  const page = await open(browser, url);
  await until('the key dialog', () => page.locator('#key-dialog[open]').count());
  await page.fill('#key', 'wrong');
  await page.click('#key-form button');
  await until('the error', async () => /not known/.test(await page.textContent('#key-error')));
  await page.fill('#key', key.viewer);
  await page.click('#key-form button');
  await until('the dashboard of a viewer', async () => /viewer/.test(await page.textContent('#who')));
  await until('events', async () => (await page.textContent('#state')) === 'Live');
  await page.evaluate(() => show([{ id: 'n', pool: 'default', state: 'ready', capacity: 10, live: 1, attached: 1, arrived: 1, report_age_ms: 1, load_penalty: 0, reach: 'reached', eligible: true }], Date.now() + 1e6));
  assert.equal(await page.getByRole('button', { name: 'Drain n' }).count(), 0);
  assert.equal(await page.evaluate(() => Object.keys(localStorage).length), 0);
  const refused = await page.evaluate(async () => (await fetch('/v1/nodes/n/drain', { method: 'PUT', headers: { Authorization: 'Bearer ' + sessionStorage.getItem('usher-key') } })).status);
  assert.equal(refused, 403);
  await page.reload();
  await until('the dashboard after a reload, without the dialog', async () => /viewer/.test(await page.textContent('#who')));
  await page.click('#leave');
  await page.fill('#key', key.operator);
  await page.click('#key-form button');
  await until('the dashboard of an operator', async () => /operator/.test(await page.textContent('#who')));
  await page.evaluate(() => show([{ id: 'n', pool: 'default', state: 'ready', capacity: 10, live: 1, attached: 1, arrived: 1, report_age_ms: 1, load_penalty: 0, reach: 'reached', eligible: true }], Date.now() + 1e6));
  assert.equal(await page.getByRole('button', { name: 'Drain n' }).count(), 1);
});
