// The journey of a client, for k6 (https://grafana.com/docs/k6): log in, attach, send
// a few messages that the application echoes, acknowledge, disconnect.
//
//   k6 run -e AUTH=http://127.0.0.1:8080 -e RATE=50 -e DURATION=30s deploy/k6/journey.js
//
// Journeys start at a constant rate, even if earlier ones are slow or fail. The nodes
// must run --app=echo. Run it only against your own cluster.
import { check } from 'k6';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';
import ws from 'k6/ws';

const auth = __ENV.AUTH || 'http://127.0.0.1:8080';
const messages = Number(__ENV.MESSAGES || 5);

export const options = {
  scenarios: {
    journeys: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 20),
      timeUnit: '1s',
      duration: __ENV.DURATION || '30s',
      preAllocatedVUs: Number(__ENV.VUS || 100),
      maxVUs: Number(__ENV.MAX_VUS || 2000),
    },
  },
  thresholds: {
    checks: ['rate>0.999'],
    usher_lost: ['count==0'],
  },
};

const attach = new Trend('usher_attach', true); // from the handshake to the welcome
const echo = new Trend('usher_echo', true); // round-trip time of one message
const lost = new Counter('usher_lost'); // messages that were not echoed

// message returns a reliable binary message of 128 bytes: the kind byte 0, and a number.
function message(n) {
  const b = new Uint8Array(128);
  new DataView(b.buffer).setUint32(1, n);
  return b.buffer;
}

export default function journey() {
  const user = `k6-${__VU}-${__ITER}`;
  const login = http.post(`${auth}/v1/login`, JSON.stringify({ method: 'guest', credentials: { name: user } }), {
    headers: { 'Content-Type': 'application/json' },
    tags: { name: 'login' },
  });
  if (!check(login, { 'logged in': (r) => r.status === 200 })) return;
  const { token, node } = login.json();

  const start = Date.now();
  let sent = 0;
  let received = 0;
  let sentAt = 0;
  const next = (socket) => {
    sentAt = Date.now();
    sent++;
    socket.sendBinary(message(sent));
  };
  const headers = { Authorization: `Bearer ${token}`, 'Sec-WebSocket-Protocol': 'usher.v1' };
  const handshake = ws.connect(node.url, { headers, tags: { name: 'attach' } }, (socket) => {
    socket.on('message', (text) => {
      const control = JSON.parse(text);
      if (control.type !== 'welcome') return; // an acknowledgement
      attach.add(Date.now() - start);
      next(socket);
    });
    socket.on('binaryMessage', (data) => {
      echo.add(Date.now() - sentAt);
      received++;
      check(data, { 'echo is what was sent': (d) => new DataView(d).getUint32(1) === received });
      if (received < messages) return next(socket);
      socket.send(JSON.stringify({ type: 'ack', received }));
      socket.close(1000);
    });
    socket.setTimeout(() => socket.close(1000), 10000);
  });
  check(handshake, { attached: (r) => r && r.status === 101 });
  lost.add(sent - received);
}
