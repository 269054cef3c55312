import { errorCatalog, type Retry } from '../base/index.ts';

const retryText: Record<Retry, string> = {
  never: 'the request itself is wrong',
  same: 'send the very same bytes again, later',
  refresh: 'take fresh state, token or configuration first',
};

/** The text of `docs/errors.md`, made from the error catalogue. */
export function errorsPage(): string {
  const lines = [
    '# Errors',
    '',
    '<!-- Made by `npm run docs` from src/base/error-catalog.ts. Do not edit. -->',
    '',
    'Every error of Daybook has one of these codes, whichever way it reaches you: thrown by the SDK',
    '(`DaybookError.code`), answered by the gateway (`{"code": …, "message": …, "retry": …,',
    '"details": …}` with the HTTP status below), or printed by the command line.',
    '',
    '`retry` says what helps:',
    '',
    ...Object.entries(retryText).map(([retry, text]) => `- \`${retry}\`: ${text}`),
    '',
    '| Code | Status | Retry | Cause | Remedy |',
    '| --- | --- | --- | --- | --- |',
  ];
  for (const [code, { status, retry, cause, remedy }] of Object.entries(errorCatalog)) {
    lines.push(`| \`${code}\` | ${status} | ${retry} | ${cell(cause)} | ${cell(remedy)} |`);
  }
  return `${lines.join('\n')}\n`;
}

const cell = (text: string): string => text.replaceAll('|', '\\|');
