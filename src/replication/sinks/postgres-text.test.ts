import { expect, it } from 'vitest';
import { copyText, postgresText } from './postgres-text.ts';

it('writes values as PostgreSQL reads them', () => {
  expect(postgresText(undefined, false)).toBeNull();
  expect(postgresText(12n, false)).toBe('12');
  expect(postgresText(false, false)).toBe('f');
  expect(postgresText(new Date(0), false)).toBe('1970-01-01T00:00:00.000Z');
  expect(postgresText(Buffer.from('az'), false)).toBe('\\x617a');
  expect(postgresText({ a: [1] }, false)).toBe('{"a":[1]}');
  expect(postgresText(['a"b\\', null, 2], true)).toBe('{"a\\"b\\\\",NULL,"2"}');
  expect(postgresText(['a'], false)).toBe('["a"]');
  expect(copyText(null)).toBe('\\N');
  expect(copyText('\\N\t\n\r')).toBe('\\\\N\\t\\n\\r');
});

it('refuses what has no text form', () => {
  expect(() => postgresText(new Date(Number.NaN), false)).toThrow(
    expect.objectContaining({ code: 'SINK_REFUSED' }),
  );
  expect(() => postgresText({ n: 1n }, false)).toThrow(
    expect.objectContaining({ code: 'SINK_REFUSED' }),
  );
});
