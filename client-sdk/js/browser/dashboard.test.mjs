// The dashboard in a real browser: without a key on this machine, with keys of
// two roles elsewhere.
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
const players = [];
before(async () => {
  [browser, cluster] = await Promise.all([launch(), startCluster()]);
  for (let i = 0; i < 30; i++) players.push(await connect({ auth: cluster.auth, credentials: guest(`player-${i}`), WebSocket }));
});
after(async () => {
  players.forEach((p) => p.close());
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
  await page.waitForTimeout(3000); // for the charts to have something
  await picture(page, 'dashboard');

  // By keyboard alone: the button has the focus, and the dialog is answered.
  const drained = players[0].node;
  await page.getByRole('button', { name: `Drain ${drained}`, exact: true }).focus();
  await page.keyboard.press('Enter');
  await until('to be asked', () => page.locator('#sure[open]').count());
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  const row = rows(page).filter({ hasText: drained });
  await until('the drain to be shown to the end', async () => /draining/.test(await row.textContent()) && /empty/.test(await row.textContent()), 30_000);
  assert.match(await row.textContent(), /0 of 10,000/);
  await until('all to be elsewhere', () => players.every((p) => p.node !== drained && p.state === 'attached'));
  await picture(page, 'dashboard-drained');
  await page.getByRole('button', { name: `Take the drain of ${drained} back` }).click();
  await until('it to get sessions again', async () => /yes/.test(await row.textContent()));

  const victim = players[7];
  const over = new Promise((ok) => victim.on('state', (s) => s.state === 'ended' && ok(s)));
  await page.fill('#name', 'player-7');
  await page.click('#find button');
  await until('the session', async () => (await page.textContent('#sessions')).includes(victim.id));
  await page.getByRole('button', { name: `Kick session ${victim.id}` }).click();
  await page.click('#sure-yes');
  assert.equal((await over).code, 4002);
  await until('it to be gone', async () => /no session/.test(await page.textContent('#found')));

  assert.deepEqual(page.complaints, []);
  for (const url of page.asked) assert.ok(url.startsWith(cluster.api), `it asked ${url}`);

  const phone = await open(browser, cluster.api, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await until('three nodes', async () => (await rows(phone).count()) === 3);
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'it is wider than a phone');
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

/** Another broker of its own, with keys. */
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
  let said = '';
  broker.stderr.on('data', (b) => (said += b));
  t.after(() => {
    broker.kill('SIGKILL');
    redis.kill('SIGKILL');
    rmSync(dir, { recursive: true });
  });
  await until(`the broker to run`, () => /broker runs/.test(said));
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

test('keys: asked once, kept in the tab, and a viewer sees no buttons', { timeout: 60_000 }, async (t) => {
  const { url, key } = await brokerWithKeys(t);
  const page = await open(browser, url);
  await until('to be asked', () => page.locator('#door[open]').count());
  await page.fill('#key', 'wrong');
  await page.click('#key-form button');
  await until('to be told', async () => /not known/.test(await page.textContent('#key-error')));
  await page.fill('#key', key.viewer);
  await page.click('#key-form button');
  await until('to be in', async () => /viewer/.test(await page.textContent('#who')));
  await until('events', async () => (await page.textContent('#state')) === 'Live');
  await page.evaluate(() => show([{ id: 'n', pool: 'default', state: 'ready', capacity: 10, live: 1, attached: 1, arrived: 1, report_age_ms: 1, load_penalty: 0, reach: 'reached', eligible: true }], Date.now() + 1e6));
  assert.equal(await page.getByRole('button', { name: 'Drain n' }).count(), 0);
  assert.equal(await page.evaluate(() => Object.keys(localStorage).length), 0);
  const refused = await page.evaluate(async () => (await fetch('/v1/nodes/n/drain', { method: 'PUT', headers: { Authorization: 'Bearer ' + sessionStorage.getItem('usher-key') } })).status);
  assert.equal(refused, 403);
  await page.reload();
  await until('to be in again, unasked', async () => /viewer/.test(await page.textContent('#who')));
  await page.click('#leave');
  await page.fill('#key', key.operator);
  await page.click('#key-form button');
  await until('to be in as another', async () => /operator/.test(await page.textContent('#who')));
  await page.evaluate(() => show([{ id: 'n', pool: 'default', state: 'ready', capacity: 10, live: 1, attached: 1, arrived: 1, report_age_ms: 1, load_penalty: 0, reach: 'reached', eligible: true }], Date.now() + 1e6));
  assert.equal(await page.getByRole('button', { name: 'Drain n' }).count(), 1);
});
