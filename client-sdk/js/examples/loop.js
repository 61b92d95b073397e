// A game loop, as in Phaser. Positions are volatile and sent a few times a second, actions are reliable, and received
// messages are applied between two frames.
import { connect, guest } from '@usher-broker/client';

export class Arena /* extends Phaser.Scene */ {
  async create() {
    this.inbox = [];
    this.players = new Map();
    this.me = { x: 0, y: 0 };
    this.session = await connect({
      auth: 'https://auth.example.com',
      credentials: guest('ada'),
      placement: { group: 'match-42' }, // all sessions of a match on one node
      on: {
        message: (m) => this.inbox.push(m.data),
        state: (s) => this.showState?.(s.state), // "detached": play on, the session will attach again
        reset: (r) => this.resync?.(r.unconfirmed), // unconfirmed actions may have to be repeated
      },
    });
    this.next = 0;
  }

  update(time) {
    for (const text of this.inbox.splice(0)) {
      const event = JSON.parse(text);
      if (event.t === 'at') this.players.set(event.id, event);
    }
    if (time < this.next) return;
    this.next = time + 50;
    this.session.send(JSON.stringify({ t: 'at', x: this.me.x, y: this.me.y }), { volatile: true });
  }

  fire(target) {
    if (!this.session.send(JSON.stringify({ t: 'fire', target }))) this.showState?.('too many messages are unconfirmed');
  }

  shutdown() {
    this.session.close();
  }
}
