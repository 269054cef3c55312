import { resolve } from 'node:path';
import { realIo } from '../io/index.ts';
import { errorsPage } from './errors-doc.ts';

// Run by `npm run docs` in the repository's root.
await realIo().disk.writeFile(resolve('docs/errors.md'), Buffer.from(errorsPage()));
