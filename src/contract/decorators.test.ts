import { describe, expect, it } from 'vitest';
import { bundleOf, Harness } from './testing/harness.ts';

const files = {
  'tsconfig.json': '{}',
  'src/index.ts': `
    import { SampleContract } from './sample';
    import { OtherContract } from './other';
    export const contracts: unknown[] = [OtherContract, SampleContract];`,
  'src/types.ts': `
    import { Object as Schema, Property } from 'fabric-contract-api';
    @Schema()
    export class Part {
      @Property() public name: string = '';
      @Property() public count: number = 0;
    }
    @Schema()
    export class Whole {
      @Property() public id: string = '';
      @Property() public done: boolean = false;
      @Property('parts', 'Array<Part>') public parts: Part[] = [];
      public weight(): number { return this.parts.length; }
    }`,
  'src/sample.ts': `
    import { Context, Contract, Default, Info, Param, Returns, Transaction } from 'fabric-contract-api';
    import { Whole } from './types';
    class Mine extends Context { public readonly trail: string[] = ['made']; }
    @Info({ title: 'Sample', description: 'for tests', version: '9' })
    @Default()
    export class SampleContract extends Contract {
      public createContext(): Mine { return new Mine(); }
      @Transaction()
      public async types(ctx: Mine, text: string, count: number, flag: boolean): Promise<string> {
        return [ctx.trail.join(), typeof text, text, typeof count, count, typeof flag, flag].join(' ');
      }
      @Transaction()
      public async object(ctx: Mine, whole: Whole): Promise<Whole> {
        if (!(whole instanceof Whole)) throw new Error('not an instance');
        whole.id += '/' + whole.weight();
        return whole;
      }
      @Transaction(false)
      @Returns('number')
      public async number(ctx: Mine, wrong: boolean): Promise<number> { return (wrong ? 'text' : 5) as number; }
      @Transaction()
      @Param('all', 'number[]')
      public async list(ctx: Mine, all: number[]): Promise<string> { return Array.isArray(all) + ' ' + all.join('+'); }
      public async undecorated(ctx: Mine): Promise<string> { return 'hidden'; }
    }`,
  'src/other.ts': `
    import { Context, Contract, Transaction } from 'fabric-contract-api';
    export class OtherContract extends Contract {
      public constructor() { super('other'); }
      @Transaction() public async hello(ctx: Context): Promise<string> { return 'other'; }
    }`,
};

describe('contracts with decorators', () => {
  it('get parameters of the declared types, and refuse others', async () => {
    const harness = new Harness([await bundleOf(files)]);
    expect(await harness.result('types', 'a', '1.5', 'TRUE')).toBe(
      'made string a number 1.5 boolean true',
    );
    expect(await harness.refusal('types', 'a', 'x', 'true')).toMatch(
      /could not convert data to number/,
    );
    expect(await harness.refusal('types', 'a', '1', 'perhaps')).toMatch(
      /could not convert data to boolean/,
    );
    expect(await harness.refusal('types', 'a')).toMatch(
      /Expected 3 parameters, but 1 have been supplied/,
    );
    expect(await harness.result('list', '[1,2]')).toBe('true 1+2');
    expect(
      await harness.result('object', JSON.stringify({ id: 'x', parts: [{ name: 'p', count: 2 }] })),
    ).toBe('{"id":"x/1","done":false,"parts":[{"name":"p","count":2}]}');
    expect(await harness.refusal('object', JSON.stringify({ id: 5 }))).toBe(
      'CONTRACT_REJECTED: Unable to validate parameter due to ["must be string"]',
    );
    expect(await harness.refusal('object', '{')).toMatch(/^CONTRACT_REJECTED/);
    expect(await harness.result('number', 'false')).toBe('5');
    expect(await harness.refusal('number', 'true')).toMatch(/does not match schema type of number/);
  });

  it('expose decorated functions only, the default contract first, and metadata', async () => {
    const harness = new Harness([await bundleOf(files)]);
    expect(await harness.refusal('undecorated')).toMatch(/^CONTRACT_FUNCTION_UNKNOWN/);
    expect(await harness.result('other:hello')).toBe('other');
    expect(await harness.result('SampleContract:list', '[7]')).toBe('true 7');
    const metadata = JSON.parse(await harness.result('org.hyperledger.fabric:GetMetadata')) as {
      contracts: Record<
        string,
        { info: unknown; transactions: { name: string; parameters?: unknown }[] }
      >;
      components: { schemas: Record<string, unknown> };
    };
    expect(metadata.contracts.SampleContract?.info).toMatchObject({
      title: 'Sample',
      version: '9',
    });
    const types = metadata.contracts.SampleContract?.transactions.find(
      ({ name }) => name === 'types',
    );
    expect(types?.parameters).toEqual([
      { name: 'text', description: '', schema: { type: 'string' } },
      { name: 'count', description: '', schema: { type: 'number' } },
      { name: 'flag', description: '', schema: { type: 'boolean' } },
    ]);
    expect(Object.keys(metadata.components.schemas)).toEqual(['Part', 'Whole']);
  });
});
