// A Socket.IO server that sends every message back and recovers the state of who
// was cut, through its adapter for Redis Streams, as its manual shows.
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
  // To everybody in the socket's own room: only what is sent through the adapter
  // can be recovered.
  socket.on('echo', (bytes) => io.to(socket.id).emit('echo', bytes));
});
http.listen(Number(port), '127.0.0.1', () => console.log('listens at', port));
