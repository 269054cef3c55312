import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ChangeRecord } from './change.ts';
import { encodeCompactPage } from './compact-page.ts';
import { signCursor, verifyCursor } from './cursor.ts';
import { decryptPage, encryptPage, generateFollowerKey } from './encryption.ts';
import { Journal } from './journal.ts';
import { decodePage, encodePage, type Page } from './page.ts';
import { FollowerRegistry, readRegistry } from './registry.ts';
import { mergeStatus } from './status.ts';
import { compileSubscription } from './subscription.ts';
import { memoryDisk, memoryFollowers, TestLedger } from './testing/test-ledger.ts';
import { xmlPage } from './xml-page.ts';

const all = compileSubscription([{ contract: 'catalog' }]);
const key = Buffer.alloc(32, 1);

describe('journal', () => {
  const commit = fc.dictionary(
    fc.constantFrom('a', 'b', 'c', 'é', 'k/1', 'k/2'),
    fc.option(fc.string({ maxLength: 5 }), { nil: undefined }),
    { maxKeys: 4 },
  );
  const entries = fc.array(fc.array(fc.record({ commit, valid: fc.boolean() }), { maxLength: 4 }), {
    maxLength: 12,
  });

  it('delivers every selected change once, in order, and never splits a commit', async () => {
    await fc.assert(
      fc.asyncProperty(entries, fc.integer({ min: 1, max: 5 }), async (log, changesMax) => {
        const ledger = new TestLedger();
        for (const entry of log) {
          ledger.append(
            entry.map((one) => one.commit),
            (index) => entry[index]?.valid === false,
          );
        }
        const journal = new Journal(ledger);
        const subscription = compileSubscription([{ contract: 'catalog', start: 'b' }]);
        const expected = log.flatMap((entry, address) =>
          entry.flatMap(({ commit: writes, valid }, index) =>
            (valid ? Object.entries(writes) : [])
              .filter(([name]) => name >= 'b')
              .map(([name, content]) => `${address * 4096 + index} ${name} ${content}`)
              .sort(),
          ),
        );
        const found: ChangeRecord[] = [];
        for (let from = 0; from < journal.tail; ) {
          const page = await journal.page(subscription, from, { changesMax, bytesMax: 1e6 }, 0);
          expect(page.next).toBeGreaterThan(from);
          const last = found.at(-1);
          // A commit begins and ends in one page.
          if (last !== undefined && page.changes[0] !== undefined) {
            expect(page.changes[0].position).toBeGreaterThan(last.position);
          }
          const commits = new Set(page.changes.map(({ position }) => position));
          if (commits.size > 1) expect(page.changes.length).toBeLessThanOrEqual(changesMax);
          found.push(...page.changes);
          from = page.next;
        }
        const lines = found.map((change) => `${change.position} ${change.key} ${change.content}`);
        expect(lines).toHaveLength(expected.length);
        expect(lines.sort()).toEqual(expected.sort());
        expect(await journal.count(subscription, 0, journal.tail, () => true)).toMatchObject({
          changes: expected.length,
          reached: journal.tail,
        });
      }),
      { numRuns: 60 },
    );
  });

  it('scans the state in parts, whatever the size of a part', async () => {
    const ledger = new TestLedger();
    const state: Record<string, string> = {};
    for (let at = 0; at < 57; at++) state[`product/${at}`] = `{"n":${at}}`;
    ledger.append([state, { other: 'x' }]);
    const journal = new Journal(ledger);
    const subscription = compileSubscription([
      { contract: 'catalog', prefix: 'product/', selector: { n: { $gte: 10 } }, fields: ['n'] },
      { contract: 'catalog', prefix: 'product/3' },
      { contract: 'nothing' },
    ]);
    const keys: string[] = [];
    let resume: string | undefined;
    do {
      const page = await journal.scan(subscription, undefined, resume, {
        changesMax: 7,
        bytesMax: 1e6,
      });
      keys.push(...page.rows.map((row) => row.key));
      resume = page.resume;
    } while (resume !== undefined);
    expect(keys).toHaveLength(48);
    expect(new Set(keys).size).toBe(48);
    await expect(
      journal.scan(subscription, undefined, '9.x', { changesMax: 1, bytesMax: 1 }),
    ).rejects.toMatchObject({ code: 'MALFORMED' });
  });

  it('waits at the tail, and asks for a refill where the log is gone', async () => {
    const ledger = new TestLedger();
    const journal = new Journal(ledger);
    const size = { changesMax: 10, bytesMax: 1e6 };
    const waiting = journal.page(all, 0, size, 5_000);
    ledger.append([{ a: '1' }]);
    expect((await waiting).changes).toMatchObject([{ key: 'a', content: '1', position: 0 }]);
    expect(await journal.page(all, 4096, size, 10)).toMatchObject({ from: 4096, next: 4096 });
    ledger.trimmed = 1;
    await expect(journal.page(all, 0, size, 0)).rejects.toMatchObject({
      code: 'FOLLOWER_REFILL',
      details: { reason: 'log-trimmed' },
    });
  });
});

describe('subscription', () => {
  it('delivers what ceases to match as deleted, and projects', () => {
    const subscription = compileSubscription([
      { contract: 'c', prefix: 'p/', selector: { kind: 'x' }, fields: ['kind', 'a.b'] },
    ]);
    expect(subscription.select('c', 'p/1', '{"kind":"x","a":{"b":1,"c":2}}')).toEqual({
      value: '{"kind":"x","a":{"b":1}}',
    });
    expect(subscription.select('c', 'p/1', '{"kind":"y"}')).toEqual({ value: undefined });
    expect(subscription.select('c', 'p/1', undefined)).toEqual({ value: undefined });
    expect(subscription.select('c', 'q', '{"kind":"x"}')).toBeUndefined();
    expect(subscription.select('d', 'p/1', '{}')).toBeUndefined();
  });

  it('refuses what is malformed', () => {
    for (const bad of [
      undefined,
      [],
      [{}],
      [{ contract: 1 }],
      [{ contract: 'c', what: 1 }],
      [{ contract: 'c', prefix: 'a', start: 'b' }],
      [{ contract: 'c', selector: { $where: '1' } }],
      [{ contract: 'c', selector: { $or: [{ a: { $regex: '(a+)+$' } }] } }],
    ]) {
      expect(() => compileSubscription(bad)).toThrow();
    }
    const many = Array.from({ length: 300 }, () => ({ contract: 'c' }));
    expect(() => compileSubscription(many)).toThrow(/subscriptionSelectionsMax/);
  });
});

describe('cursor', () => {
  it('is refused when altered, or another’s', () => {
    const cursor = { channel: 'main', follower: 'f', subscription: 'd', position: 42 };
    const text = signCursor(cursor, key);
    expect(verifyCursor(text, key, cursor)).toEqual(cursor);
    expect(() => verifyCursor(text, Buffer.alloc(32, 2), cursor)).toThrow(
      /not one of this network/,
    );
    expect(() => verifyCursor(text, key, { ...cursor, follower: 'g' })).toThrow(/another follower/);
    const altered = Buffer.from(JSON.stringify([1, 'main', 'f', 'd', 0])).toString('base64url');
    expect(() => verifyCursor(`${altered}.${text.split('.')[1]}`, key, cursor)).toThrow();
    expect(() => verifyCursor('', key, cursor)).toThrow();
  });
});

describe('page', () => {
  const page: Page = {
    from: 1,
    next: 9,
    cursor: 'c',
    tail: 10,
    changes: [
      { position: 2, timeMs: 0, txId: 'aa', contract: 'c', key: 'a\u0000b', content: 'x\n<&>"' },
      { position: 3, timeMs: 0, txId: 'aa', contract: 'c', key: 'é', content: undefined },
      {
        position: 3,
        timeMs: 0,
        txId: 'aa',
        contract: 'c',
        key: 'k',
        content: '/w==',
        encoding: 'base64',
      },
    ],
  };

  it('survives the wire, and is refused when cut off', () => {
    const text = encodePage(page);
    expect(decodePage(text)).toEqual(page);
    expect(decodePage(encodePage({ ...page, changes: [] })).changes).toEqual([]);
    for (let length = 0; length < text.length; length++) {
      expect(() => decodePage(text.slice(0, length))).toThrow(/cut off/);
    }
    expect(() => decodePage(text.slice(text.indexOf('\n') + 1))).toThrow(/cut off/);
  });

  it('survives the wire in its compact form, and is refused when cut off', () => {
    const text = encodeCompactPage(page);
    expect(decodePage(text)).toEqual(page);
    expect(decodePage(encodeCompactPage({ ...page, changes: [] })).changes).toEqual([]);
    for (let length = 0; length < text.length; length++) {
      expect(() => decodePage(text.slice(0, length))).toThrow(/cut off/);
    }
    expect(() => decodePage(`${text}x`)).toThrow(/cut off/);
    expect(() => decodePage(text.replace('"keys":["a', '"keys":["b","a'))).toThrow(/damaged/);
    expect(() => decodePage(text.replace('"aa","c",1]', '"aa","c",9]'))).toThrow(/damaged/);
  });

  it('is well-formed XML', () => {
    const xml = xmlPage(page);
    expect(xml).toContain('<key encoding="base64">YQBi</key>');
    expect(xml).toContain('<content>x\n&lt;&amp;&gt;"</content>');
    expect(xml).toContain('<key>é</key><deleted/>');
    expect(xml).toContain('<content encoding="base64">/w==</content>');
  });
});

describe('encryption', () => {
  it('opens with the right key only, old or new, and only the page that was asked for', async () => {
    const [old, current] = [await generateFollowerKey(), await generateFollowerKey()];
    const binding = { channel: 'main', follower: 'f', from: 7 };
    const text = await encryptPage('secret', old.publicKey, binding);
    expect(text).not.toContain('secret');
    expect(await decryptPage(text, [current.privateKey, old.privateKey], binding)).toBe('secret');
    await expect(decryptPage(text, [current.privateKey], binding)).rejects.toMatchObject({
      code: 'PAGE_ENCRYPTED',
      details: { kid: old.publicKey.kid },
    });
    for (const other of [{ from: 8 }, { follower: 'g' }, { channel: 'x' }]) {
      const wrong = decryptPage(text, [old.privateKey], { ...binding, ...other });
      await expect(wrong).rejects.toMatchObject({ code: 'PAGE_ENCRYPTED' });
    }
    const parts = text.split('.');
    parts[3] = `${parts[3]?.startsWith('A') === true ? 'B' : 'A'}${parts[3]?.slice(1)}`;
    await expect(decryptPage(parts.join('.'), [old.privateKey], binding)).rejects.toThrow(
      /altered/,
    );
    await expect(encryptPage('x', { kty: 'nothing' }, binding)).rejects.toThrow(/not a public key/);
  });
});

describe('account of followers', () => {
  const report = {
    run: 'r1',
    subscription: [{ contract: 'catalog' }],
    delivered: 5,
    applied: 3,
    encrypted: false,
    filling: false,
    parked: 0,
  };

  it('only grows within a run, starts anew with the next, and has an owner', () => {
    const registry = new FollowerRegistry([], 100, 2);
    registry.report('f', 'me', report, 1);
    expect(registry.report('f', 'me', { ...report, applied: 1 }, 2)).toMatchObject({
      appliedPosition: 3,
      appliedAtMs: 1,
      seenAtMs: 2,
    });
    expect(
      registry.report('f', 'me', { ...report, run: 'r2', applied: 1 }, 3).appliedPosition,
    ).toBe(1);
    expect(() => registry.report('f', 'you', report, 4)).toThrow(/belongs to another/);
    expect(() => registry.forget('f', 'you')).toThrow(/belongs to another/);
    registry.report('g', '', { ...report, applied: 9 }, 50);
    expect(registry.holds(60, 9).map(({ name }) => name)).toEqual(['f', 'g']);
    expect(registry.holds(60, 1).map(({ name }) => name)).toEqual(['f']);
    // Its lease is over: neither the log nor its place is kept for it.
    expect(registry.holds(120, 9).map(({ name }) => name)).toEqual(['g']);
    expect(() => registry.report('h', '', report, 60)).toThrow(/followersMax/);
    registry.report('h', '', report, 120);
    expect(registry.list().map(({ name }) => name)).toEqual(['g', 'h']);
  });

  it('survives a restart, and a damaged file', async () => {
    const disk = memoryDisk();
    const registry = new FollowerRegistry([], 100);
    registry.report('f', 'me', report, 1);
    await disk.writeFile('/r', registry.encode());
    expect((await readRegistry(disk, '/r', 100)).get('f')?.appliedPosition).toBe(3);
    await disk.writeFile('/r', Buffer.from('{'));
    expect((await readRegistry(disk, '/r', 100)).list()).toEqual([]);
  });

  it('says whether all hold the same, as of which position', async () => {
    const ledger = new TestLedger();
    ledger.append([{ a: '1' }, { b: '2' }]);
    const followers = await memoryFollowers(ledger);
    const request = { run: 'r', subscription: [{ contract: 'catalog' }], applied: 4096 };
    followers.applied('one', '', request);
    followers.applied('two', '', { ...request, applied: 1 });
    const status = await followers.status();
    expect(status).toMatchObject({
      tail: 4096,
      inStep: false,
      appliedByAll: 1,
      followers: [
        { name: 'one', inStep: true, lagChanges: 0 },
        { name: 'two', inStep: false, lagChanges: 1 },
      ],
    });
    followers.applied('two', '', request);
    const newer = await followers.status();
    expect(mergeStatus([newer, status])).toMatchObject({ appliedByAll: 4096, inStep: true });
    // With something parked it does not hold the same.
    followers.applied('two', '', { ...request, parked: 1 });
    expect(await followers.status()).toMatchObject({ inStep: false, appliedByAll: 4096 });
    followers.applied('two', '', { ...request, parked: 0 });
    // Asked about a position, the answer is about that one, though the ledger has gone on.
    ledger.append([{ c: '3' }]);
    expect(await followers.status(4096)).toMatchObject({ tail: 4096, inStep: true });
    expect(await followers.status()).toMatchObject({
      tail: 8192,
      inStep: false,
      appliedByAll: 4096,
    });
    // A node that lags waits for the position it is asked about.
    const waiting = followers.status(3 * 4096);
    ledger.append([{ c: '4' }]);
    const later = await waiting;
    expect(later).toMatchObject({ tail: 3 * 4096, inStep: false });
    expect(later.followers.map(({ lagChanges }) => lagChanges)).toEqual([2, 2]);
    // Answers about an older position do not count.
    expect(mergeStatus([later, newer])).toMatchObject({ tail: 3 * 4096, inStep: false });
    await followers.close();
  });

  it('gives one follower no more than its part of the pulls', async () => {
    const ledger = new TestLedger();
    const followers = await memoryFollowers(ledger);
    const request = { run: 'r', subscription: [{ contract: 'catalog' }], waitMs: 300 };
    const pulls = Array.from({ length: 20 }, () => followers.pull('greedy', '', request));
    const outcomes = Promise.allSettled(pulls);
    await expect(pulls[19]).rejects.toMatchObject({
      code: 'OVERLOADED',
      details: { limit: 'followerPullsEachMax' },
    });
    const other = followers.pull('other', '', request);
    ledger.append([{ a: '1' }]);
    expect(decodePage((await other).body).changes).toHaveLength(1);
    expect((await outcomes).filter(({ status }) => status === 'fulfilled')).toHaveLength(16);
    await followers.close();
  });

  it('asks for a refill when the subscription is another than the cursor’s', async () => {
    const ledger = new TestLedger();
    ledger.append([{ a: '1' }]);
    const followers = await memoryFollowers(ledger);
    const request = { run: 'r', subscription: [{ contract: 'catalog' }] };
    const { cursor } = decodePage((await followers.pull('f', '', request)).body);
    const other = { ...request, subscription: [{ contract: 'catalog', prefix: 'b' }], cursor };
    await expect(followers.pull('f', '', other)).rejects.toMatchObject({
      code: 'FOLLOWER_REFILL',
      details: { reason: 'subscription-changed' },
    });
    await followers.close();
  });
});
