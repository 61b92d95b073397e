// The program that «usher conformance» tests: 1 to 30, and then until the session
// is over.
import WebSocket from 'ws';
import { connect, guest } from '../dist/usher.mjs';

const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));
let over;
const ended = new Promise((ok) => (over = ok));
try {
  const session = await connect({
    auth: process.env.USHER_AUTH, credentials: guest(process.env.USHER_NAME), WebSocket,
    on: { message: () => {}, state: (s) => s.state === 'ended' && over(s) },
  });
  for (let i = 1; i <= 30 && session.state !== 'ended'; ) {
    if (session.send(String(i))) i++;
    await sleep(20);
  }
} catch (e) {
  console.error(e.message); // garbage-first ends it before it was attached
  over();
}
await ended;
