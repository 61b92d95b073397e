// Keys in the IndexedDB of the browser, which can store keys that scripts cannot read.

import type { KeyPair } from './types.js';

const global = globalThis as any;

/** A key that a session has left behind, for example because its page was closed, is deleted after this time in ms. */
const maxAge = 7 * 24 * 3600_000;

/** True if there is an IndexedDB. */
export const hasKeyStore = (): boolean => !!global.indexedDB;

/** Calls use with the object store in a transaction, and returns the result of its request. */
function withStore(use: (store: any) => any): Promise<any> {
  return new Promise((resolve, reject) => {
    const opening = global.indexedDB.open('usher');
    opening.onupgradeneeded = () => opening.result.createObjectStore('keys');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const request = use(opening.result.transaction('keys', 'readwrite').objectStore('keys'));
      request.onerror = () => reject(request.error);
      request.onsuccess = () => resolve(request.result);
    };
  });
}

/** Stores the key pair, deletes old ones, and returns the name of the pair. The name begins with the time. */
export async function storeKey(pair: KeyPair): Promise<string> {
  const now = Date.now();
  for (const name of await withStore((store) => store.getAllKeys())) {
    if (parseInt(name, 10) < now - maxAge) await deleteKey(name);
  }
  const name = now + '-' + Math.random().toString(36).slice(2);
  await withStore((store) => store.put(pair, name));
  return name;
}

/** Returns the key pair with the name, or undefined. */
export const findKey = (name: string): Promise<KeyPair> => withStore((store) => store.get(name));

/** Deletes the key pair with the name. */
export const deleteKey = (name: string): Promise<void> => withStore((store) => store.delete(name));
