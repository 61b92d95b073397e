// WebSockets that can be spoiled, as the world does.
import WebSocket from 'ws';

/** Returns a class to give to connect, and what spoils the connections made with it. */
export function spoilt() {
  const open = new Set();
  class Socket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { perMessageDeflate: false });
      open.add(this);
      this.muted = false;
      super.on('close', () => open.delete(this));
      super.on('error', () => {});
    }
    send(data) {
      if (!this.muted) super.send(data);
    }
    emit(event, ...args) {
      if (this.muted && event === 'message') return true;
      return super.emit(event, ...args);
    }
  }
  return {
    Socket,
    /** Breaks every connection, without a farewell. */
    cut: () => open.forEach((ws) => ws.terminate()),
    /** Lets nothing through any more, either way, and leaves the connections open. */
    mute: () => open.forEach((ws) => (ws.muted = true)),
    count: () => open.size,
  };
}
