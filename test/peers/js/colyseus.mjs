// A Colyseus server with rooms of 50 clients. It echoes every message, and lets a
// disconnected client reconnect for a minute, as the Colyseus manual shows. It
// synchronizes no state.
import { Room, Server } from '@colyseus/core';
import { WebSocketTransport } from '@colyseus/ws-transport';
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket; // Colyseus reads constants from it; Node has it since version 22

class Echo extends Room {
  maxClients = 50;
  patchRate = null;
  maxMessagesPerSecond = Infinity;

  onCreate() {
    this.onMessageBytes(1, (client, bytes) => client.sendBytes(1, bytes));
  }

  onDrop(client) {
    this.allowReconnection(client, 60);
  }
}

const port = Number(process.argv[2]);
process.on('SIGHUP', () => globalThis.gc());
const server = new Server({ greet: false, transport: new WebSocketTransport({ pingInterval: 15000 }) });
server.define('echo', Echo);
await server.listen(port, '127.0.0.1');
console.log('listening on', port);
