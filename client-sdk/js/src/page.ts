// Events of a browser page that concern a session.

/**
 * Calls wake when the network is back or the page becomes visible, and save when the page is hidden or closed. Returns
 * functions that remove the listeners. Outside a page (Node, game engines) it does nothing: there the application calls
 * Session.networkChanged.
 */
export function listenToPage(wake: () => void, save: () => void): (() => void)[] {
  const window = globalThis as any;
  const document = window.addEventListener && window.document;
  if (!document) return [];
  const removers: (() => void)[] = [];
  const listen = (target: any, name: string, listener: () => void) => {
    target.addEventListener(name, listener);
    removers.push(() => target.removeEventListener(name, listener));
  };
  listen(window, 'online', wake);
  listen(window, 'pagehide', save);
  listen(document, 'visibilitychange', () => (document.hidden ? save() : wake()));
  return removers;
}
