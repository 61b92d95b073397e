// The script for pages without modules: it sets the global «usher».
import { connect, guest, password } from './index.js';
import { UsherError } from './http.js';

(globalThis as any).usher = { connect, guest, password, UsherError };
