// Headless Chromium and its screenshots.
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const pictures = process.env.USHER_PICTURES || fileURLToPath(new URL('./pictures/', import.meta.url));
mkdirSync(pictures, { recursive: true });

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

/** Opens a page. Its errors are in page.complaints, the URLs of its requests in page.requested. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1180, height: 820 }, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.requested = [];
  page.on('pageerror', (e) => page.complaints.push(e.message));
  page.on('console', (m) => m.type() === 'error' && page.complaints.push(m.text()));
  page.on('request', (r) => page.requested.push(r.url()));
  await page.goto(url);
  return page;
}

export const picture = (page, name, options) => page.screenshot({ path: `${pictures}/${name}.png`, ...options });

/** Waits until f returns a true value, and returns it. */
export async function until(what, f, within = 20_000) {
  const end = Date.now() + within;
  for (let last; ; ) {
    if ((last = await f())) return last;
    if (Date.now() > end) throw new Error(`${what}: not within ${within} ms`);
    await new Promise((ok) => setTimeout(ok, 50));
  }
}
