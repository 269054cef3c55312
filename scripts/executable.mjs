// tsc writes files that nobody may execute, and npx links the command but once.
import { chmodSync } from 'node:fs';

chmodSync(new URL('../dist/src/cli/main.js', import.meta.url), 0o755);
