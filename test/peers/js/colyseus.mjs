// A Colyseus server: rooms of 50 that send every message back and hold the seat of
// who was cut for a minute, as its manual shows. No state is synchronized.
import { Room, Server } from '@colyseus/core';
import { WebSocketTransport } from '@colyseus/ws-transport';
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket; // Colyseus looks for its constants there; Node has it from 22 on

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
console.log('listens at', port);
