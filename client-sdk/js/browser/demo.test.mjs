// The demo in a browser: cut, change of network, reload, drain, kill.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startCluster } from '../test/cluster.mjs';
import { launch, open, picture, until } from './browser.mjs';

let browser;
let cluster;
before(async () => ([browser, cluster] = await Promise.all([launch(), startCluster('--ping-interval=2s')])));
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

const text = (page, id) => page.textContent('#' + id);
const number = async (page, id) => Number(await text(page, id));

/** Waits until messages are echoed that were sent from now on, and checks that none was lost or duplicated. */
async function checkDelivery(page) {
  const from = await number(page, 'sent');
  await until('echoed messages', async () => (await number(page, 'received')) > from);
  assert.deepEqual([await text(page, 'lost'), await text(page, 'duplicated'), await text(page, 'resets')], ['0', '0', '0']);
}

test('the demo', { timeout: 180_000 }, async () => {
  const ada = await open(browser, cluster.auth + '/demo/');
  const bob = await open(browser, cluster.auth + '/demo/');
  for (const page of [ada, bob]) await until('the page to be attached', async () => (await text(page, 'state')) === 'attached');
  const frames = await ada.evaluate(() => [...sockets].map((s) => s.protocol));
  assert.deepEqual(frames, ['usher.v1']);

  // The two players are on one node. Each sees the other's position and chat.
  for (const page of [ada, bob]) await until('two players', async () => (await page.locator('.player').count()) === 2);
  assert.equal(await text(ada, 'node'), await text(bob, 'node'));
  await bob.fill('#text', 'hello');
  await bob.click('#say button');
  await until('the chat message', async () => (await text(ada, 'chat')).includes(': hello'));
  await bob.hover('#field', { position: { x: 400, y: 200 } });
  const there = await bob.evaluate(() => document.querySelector('.me').style.left);
  await until('the position of the other player', () => ada.evaluate((left) => [...document.querySelectorAll('.player:not(.me)')].some((p) => p.style.left === left), there));
  await checkDelivery(ada);

  await ada.click('#cut');
  await until('a resume', async () => (await number(ada, 'resumes')) === 1);
  await checkDelivery(ada);

  await ada.click('#switch');
  await until('another resume', async () => (await number(ada, 'resumes')) === 2);
  await checkDelivery(ada);

  const session = await text(ada, 'session');
  await ada.reload();
  await until('the page to be attached again', async () => (await text(ada, 'state')) === 'attached');
  assert.equal(await text(ada, 'session'), session);
  await until('the log entry about the reload', async () => (await text(ada, 'log')).includes('session goes on'));
  await checkDelivery(ada);
  await until('two players', async () => (await ada.locator('.player').count()) === 2);
  await picture(ada, 'demo');

  // Both sessions move without a loss.
  const first = await text(ada, 'node');
  await ada.click('#drain');
  for (const page of [ada, bob]) {
    await until('a move', async () => (await text(page, 'node')) !== first);
    await checkDelivery(page);
  }
  assert.equal(await text(ada, 'node'), await text(bob, 'node'));
  for (const page of [ada, bob]) await until('two players', async () => (await page.locator('.player').count()) === 2);

  // The node dies: both pages report a reset, and meet on another node.
  const second = await text(ada, 'node');
  await ada.click('#kill');
  for (const page of [ada, bob]) {
    await until('a reset', async () => (await number(page, 'resets')) === 1);
    await until('another node', async () => (await text(page, 'state')) === 'attached' && (await text(page, 'node')) !== second);
    assert.match(await text(page, 'log'), /node_lost/);
    assert.equal(await text(page, 'duplicated'), '0');
  }
  for (const page of [ada, bob]) await until('two players', async () => (await page.locator('.player').count()) === 2);

  await ada.click('#add');
  await until('a fourth node', async () => (await text(ada, 'nodes')).includes('node-4: ready'));
  await picture(ada, 'demo-after');

  // Only the killed node's refused connections may be reported as errors.
  for (const page of [ada, bob]) assert.deepEqual(page.complaints.filter((c) => !/WebSocket|ERR_CONNECTION/.test(c)), []);
});

test('a page of another origin cannot kill a node', async () => {
  const r = await fetch(`${cluster.auth}/demo/nodes/node-2/kill`, { method: 'POST' });
  assert.equal(r.status, 403);
  const preflight = await fetch(`${cluster.auth}/demo/nodes/node-2/kill`, {
    method: 'OPTIONS', headers: { Origin: 'http://evil.example', 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'usher-demo' },
  });
  assert.equal(preflight.headers.get('access-control-allow-headers')?.toLowerCase().includes('usher-demo') ?? false, false);
});
