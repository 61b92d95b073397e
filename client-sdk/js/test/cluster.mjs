// A cluster in one process for tests: `usher dev` on free ports.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const usherBin = process.env.USHER_BIN || fileURLToPath(new URL('../../../bin/usher', import.meta.url));

export async function startCluster(...flags) {
  const p = spawn(usherBin, ['dev', '--auth=127.0.0.1:0', '--api=127.0.0.1:0', '--ops=127.0.0.1:0', '--node-port=0', ...flags]);
  let output = '';
  const found = (re) => (output.match(re) || [])[1];
  await new Promise((ok, no) => {
    const timer = setTimeout(() => no(new Error('usher dev did not start:\n' + output)), 20_000);
    const read = (b) => {
      output += b;
      if (/Ctrl-C stops it/.test(output)) {
        clearTimeout(timer);
        ok();
      }
    };
    p.stdout.on('data', read);
    p.stderr.on('data', read);
    p.on('exit', (code) => no(new Error(`usher dev ended with ${code}:\n${output}`)));
    p.on('error', no);
  });
  return {
    auth: found(/login API\s+(http:\/\/[^/\s]+)/),
    api: found(/private API\s+(http:\/\/[^/\s]+)/),
    output: () => output,
    stop: () => new Promise((ok) => {
      p.removeAllListeners('exit');
      p.on('exit', ok);
      p.kill('SIGKILL');
    }),
  };
}
