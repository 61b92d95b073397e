// The script for pages without modules: it sets the global «usher».
import { UsherError } from './http.js';
import { guest, password } from './index.js';
import { type Options, type Proofs, Session } from './session.js';

const g = globalThis as any;
const self = g.document && g.document.currentScript;

/** Loads usher-proof.min.js, from beside this script, unless the page has done so. */
const proofs = () =>
  new Promise<Proofs>((ok, no) => {
    if (g.usherProofs) return ok(g.usherProofs);
    const fail = () => no(new UsherError('no_proof', 'usher-proof.min.js'));
    if (!self) return fail();
    const script = g.document.createElement('script');
    script.src = self.src.replace(/[^/]*$/, 'usher-proof.min.js');
    script.onload = () => ok(g.usherProofs);
    script.onerror = fail;
    g.document.head.appendChild(script);
  });

g.usher = { connect: (o: Options) => new Session(o, proofs).start(), guest, password, UsherError };
