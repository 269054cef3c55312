import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { errorCatalog } from '../base/index.ts';
import { errorsPage } from './errors-doc.ts';

const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');

test('the page lists every code, and every listed code exists', () => {
  const listed = [...page.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1]);
  expect(listed).toEqual(Object.keys(errorCatalog));
});

test('the page is what the catalogue makes; `npm run docs` renews it', () => {
  expect(page).toBe(errorsPage());
});
