// UTF-8, also where there is no TextEncoder, as in some mini-games. Decoding is strict: bytes that are not UTF-8 are refused.

declare const TextEncoder: { new (): { encode(s: string): Uint8Array } } | undefined;
declare const TextDecoder: { new (label: string, options: object): { decode(b: Uint8Array): string } } | undefined;

const encoder = typeof TextEncoder === 'undefined' ? null : new TextEncoder();
const decoder = typeof TextDecoder === 'undefined' ? null : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Returns the text as UTF-8. An unpaired surrogate becomes U+FFFD. */
export function encodeText(text: string): Uint8Array {
  return encoder ? encoder.encode(text) : encodeSlowly(text);
}

/** Returns the text, or null if the bytes are not UTF-8. */
export function decodeText(bytes: Uint8Array): string | null {
  try {
    return decoder ? decoder.decode(bytes) : decodeSlowly(bytes);
  } catch {
    return null;
  }
}

/** Does the same as encodeText, without TextEncoder. */
export function encodeSlowly(text: string): Uint8Array {
  // The expression matches a surrogate pair, which stays, or an unpaired surrogate, which is replaced.
  const valid = text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (m) => (m.length === 2 ? m : '\ufffd'));
  const bytes = encodeURIComponent(valid).match(/%..|./g) || [];
  return new Uint8Array(bytes.map((b) => (b.length === 3 ? parseInt(b.slice(1), 16) : b.charCodeAt(0))));
}

/** Does the same as decodeText, without TextDecoder. Throws if the bytes are not UTF-8. */
export function decodeSlowly(bytes: Uint8Array): string {
  let escaped = '';
  bytes.forEach((b) => (escaped += '%' + (b < 16 ? '0' : '') + b.toString(16)));
  return decodeURIComponent(escaped);
}
