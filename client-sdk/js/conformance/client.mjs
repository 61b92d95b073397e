// The program that `usher conformance` tests: it sends 1 to 30, and waits until the session has ended.
import WebSocket from 'ws';
import { connect, guest } from '../dist/usher.mjs';

const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));
let resolveEnded;
const ended = new Promise((resolve) => (resolveEnded = resolve));
try {
  const session = await connect({
    auth: process.env.USHER_AUTH, credentials: guest(process.env.USHER_NAME), WebSocket,
    on: { message: () => {}, state: (s) => s.state === 'ended' && resolveEnded(s) },
  });
  for (let i = 1; i <= 30 && session.state !== 'ended'; ) {
    if (session.send(String(i))) i++;
    await sleep(20);
  }
} catch (e) {
  console.error(e.message); // the scenario garbage-first ends the session before it was attached
  resolveEnded();
}
await ended;
