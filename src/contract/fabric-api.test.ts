import { describe, expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { bundleOf, Harness, SlowAccess, sampleOf } from './testing/harness.ts';

/* What Fabric's documentation and a running Fabric 2.5 do, as far as contracts can see it. */

async function harnessOf(methods: string, before = ''): Promise<Harness> {
  return new Harness([await sampleOf(methods, before)]);
}

describe('keys', () => {
  it('are not read back within the transaction that wrote them, unless asked for', async () => {
    const files = {
      'index.js': `
        const { Contract } = require('fabric-contract-api');
        module.exports.contracts = [class Sample extends Contract {
          async go(ctx) {
            await ctx.stub.putState('a', Buffer.from('new'));
            const seen = (await ctx.stub.getState('a')).toString();
            await ctx.stub.deleteState('b');
            return seen + '|' + (await ctx.stub.getState('b')).toString();
          }
          async seed(ctx) { await ctx.stub.putState('a', Buffer.from('old')); await ctx.stub.putState('b', Buffer.from('old')); }
        }];`,
    };
    const fabric = new Harness([await bundleOf(files)]);
    await fabric.result('seed');
    expect(await fabric.result('go')).toBe('old|old');
    expect(fabric.state.texts('sample')).toEqual({ a: 'new' });
    const own = new Harness([await bundleOf(files, { daybook: { readYourWrites: true } })]);
    await own.result('seed');
    expect(await own.result('go')).toBe('new|');
  });

  it('answer an empty Buffer when missing, refuse an empty key, take strings and typed arrays', async () => {
    const harness = await harnessOf(`
      async go(ctx) {
        const none = await ctx.stub.getState('none');
        const errors = [];
        for (const wrong of [() => ctx.stub.getState(''), () => ctx.stub.putState('', 'x'), () => ctx.stub.putState('k', null), () => ctx.stub.putState('k', 5), () => ctx.stub.getState(7)]) {
          await wrong().then(() => errors.push('none'), (error) => errors.push(error instanceof Error));
        }
        await ctx.stub.putState('text', 'grüße');
        await ctx.stub.putState('bytes', new Uint8Array([0, 255, 128]));
        await ctx.stub.putState('schlüssel', Buffer.from([1, 2, 3]).subarray(1));
        return { isBuffer: Buffer.isBuffer(none), length: none.length, errors };
      }`);
    expect(JSON.parse(await harness.result('go'))).toEqual({
      isBuffer: true,
      length: 0,
      errors: [true, true, true, true, true],
    });
    expect(harness.state.texts('sample')).toEqual({
      bytes: '\u0000\ufffd\ufffd',
      schlüssel: '\u0002\u0003',
      text: 'grüße',
    });
    expect(harness.state.rows.get('sample\u0000bytes')).toBe('\u0000\u00ff\u0080');
  });

  it('last put wins; nothing is written when the function throws', async () => {
    const harness = await harnessOf(`
      async twice(ctx) { await ctx.stub.putState('a', '1'); await ctx.stub.putState('a', '2'); }
      async fail(ctx) { await ctx.stub.putState('a', '3'); throw new Error('no'); }
      async odd(ctx, what) {
        if (what === 'string') throw 'plain text';
        if (what === 'undefined') throw undefined;
        if (what === 'unprintable') throw { get message() { throw 1; }, toString() { throw 2; } };
        if (what === 'sync') return Promise.reject(new TypeError('typed'));
      }`);
    await harness.result('twice');
    expect(await harness.refusal('fail')).toBe('CONTRACT_REJECTED: no');
    expect(harness.state.texts('sample')).toEqual({ a: '2' });
    expect(await harness.refusal('odd', 'string')).toBe('CONTRACT_REJECTED: plain text');
    expect(await harness.refusal('odd', 'undefined')).toBe('CONTRACT_REJECTED: undefined');
    expect(await harness.refusal('odd', 'unprintable')).toMatch(/no text$/);
    expect(await harness.refusal('odd', 'sync')).toBe('CONTRACT_REJECTED: typed');
  });

  it('make and split composite keys', async () => {
    const harness = await harnessOf(`
      async go(ctx) {
        const key = ctx.stub.createCompositeKey('type', ['a', 'ü']);
        const errors = [];
        for (const wrong of [() => ctx.stub.createCompositeKey('', []), () => ctx.stub.createCompositeKey('t', ['']), () => ctx.stub.createCompositeKey('t', 'a'), () => ctx.stub.createCompositeKey('t', [5])]) {
          try { wrong(); errors.push('none'); } catch (error) { errors.push('error'); }
        }
        return { key, split: ctx.stub.splitCompositeKey(key), none: ctx.stub.splitCompositeKey('plain'), bare: ctx.stub.splitCompositeKey(ctx.stub.createCompositeKey('type', [])), errors };
      }`);
    expect(JSON.parse(await harness.result('go'))).toEqual({
      key: '\u0000type\u0000a\u0000ü\u0000',
      split: { objectType: 'type', attributes: ['a', 'ü'] },
      none: { objectType: '', attributes: [] },
      bare: { objectType: 'type', attributes: [] },
      errors: ['error', 'error', 'error', 'error'],
    });
  });
});

const rows = `
  async seed(ctx) {
    for (const key of ['b', 'a', 'c', '\\uffee', '\\u{1f600}', 'é']) await ctx.stub.putState(key, Buffer.from('v' + key));
    for (const [type, id] of [['x', '1'], ['x', '2'], ['y', '1']]) await ctx.stub.putState(ctx.stub.createCompositeKey(type, [id, 'end']), Buffer.from(type + id));
    for (let i = 0; i < 150; i++) await ctx.stub.putState('many' + String(i).padStart(4, '0'), Buffer.from(String(i)));
  }
  async keys(ctx, start, end) {
    const found = [];
    for await (const { namespace, key, value } of ctx.stub.getStateByRange(start, end)) found.push(namespace + '/' + key + '=' + value.toString());
    return found;
  }`;

describe('ranges', () => {
  it('are in UTF-8 byte order, end before the end, and leave out composite keys', async () => {
    const harness = await harnessOf(rows);
    await harness.result('seed');
    const open = JSON.parse(await harness.result('keys', '', '')) as string[];
    expect(open.filter((row) => !row.includes('many'))).toEqual([
      'sample/a=va',
      'sample/b=vb',
      'sample/c=vc',
      'sample/é=vé',
      'sample/\uffee=v\uffee',
      'sample/\u{1f600}=v\u{1f600}',
    ]);
    expect(open.filter((row) => row.includes('many'))).toHaveLength(150);
    expect(JSON.parse(await harness.result('keys', 'a', 'c'))).toEqual([
      'sample/a=va',
      'sample/b=vb',
    ]);
    expect(JSON.parse(await harness.result('keys', 'many0140', 'many0143'))).toHaveLength(3);
    expect(await harness.refusal('keys', '\u0000a', '')).toMatch(/U\+0000/);
  });

  it('work with next and close, for await, break, and spread over pages', async () => {
    const harness = await harnessOf(`${rows}
      async manual(ctx) {
        const iterator = await ctx.stub.getStateByRange('many', 'many9');
        let count = 0;
        let last;
        for (;;) {
          const step = await iterator.next();
          if (step.done) break;
          count++;
          last = step.value.key;
        }
        await iterator.close();
        return count + ' ' + last + ' ' + JSON.stringify(await iterator.next());
      }
      async stopped(ctx) {
        const found = [];
        const iterator = ctx.stub.getStateByRange('', '');
        for await (const row of iterator) { found.push(row.key); if (found.length === 2) break; }
        return found;
      }
      async promised(ctx) {
        const found = [];
        const iterator = await ctx.stub.getStateByRange('a', 'c');
        let step = await iterator.next();
        while (!step.done) { found.push(step.value.key); step = await iterator.next(); }
        return found;
      }`);
    await harness.result('seed');
    expect(await harness.result('manual')).toBe('150 many0149 {"done":true}');
    expect(await harness.result('stopped')).toBe('["a","b"]');
    expect(await harness.result('promised')).toBe('["a","b"]');
  });

  it('by partial composite key', async () => {
    const harness = await harnessOf(`${rows}
      async partial(ctx, ...all) {
        const [type, ...attributes] = all;
        const found = [];
        for await (const { key, value } of ctx.stub.getStateByPartialCompositeKey(type, attributes)) found.push([ctx.stub.splitCompositeKey(key).attributes.join('.'), value.toString()]);
        return found;
      }
      async paged(ctx, size, bookmark) {
        const { iterator, metadata } = await ctx.stub.getStateByPartialCompositeKeyWithPagination('x', [], Number(size), bookmark);
        const found = [];
        for (let step = await iterator.next(); !step.done; step = await iterator.next()) found.push(step.value.value.toString());
        return { found, metadata };
      }`);
    await harness.result('seed');
    expect(JSON.parse(await harness.result('partial', 'x'))).toEqual([
      ['1.end', 'x1'],
      ['2.end', 'x2'],
    ]);
    expect(JSON.parse(await harness.result('partial', 'x', '2'))).toEqual([['2.end', 'x2']]);
    expect(JSON.parse(await harness.result('partial', 'z'))).toEqual([]);
    const first = JSON.parse(await harness.result('paged', '1', '')) as {
      found: string[];
      metadata: { bookmark: string; fetchedRecordsCount: number };
    };
    expect(first.found).toEqual(['x1']);
    expect(first.metadata.fetchedRecordsCount).toBe(1);
    expect(JSON.parse(await harness.result('paged', '1', first.metadata.bookmark))).toEqual({
      found: ['x2'],
      metadata: { fetchedRecordsCount: 1, bookmark: '' },
    });
  });

  it('by pages with a bookmark, in transactions that do not write', async () => {
    const harness = await harnessOf(`${rows}
      async page(ctx, size, bookmark) {
        const found = [];
        const page = ctx.stub.getStateByRangeWithPagination('a', 'd', Number(size), bookmark);
        for await (const { key } of page) found.push(key);
        return { found, metadata: (await page).metadata };
      }
      async pageThenWrite(ctx) { await ctx.stub.getStateByRangeWithPagination('a', 'd', 2); await ctx.stub.putState('x', 'y'); }
      async writeThenPage(ctx) { await ctx.stub.putState('x', 'y'); await ctx.stub.getStateByRangeWithPagination('a', 'd', 2); }`);
    await harness.result('seed');
    expect(JSON.parse(await harness.result('page', '2', ''))).toEqual({
      found: ['a', 'b'],
      metadata: { fetchedRecordsCount: 2, bookmark: 'c' },
    });
    expect(JSON.parse(await harness.result('page', '2', 'c'))).toEqual({
      found: ['c'],
      metadata: { fetchedRecordsCount: 1, bookmark: '' },
    });
    expect(await harness.refusal('pageThenWrite')).toMatch(/must not write/);
    expect(await harness.refusal('writeThenPage')).toMatch(/must not run a paginated query/);
    expect(await harness.refusal('page', '0', '')).toMatch(/positive integer/);
  });
});

describe('queries and history', () => {
  it('give rows, pages and typed errors', async () => {
    const harness = await harnessOf(`
      async seed(ctx) { for (let i = 0; i < 5; i++) await ctx.stub.putState('k' + i, Buffer.from(JSON.stringify({ odd: i % 2 === 1, i }))); }
      async find(ctx, query) { const found = []; for await (const { key } of ctx.stub.getQueryResult(query)) found.push(key); return found; }
      async page(ctx, query, size, bookmark) {
        const { iterator, metadata } = await ctx.stub.getQueryResultWithPagination(query, Number(size), bookmark);
        const found = [];
        for (let step = await iterator.next(); !step.done; step = await iterator.next()) found.push(step.value.key);
        return { found, ...metadata };
      }
      async lenient(ctx) { try { await ctx.stub.getQueryResult('{'); } catch (error) { return 'caught ' + error.message; } }`);
    await harness.result('seed');
    const query = JSON.stringify({ selector: { odd: false } });
    expect(await harness.result('find', query)).toBe('["k0","k2","k4"]');
    const first = JSON.parse(await harness.result('page', query, '2', '')) as { bookmark: string };
    expect(first).toMatchObject({ found: ['k0', 'k2'], fetchedRecordsCount: 2 });
    expect(JSON.parse(await harness.result('page', query, '2', first.bookmark))).toEqual({
      found: ['k4'],
      fetchedRecordsCount: 1,
      bookmark: '',
    });
    expect(await harness.refusal('find', '{')).toBe('QUERY_INVALID: malformed query');
    expect(await harness.result('lenient')).toBe('caught malformed query');
  });

  it('history is newest first and knows deletions', async () => {
    const harness = await harnessOf(`
      async put(ctx, value) { await ctx.stub.putState('k', Buffer.from(value)); }
      async remove(ctx) { await ctx.stub.deleteState('k'); }
      async history(ctx) {
        const found = [];
        for await (const { txId, timestamp, isDelete, value } of ctx.stub.getHistoryForKey('k')) found.push([Number('0x' + txId), timestamp.seconds.toNumber(), timestamp.nanos, isDelete, value.toString()]);
        return found;
      }
      async count(ctx) { let count = 0; for await (const one of ctx.stub.getHistoryForKey('k')) count += one.txId.length / 64; return count; }`);
    await harness.result('put', 'one');
    harness.timestampMs += 1_877;
    await harness.result('remove');
    await harness.result('put', 'two');
    expect(JSON.parse(await harness.result('history'))).toEqual([
      [3, 1_700_000_002, 0, false, 'two'],
      [2, 1_700_000_002, 0, true, ''],
      [1, 1_700_000_000, 123_000_000, false, 'one'],
    ]);
    for (let turn = 0; turn < 150; turn++) await harness.result('put', `${turn}`);
    expect(await harness.result('count')).toBe('153');
  });
});

describe('events', () => {
  it('the last one counts, and none when the function throws', async () => {
    const harness = await harnessOf(`
      async two(ctx) { ctx.stub.setEvent('first', Buffer.from('1')); ctx.stub.setEvent('second', Buffer.from('grüße')); }
      async fail(ctx) { ctx.stub.setEvent('first', Buffer.from('1')); throw new Error('no'); }
      async bare(ctx) { ctx.stub.setEvent('bare'); }
      async unnamed(ctx) { ctx.stub.setEvent('', Buffer.from('x')); }
      async long(ctx) { ctx.stub.setEvent('x'.repeat(500)); }`);
    expect(await harness.call('two')).toEqual({
      ok: true,
      result: '',
      event: { name: 'second', payload: Buffer.from('grüße').toString('latin1') },
    });
    expect(await harness.call('fail')).toEqual({
      ok: false,
      code: 'CONTRACT_REJECTED',
      message: 'no',
    });
    expect(await harness.call('bare')).toMatchObject({ event: { name: 'bare', payload: '' } });
    expect(await harness.refusal('unnamed')).toMatch(/non-empty string/);
    await expect(harness.call('long')).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });
});

describe('parameters and results', () => {
  it('arrive as texts, counted', async () => {
    const harness = await harnessOf(`
      async two(ctx, a, b) { return a + b; }
      async some(ctx, ...all) { return all.join('+'); }
      async none(ctx) { return 'none'; }
      async raw(ctx) { return ctx.stub.getBufferArgs().map((arg) => arg.toString('hex')); }
      async view(ctx, a) { return [ctx.stub.getArgs(), ctx.stub.getStringArgs(), ctx.stub.getFunctionAndParameters()]; }`);
    expect(await harness.result('two', 'grü', 'ße')).toBe('grüße');
    expect(await harness.refusal('two', 'a')).toBe(
      'CONTRACT_REJECTED: Expected 2 parameters, but 1 have been supplied',
    );
    expect(await harness.refusal('two', 'a', 'b', 'c')).toMatch(/Expected 2 parameters, but 3/);
    expect(await harness.result('some', '1', '2', '3')).toBe('1+2+3');
    expect(await harness.result('some')).toBe('');
    expect(await harness.result('none')).toBe('none');
    expect(await harness.result('raw', Buffer.from([0xff, 0]))).toBe('["726177","ff00"]');
    expect(JSON.parse(await harness.result('view', 'x'))).toEqual([
      ['view', 'x'],
      ['view', 'x'],
      { fcn: 'view', params: ['x'] },
    ]);
  });

  it('map results as Fabric does', async () => {
    const harness = await harnessOf(`
      async give(ctx, what) {
        return { undefined, null: null, text: 'grüße', number: 1.5, zero: 0, false: false, object: { a: [1, 'b'] }, array: [1, 2], buffer: Buffer.from('ab'), date: new Date(0) }[what];
      }
      async big(ctx) { return 10n; }
      async cycle(ctx) { const a = {}; a.a = a; return a; }`);
    expect(await harness.result('give', 'undefined')).toBe('');
    expect(await harness.result('give', 'null')).toBe('');
    expect(await harness.result('give', 'text')).toBe('grüße');
    expect(await harness.result('give', 'number')).toBe('1.5');
    expect(await harness.result('give', 'zero')).toBe('0');
    expect(await harness.result('give', 'false')).toBe('false');
    expect(await harness.result('give', 'object')).toBe('{"a":[1,"b"]}');
    expect(await harness.result('give', 'array')).toBe('[1,2]');
    expect(await harness.result('give', 'buffer')).toBe('{"type":"Buffer","data":[97,98]}');
    expect(await harness.refusal('big')).toMatch(/^CONTRACT_REJECTED/);
    expect(await harness.refusal('cycle')).toMatch(/^CONTRACT_REJECTED/);
  });
});

describe('the call', () => {
  it('shows id, channel, time, creator, binding and proposal', async () => {
    const harness = await harnessOf(`
      async show(ctx) {
        const { stub } = ctx;
        const timestamp = stub.getTxTimestamp();
        return {
          id: stub.getTxID(), channel: stub.getChannelID(), seconds: timestamp.seconds.toNumber(), low: timestamp.seconds.low, text: String(timestamp.seconds), nanos: timestamp.nanos,
          date: stub.getDateTimestamp().toISOString(), now: Date.now(), made: new Date().toISOString(), called: Date(),
          creator: stub.getCreator().mspid, pem: stub.getCreator().idBytes.toString(), binding: stub.getBinding(), transient: stub.getTransient().size,
          nonce: stub.getSignedProposal().proposal.header.signatureHeader.nonce.length, msp: ctx.clientIdentity.getMSPID(),
          zone: new Date(2020, 0, 1).toISOString() + new Date(2020, 6, 1).getTimezoneOffset() + new Date('2020-01-01T00:00:00').getTime(),
        };
      }
      async unsupported(ctx, name) { return ctx.stub[name]('a', 'b', 'c'); }`);
    const shown = JSON.parse(await harness.result('show')) as Record<string, unknown>;
    expect(shown).toMatchObject({
      id: '1'.padStart(64, '0'),
      channel: 'main',
      seconds: 1_700_000_000,
      low: 1_700_000_000,
      text: '1700000000',
      nanos: 123_000_000,
      date: '2023-11-14T22:13:20.123Z',
      now: 1_700_000_000_123,
      made: '2023-11-14T22:13:20.123Z',
      called: 'Tue Nov 14 2023 22:13:20 GMT+0000 (Coordinated Universal Time)',
      creator: 'Org1MSP',
      pem: 'not a certificate',
      transient: 0,
      nonce: 24,
      msp: 'Org1MSP',
      zone: '2020-01-01T00:00:00.000Z01577836800000',
    });
    expect(shown.binding).toMatch(/^[0-9a-f]{64}$/);
    for (const name of [
      'getPrivateData',
      'putPrivateData',
      'getPrivateDataByRange',
      'setStateValidationParameter',
      'getMspID',
    ]) {
      expect(await harness.refusal('unsupported', name)).toMatch(/^CONTRACT_UNSUPPORTED: /);
    }
    expect(await harness.refusal('unsupported', 'invokeChaincode')).toMatch(
      /^CONTRACT_UNSUPPORTED/,
    );
  });

  it('keeps its own time when it waits while another call runs', async () => {
    const harness = await harnessOf(`
      async wait(ctx) { const before = Date.now(); await ctx.stub.getState('slow'); return before + ' ' + Date.now(); }
      async now(ctx) { return String(Date.now()); }`);
    const first = harness.newCall('wait', []);
    const slow = new SlowAccess(harness.state.access(first));
    const waiting = harness.runtime.call(first, slow);
    harness.timestampMs = 42;
    expect(await harness.result('now')).toBe('42');
    slow.answer();
    const [outcome, other] = await Promise.all([waiting, harness.result('now')]);
    expect(outcome).toMatchObject({ ok: true, result: '1700000000123 1700000000123' });
    expect(other).toBe('42');
  });

  it('ends in the version in which it began', async () => {
    const harness = await harnessOf(
      `async wait(ctx) { await ctx.stub.getState('slow'); return 'old'; }`,
    );
    const first = harness.newCall('wait', []);
    const slow = new SlowAccess(harness.state.access(first));
    const waiting = harness.runtime.call(first, slow);
    await new Promise((resolve) => setImmediate(resolve));
    harness.runtime.install(await sampleOf(`async wait(ctx) { return 'new'; }`));
    expect(await harness.result('wait')).toBe('new');
    slow.answer();
    expect(await waiting).toMatchObject({ ok: true, result: 'old' });
  });

  it('is aborted by what the state throws, whatever the contract catches', async () => {
    const harness = await harnessOf(`
      async wait(ctx) { try { await ctx.stub.getState('slow'); } catch {} return 'went on'; }
      async put(ctx) { try { await ctx.stub.putState('k', 'v'); } catch {} return 'went on'; }
      async fine() { return 'fine'; }`);
    const first = harness.newCall('wait', []);
    const slow = new SlowAccess(harness.state.access(first));
    const waiting = harness.runtime.call(first, slow);
    await new Promise((resolve) => setImmediate(resolve));
    slow.refuse(new DaybookError('TRANSACTION_CONFLICT', 'deadlock'));
    await expect(waiting).rejects.toMatchObject({ code: 'TRANSACTION_CONFLICT' });
    const second = harness.newCall('put', []);
    const access = new SlowAccess(harness.state.access(second));
    access.put = () => {
      throw new DaybookError('LIMIT_EXCEEDED', 'too long');
    };
    await expect(harness.runtime.call(second, access)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
    expect(await harness.result('fine')).toBe('fine');
  });
});

describe('functions', () => {
  it('are those of the class, by name or Contract:name', async () => {
    const bundle = await bundleOf({
      'index.js': `
        const { Contract } = require('fabric-contract-api');
        class First extends Contract { async who() { return 'first'; } async _hidden() { return 'hidden'; } }
        class Second extends Contract { constructor() { super('org.second'); } async who() { return 'second'; } }
        module.exports.contracts = [First, Second];`,
    });
    const harness = new Harness([bundle]);
    expect(await harness.result('who')).toBe('first');
    expect(await harness.result('First:who')).toBe('first');
    expect(await harness.result('org.second:who')).toBe('second');
    for (const name of ['_hidden', 'constructor', 'createContext', 'toString', '__proto__', '']) {
      expect(await harness.refusal(name)).toMatch(/^CONTRACT_FUNCTION_UNKNOWN/);
    }
    expect(await harness.refusal('none')).toBe(
      "CONTRACT_FUNCTION_UNKNOWN: You've asked to invoke a function that does not exist: none",
    );
    expect(await harness.refusal('Third:who')).toBe(
      'CONTRACT_FUNCTION_UNKNOWN: Contract name is not known: Third',
    );
    const metadata = JSON.parse(await harness.result('org.hyperledger.fabric:GetMetadata')) as {
      contracts: Record<string, { transactions: { name: string }[] }>;
    };
    expect(Object.keys(metadata.contracts)).toEqual([
      'First',
      'org.second',
      'org.hyperledger.fabric',
    ]);
    expect(metadata.contracts.First?.transactions.map(({ name }) => name)).toEqual(['who']);
  });

  it('run between before and after, in a context of their own', async () => {
    const harness = await harnessOf(
      `
      createContext() { return new Mine(); }
      async beforeTransaction(ctx) { ctx.trail.push('before'); if (ctx.stub.getFunctionAndParameters().fcn === 'refused') throw new Error('not today'); }
      async aroundTransaction(ctx, name, parameters) { ctx.trail.push('around ' + name); return super.aroundTransaction(ctx, name, parameters); }
      async afterTransaction(ctx, result) { ctx.trail.push('after ' + result); ctx.stub.setEvent('trail', Buffer.from(ctx.trail.join())); }
      async unknownTransaction(ctx) { ctx.trail.push('unknown'); ctx.stub.setEvent('trail', Buffer.from(ctx.trail.join())); }
      async go(ctx, a) { ctx.trail.push('go ' + a + ' ' + ctx.own() + ' ' + typeof ctx.logging.getLogger('x').info); return 'result'; }
      async refused(ctx) { return 'never'; }`,
      `class Mine extends Context { constructor() { super(); this.trail = []; } own() { return this.stub.getChannelID(); } }`,
    );
    expect(await harness.call('go', 'x')).toMatchObject({
      result: 'result',
      event: { payload: 'before,around go,go x main function,after result' },
    });
    expect(await harness.refusal('refused')).toBe('CONTRACT_REJECTED: not today');
    expect(await harness.call('nothing')).toMatchObject({
      ok: true,
      result: '',
      event: { payload: 'unknown' },
    });
    // Parameters are checked before anything of the contract runs.
    expect(await harness.refusal('go')).toMatch(/Expected 1 parameters, but 0/);
  });
});

describe('other contracts', () => {
  async function two(): Promise<Harness> {
    const caller = await sampleOf(`
      async relay(ctx, fn, value) { const reply = await ctx.stub.invokeChaincode('other', [fn, value], ''); return reply.status + ' ' + reply.payload.toString(); }
      async lenient(ctx) { try { await ctx.stub.invokeChaincode('other', ['refuse', 'x']); } catch (error) { return 'caught'; } }
      async forget(ctx) { ctx.stub.invokeChaincode('other', ['put', 'x']).catch(() => {}); return 'did not wait'; }
      async self(ctx, depth) { if (depth === '0') return 'bottom'; const { payload } = await ctx.stub.invokeChaincode('sample', ['self', String(depth - 1)]); return payload.toString(); }
      async missing(ctx) { await ctx.stub.invokeChaincode('nowhere', ['x']); }`);
    const other = await sampleOf(`
      async put(ctx, value) { await ctx.stub.putState('k', Buffer.from(value)); ctx.stub.setEvent('inner', 'x'); return 'put ' + value + ' ' + ctx.stub.getTxID().length + ' ' + Date.now(); }
      async refuse(ctx, value) { await ctx.stub.putState('k', Buffer.from(value)); throw new Error('refused inside'); }`);
    return new Harness([caller, { ...other, name: 'other' }]);
  }

  it('run in the same transaction, in their own namespace', async () => {
    const harness = await two();
    expect(await harness.call('relay', 'put', 'grüße')).toEqual({
      ok: true,
      result: Buffer.from('200 put grüße 64 1700000000123').toString('latin1'),
      event: undefined,
    });
    expect(harness.state.texts('other')).toEqual({ k: 'grüße' });
    expect(harness.state.texts('sample')).toEqual({});
  });

  it('fail the whole transaction when they refuse', async () => {
    const harness = await two();
    expect(await harness.refusal('relay', 'refuse', 'x')).toBe('CONTRACT_REJECTED: refused inside');
    expect(await harness.refusal('lenient')).toBe('CONTRACT_REJECTED: refused inside');
    expect(await harness.refusal('missing')).toMatch(/^CONTRACT_UNKNOWN/);
    expect(harness.state.texts('other')).toEqual({});
  });

  it('may call themselves, up to a depth', async () => {
    const harness = await two();
    expect(await harness.result('self', '5')).toBe('bottom');
    expect(await harness.refusal('self', '30')).toMatch(/nested calls/);
    expect(await harness.result('forget')).toBe('did not wait');
    expect(await harness.result('self', '1')).toBe('bottom');
  });
});

describe('console', () => {
  it('is reported with level and call', async () => {
    const harness = await harnessOf(`
      async say(ctx) { console.log('a', { b: 1 }, 5n); console.error(new TypeError('bad')); console.info(); }`);
    await harness.result('say');
    expect(harness.logged).toEqual(['log a {"b":1} 5n', 'error TypeError: bad', 'info ']);
  });
});
