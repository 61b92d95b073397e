// UTF-8 where there is no TextEncoder, as in some mini-games. Both ways are
// strict: what is not UTF-8 is not text.

declare const TextEncoder: { new (): { encode(s: string): Uint8Array } } | undefined;
declare const TextDecoder: { new (label: string, options: object): { decode(b: Uint8Array): string } } | undefined;

const encoder = typeof TextEncoder === 'undefined' ? null : new TextEncoder();
const decoder = typeof TextDecoder === 'undefined' ? null : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Returns the text as UTF-8. Half a surrogate pair becomes U+FFFD. */
export function encodeText(s: string): Uint8Array {
  return encoder ? encoder.encode(s) : encodeSlowly(s);
}

/** Returns the text, or null for bytes that are not UTF-8. */
export function decodeText(b: Uint8Array): string | null {
  try {
    return decoder ? decoder.decode(b) : decodeSlowly(b);
  } catch {
    return null;
  }
}

export function encodeSlowly(s: string): Uint8Array {
  // A whole pair stays, half a one does not.
  const whole = s.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (m) => (m[1] ? m : '\ufffd'));
  const bytes = encodeURIComponent(whole).match(/%..|./g) || [];
  return new Uint8Array(bytes.map((b) => (b[1] ? parseInt(b.slice(1), 16) : b.charCodeAt(0))));
}

export function decodeSlowly(b: Uint8Array): string {
  let s = '';
  b.forEach((x) => (s += '%' + (x < 16 ? '0' : '') + x.toString(16)));
  return decodeURIComponent(s); // which throws for all but UTF-8
}
