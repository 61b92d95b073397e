// WebSockets with faults like those of real networks.
import WebSocket from 'ws';

/** Returns a WebSocket class for connect, and functions that inject faults into its connections. */
export function faultyWebSockets() {
  const open = new Set();
  class Socket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { perMessageDeflate: false });
      open.add(this);
      this.blackholed = false;
      super.on('close', () => open.delete(this));
      super.on('error', () => {});
    }
    send(data) {
      if (!this.blackholed) super.send(data);
    }
    emit(event, ...args) {
      if (this.blackholed && event === 'message') return true;
      return super.emit(event, ...args);
    }
  }
  return {
    Socket,
    /** Breaks every connection without a close frame. */
    cut: () => open.forEach((ws) => ws.terminate()),
    /** Drops all data in both directions, and leaves the connections open. */
    blackhole: () => open.forEach((ws) => (ws.blackholed = true)),
    count: () => open.size,
  };
}
