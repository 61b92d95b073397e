// The parts that the vectors test. They are bundled for tests only.
export { actionOf, Backoff } from './backoff.js';
export { createProver } from './proof.js';
export { Stream } from './stream.js';
export { decodeSlowly, decodeText, encodeSlowly, encodeText } from './utf8.js';
export { decodeMessage, encodeMessage, parseControl } from './wire.js';
