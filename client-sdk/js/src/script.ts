// The script for pages without modules. It sets the global `usher`, with the same names as the modules.
import { UsherError } from './errors.js';
import { guest, password } from './index.js';
import type { CreateProver } from './prover.js';
import { Session } from './session.js';
import type { Options } from './types.js';

const proofFile = 'usher-proof.min.js';
const global = globalThis as any;
const currentScript = global.document && global.document.currentScript;

/** Loads usher-proof.min.js from the directory of this script, unless the page has loaded it. */
function loadProver(): Promise<CreateProver> {
  return new Promise((resolve, reject) => {
    if (global.usherCreateProver) {
      resolve(global.usherCreateProver);
      return;
    }
    const fail = () => {
      reject(new UsherError('no_proof', 'cannot load ' + proofFile + ': serve it in the directory of usher.min.js, load it before, or set key: false'));
    };
    if (!currentScript) {
      fail();
      return;
    }
    const script = global.document.createElement('script');
    script.src = currentScript.src.replace(/[^/]*$/, proofFile);
    script.onload = () => resolve(global.usherCreateProver);
    script.onerror = fail;
    global.document.head.appendChild(script);
  });
}

const connect = (options: Options) => Session.open(options, loadProver);

global.usher = { connect, guest, password, Session, UsherError };
