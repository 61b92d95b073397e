// Node 20 has no WebSocket: npm install ws
import { connect, guest } from '@usher-broker/client';
import WebSocket from 'ws';

const session = await connect({
  auth: process.env.USHER_AUTH || 'http://127.0.0.1:8080',
  credentials: guest('ada'),
  WebSocket,
  on: {
    message: (m) => console.log('<', m.data),
    state: (s) => console.log(s.state, s.node, s.reason || ''),
  },
});
for (let i = 1; i <= 3; i++) session.send('hello ' + i);
setTimeout(() => session.logout(), 500);
