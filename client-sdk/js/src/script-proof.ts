// The part of the script that makes proofs of possession. usher.min.js loads it.
import { createProver } from './proof.js';

(globalThis as any).usherCreateProver = createProver;
