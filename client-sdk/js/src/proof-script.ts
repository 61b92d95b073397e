// The part of the script that proves possession of a key: usher.min.js loads it.
import { proofs } from './proof.js';

(globalThis as any).usherProofs = proofs;
