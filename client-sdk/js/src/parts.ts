// The parts that the vectors test, bundled for tests alone.
export { actionOf, Retry } from './retry.js';
export { proofs } from './proof.js';
export { Stream } from './stream.js';
export { decodeSlowly, decodeText, encodeSlowly, encodeText } from './utf8.js';
export { decodeMessage, encodeMessage, parseControl } from './wire.js';
