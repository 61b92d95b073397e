// A Socket.IO server that echoes every message. It recovers the state of disconnected
// clients through its adapter for Redis Streams, as the Socket.IO manual shows.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [port, redis] = process.argv.slice(2);
const client = createClient({ url: `redis://${redis}` });
await client.connect();
process.on('SIGHUP', () => globalThis.gc());
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(client),
  transports: ['websocket'],
  connectionStateRecovery: { maxDisconnectionDuration: 60_000, skipMiddlewares: true },
});
io.on('connection', (socket) => {
  // Sent to the socket's own room: only messages that go through the adapter can be
  // recovered.
  socket.on('echo', (bytes) => io.to(socket.id).emit('echo', bytes));
});
http.listen(Number(port), '127.0.0.1', () => console.log('listening on', port));
