// Event handlers of a session.

/** Calls the handlers of the events E, whose keys are names and whose values are the arguments of handlers. */
export class Emitter<E> {
  private readonly handlers: { [K in keyof E]?: ((event: E[K]) => void)[] } = {};

  /** Adds a handler, and returns a function that removes it. */
  on<K extends keyof E>(name: K, handler: (event: E[K]) => void): () => void {
    const list: ((event: E[K]) => void)[] = this.handlers[name] || [];
    this.handlers[name] = list;
    list.push(handler);
    return () => {
      const index = list.indexOf(handler);
      if (index >= 0) list.splice(index, 1);
    };
  }

  /** Reports whether the event has a handler. */
  has(name: keyof E): boolean {
    return (this.handlers[name] || []).length > 0;
  }

  /**
   * Calls the handlers of the event, until outdated returns true. An exception of a handler becomes an uncaught error and
   * stops nothing else.
   */
  emit<K extends keyof E>(name: K, event: E[K], outdated = () => false): void {
    for (const handler of (this.handlers[name] || []).slice()) {
      if (outdated()) return;
      try {
        handler(event);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
