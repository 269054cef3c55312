import type { ChangeRecord } from './change.ts';
import type { Page } from './page.ts';

/** Media type of {@link xmlPage}. */
export const xmlMediaType = 'application/xml';

/**
 * A page as XML, for systems that read nothing else. Characters that XML cannot carry make a key or
 * a content go out as base64, marked by an attribute.
 */
export function xmlPage(page: Page): string {
  const { from, next, cursor, tail, changes } = page;
  const head = `<changes from="${from}" next="${next}" tail="${tail}" cursor="${cursor}">`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n${head}\n${changes.map(xmlChange).join('')}</changes>\n`;
}

function xmlChange(change: ChangeRecord): string {
  const { position, timeMs, txId, contract, key, content, encoding } = change;
  const time = new Date(timeMs).toISOString();
  const head = `position="${position}" time="${time}" transaction="${txId}"`;
  const body =
    content === undefined
      ? '<deleted/>'
      : encoding === 'base64'
        ? `<content encoding="base64">${content}</content>`
        : element('content', content);
  return `  <change ${head}>${element('contract', contract)}${element('key', key)}${body}</change>\n`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: exactly what XML cannot carry
const forbidden = /[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udfff]/u;

function element(name: string, text: string): string {
  if (!forbidden.test(text)) return `<${name}>${escaped(text)}</${name}>`;
  return `<${name} encoding="base64">${Buffer.from(text, 'utf8').toString('base64')}</${name}>`;
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('\r', '&#13;');
}
