import { describe, expect, it } from 'vitest';
import { bytestringOf } from '../base/index.ts';
import {
  bundleKey,
  decodeBundle,
  decodeDefinition,
  definitionKey,
  encodeDefinition,
} from '../model/index.ts';
import { deployArgument, deployedContract, deployWrites } from './lifecycle.ts';

const bundle = {
  name: 'bank',
  version: '1.0.0',
  source: 'module.exports = "grüße";',
  options: { readYourWrites: true, indexes: { b: ['x'], a: ['y', 'z'] } },
};
const argument = bytestringOf(deployArgument(bundle));

describe('deploying', () => {
  it('writes bundle and definition, sorted', () => {
    const { writes, definition } = deployWrites(argument, undefined);
    expect(deployedContract(argument)).toBe('bank');
    expect(writes.map(({ key }) => key)).toEqual([bundleKey('bank'), definitionKey('bank')]);
    expect(decodeBundle(writes[0]?.value ?? '')).toEqual(bundle);
    expect(decodeDefinition(writes[1]?.value ?? '')).toEqual(definition);
    expect(definition).toMatchObject({ version: '1.0.0', sequence: 1, options: bundle.options });
    expect(definition.bundleHash).toMatch(/^[0-9a-f]{64}$/);
  });

  it('refuses the same bundle in other bytes: replay compares bytes', () => {
    const shuffled = JSON.stringify({
      options: { indexes: { a: ['y', 'z'], b: ['x'] }, readYourWrites: true },
      source: bundle.source,
      version: '1.0.0',
      name: 'bank',
    });
    expect(() => deployWrites(bytestringOf(Buffer.from(shuffled)), undefined)).toThrow(
      /not canonical/,
    );
  });

  it('upgrades, repeats, and refuses another bundle of the same version', () => {
    const first = deployWrites(argument, undefined).definition;
    const current = encodeDefinition(first);
    expect(deployWrites(argument, current).definition).toEqual({ ...first, sequence: 2 });
    const upgrade = bytestringOf(deployArgument({ ...bundle, version: '1.1.0' }));
    expect(deployWrites(upgrade, current).definition).toMatchObject({
      version: '1.1.0',
      sequence: 2,
    });
    const changed = bytestringOf(deployArgument({ ...bundle, source: 'other' }));
    expect(() => deployWrites(changed, current)).toThrow(/raise the version/);
  });

  it('refuses an upgrade that declares an index which older rows are not in', () => {
    const current = encodeDefinition(deployWrites(argument, undefined).definition);
    const upgrade = (indexes: Record<string, string[]>) => (): unknown => {
      const options = { ...bundle.options, indexes };
      const next = { ...bundle, version: '2.0.0', options };
      return deployWrites(bytestringOf(deployArgument(next)), current);
    };
    expect(upgrade({ ...bundle.options.indexes, another: ['x'] } as never)).toThrowError(
      expect.objectContaining({ code: 'CONTRACT_BUNDLE_INVALID' }) as Error,
    );
    expect(upgrade({})).not.toThrow();
  });

  it.each([
    'no json',
    '[]',
    '{}',
    JSON.stringify({ ...bundle, name: '_config' }),
    JSON.stringify({ ...bundle, name: 'a/b' }),
    JSON.stringify({ ...bundle, version: 5 }),
    JSON.stringify({ ...bundle, source: '' }),
    JSON.stringify({ ...bundle, options: { readYourWrites: 'yes' } }),
    JSON.stringify({ ...bundle, options: { indexes: { a: [] } } }),
  ])('refuses the argument %s', (json) => {
    expect(() => deployWrites(bytestringOf(Buffer.from(json)), undefined)).toThrowError(
      expect.objectContaining({ code: 'MALFORMED' }) as Error,
    );
  });
});
