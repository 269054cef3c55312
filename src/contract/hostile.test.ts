import { describe, expect, it } from 'vitest';
import { bundleOf, Harness, sampleOf } from './testing/harness.ts';

/*
 * A contract that reaches any object of the outer realm has won: the object's
 * `constructor.constructor` compiles code outside. `probe` finds out whether a value is an outer one.
 */
const probe = `
const seen = [];
function probe(value) {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return;
  let root = value;
  for (let up = value; up !== null && (typeof up === 'object' || typeof up === 'function'); ) {
    root = up;
    up = Object.getPrototypeOf(up);
  }
  if (root !== Object.prototype && Object.getPrototypeOf(root) === null && typeof root.constructor === 'function') {
    seen.push('outer ' + String(root.constructor));
  }
}
function verdict() { return seen.length === 0 ? 'inside' : seen.join(); }
`;

async function inside(methods: string, before = ''): Promise<Harness> {
  return new Harness([await sampleOf(methods, probe + before)]);
}

describe('a contract cannot leave its realm', () => {
  it('through constructors of anything it is given', async () => {
    const harness = await inside(`
      async walk(ctx) {
        const found = new Set();
        const todo = [globalThis, ctx, ctx.stub, ctx.clientIdentity, ctx.logging, require, process, module, exports, console, Buffer, this];
        while (todo.length > 0) {
          const value = todo.pop();
          if (value === null || (typeof value !== 'object' && typeof value !== 'function')) continue;
          if (found.has(value)) continue;
          found.add(value);
          probe(value);
          try { todo.push(Object.getPrototypeOf(value)); } catch (error) { todo.push(error); }
          for (const key of Reflect.ownKeys(value)) {
            const descriptor = Reflect.getOwnPropertyDescriptor(value, key);
            todo.push(descriptor.value, descriptor.get, descriptor.set);
            try { todo.push(value[key]); } catch (error) { todo.push(error); }
          }
        }
        return verdict() + ' ' + (found.size > 500);
      }`);
    expect(await harness.result('walk')).toBe('inside true');
  });

  it('through code made from strings', async () => {
    const harness = await inside(`
      async make(ctx) {
        const results = [];
        for (const maker of [
          () => Function('return process')(),
          () => (async () => {}).constructor('return process')(),
          () => (function* () {}).constructor('return process')(),
          () => Object.constructor.constructor('return this')(),
          () => ctx.stub.getState.constructor('return this')(),
          () => [].map.constructor('return this')(),
          () => globalThis.eval('1'),
          () => (0, eval)('1'),
        ]) {
          try { results.push(typeof maker()); } catch (error) { probe(error); results.push('refused'); }
        }
        return [...new Set(results)].join() + ' ' + verdict();
      }`);
    expect(await harness.result('make')).toBe('refused inside');
  });

  it('through promises and errors of stub calls', async () => {
    const harness = await inside(`
      async all(ctx) {
        const calls = [
          () => ctx.stub.getState('a'), () => ctx.stub.getState(''), () => ctx.stub.getState({}),
          () => ctx.stub.getState(Symbol()), () => ctx.stub.putState('a', 5), () => ctx.stub.putState('a', new Proxy(new Uint8Array(4), {})),
          () => ctx.stub.putState('a'), () => ctx.stub.getStateByRange('\\u0000', 'z'), () => ctx.stub.getStateByRange({}, []),
          () => ctx.stub.getQueryResult('{'), () => ctx.stub.getQueryResult({ selector: 1 }), () => ctx.stub.getHistoryForKey('a'),
          () => ctx.stub.invokeChaincode('none', []), () => ctx.stub.updateRange({ prefix: 'a' }, '{}', '{}'), () => ctx.stub.updateRange('a', {}, {}),
          () => ctx.stub.getPrivateData('a', 'b'), () => ctx.stub.getStateByRangeWithPagination('', '', -1),
          () => ctx.stub.getTxTimestamp(), () => ctx.stub.getSignedProposal(), () => ctx.stub.getCreator(),
          () => ctx.clientIdentity.getID(), () => ctx.stub.setEvent('', 1), () => require(['f', 's'].join('')),
        ];
        for (const call of calls) {
          try {
            const pending = call();
            probe(pending);
            const value = await pending;
            probe(value);
            if (value && value.next) { const row = await value.next(); probe(row); probe(row.value); probe(value.next()); }
          } catch (error) { probe(error); }
        }
        return verdict();
      }`);
    expect(await harness.result('all')).toBe('inside');
    const second = await inside(`
      async some(ctx) {
        for (const call of [
          () => ctx.stub.getState('a'), () => ctx.stub.getState({}), () => ctx.stub.putState('a', new Proxy(new Uint8Array(4), {})),
          () => ctx.stub.putState('a', Object.create(Buffer.prototype)), () => Buffer.prototype.toString.call({}),
          () => Buffer.prototype.toString.call(new Proxy(Buffer.from('a'), {})), () => Buffer.from(Symbol()),
          () => new TextDecoder().decode({}), () => require('crypto').createHash('nonsense').update('a').digest(),
          () => ctx.stub.getStateByRange({}, []), () => ctx.stub.getHistoryForKey('a'), () => ctx.stub.getPrivateData('a', 'b'),
        ]) {
          try { const value = await call(); probe(value); if (value && value.next) probe(await value.next()); }
          catch (error) { probe(error); }
        }
        return verdict();
      }`);
    expect(await second.result('some')).toBe('inside');
  });

  it('through exceptions at the end of the stack', async () => {
    const harness = await inside(`
      async deep(ctx) {
        const caught = [];
        const attempts = [
          () => ctx.stub.getTxID(), () => ctx.stub.getBinding(), () => Buffer.from('x').toString(),
          () => Buffer.from('\\u00e9').toString(), () => console.log('x'), () => new Date(), () => ctx.clientIdentity.getMSPID(),
          () => new Error('x').stack, () => { throw new Error('y'); }, () => ctx.stub.setEvent('e', 'x'), () => Buffer.alloc(10),
          () => require('crypto').createHash('sha256').update('x').digest('hex'),
        ];
        for (const attempt of attempts) {
          // From every depth near the end, so that each frame inside the attempt overflows once.
          const dive = () => {
            try { dive(); } catch (error) { caught.push(error); }
            try { probe(attempt()); } catch (error) { caught.push(error); }
          };
          try { dive(); } catch (error) { caught.push(error); }
          for (const error of caught) probe(error);
          caught.length = 0;
        }
        return verdict();
      }`);
    expect(await harness.result('deep')).toBe('inside');
  });

  it('through hooks for error stacks', async () => {
    const harness = await inside(`
      async hook(ctx) {
        let called = 'never called';
        const hook = (error, sites) => { called = 'called'; probe(sites); for (const site of sites) { probe(site); probe(site.getThis()); probe(site.getFunction()); } };
        try { Error.prepareStackTrace = hook; } catch (error) { probe(error); }
        try { globalThis.Error = { prepareStackTrace: hook }; } catch (error) { probe(error); }
        try { Object.defineProperty(globalThis, 'Error', { value: { prepareStackTrace: hook } }); } catch (error) { probe(error); }
        try { Error.stackTraceLimit = 50; } catch (error) { probe(error); }
        try { Object.defineProperty(Error, 'stackTraceLimit', { value: 50 }); } catch (error) { probe(error); }
        const errors = [new Error('x'), new TypeError('y'), {}];
        Error.captureStackTrace(errors[2]);
        try { null.x; } catch (error) { errors.push(error); }
        try { await ctx.stub.getState(''); } catch (error) { errors.push(error); }
        return called + ' ' + errors.map((error) => typeof error.stack).join() + ' ' + verdict();
      }`);
    expect(await harness.result('hook')).toBe(
      'never called undefined,undefined,undefined,undefined,undefined inside',
    );
  });

  it('through import()', async () => {
    const harness = await inside(`
      async load(ctx, how) {
        try {
          const pending = how === 'dynamic' ? import(how) : import('./' + how);
          probe(pending);
          probe(await pending);
        } catch (error) { probe(error); }
        return verdict();
      }`);
    expect(await harness.result('load', 'dynamic')).toBe('inside');
    expect(await harness.result('load', 'fs')).toBe('inside');
  });

  it('through import() in a bundle made by hand', () => {
    const source = `
      class C { constructor() { this.__isContract = true; } getName() { return 'C'; } createContext() { return { setChaincodeStub() {}, setClientIdentity() {} }; }
        beforeTransaction() {} aroundTransaction() {} afterTransaction() {} unknownTransaction() {}
        async go() { const pending = import('node:fs'); return String(Object.getPrototypeOf(Object.getPrototypeOf(pending)) === Object.prototype); } }
      module.exports = { user: { contracts: [C] }, api: { Contract: C, JSONSerializer: class { toBuffer() {} } } };`;
    const bundle = {
      name: 'sample',
      version: '1',
      source,
      options: { readYourWrites: false, indexes: {} },
    };
    const harness = new Harness([bundle]);
    return harness.call('go').then((outcome) => {
      expect(JSON.stringify(outcome)).not.toContain('false"');
    });
  });

  it('through methods of built-ins that it replaced', async () => {
    const harness = await inside(
      `
      async all(ctx, argument) {
        const { stub } = ctx;
        await stub.putState('k', Buffer.from('v'));
        await stub.getState('k');
        for await (const row of stub.getStateByRange('', '')) probe(row);
        stub.createCompositeKey('t', ['a']);
        stub.splitCompositeKey('\\u0000t\\u0000a\\u0000');
        stub.getSignedProposal();
        stub.getBufferArgs();
        stub.setEvent('e', Buffer.from('x'));
        console.log('x', {});
        try { ctx.clientIdentity.getID(); } catch (error) { probe(error); }
        return verdict();
      }`,
      `
      const targets = [Object, Function.prototype, Array.prototype, Promise.prototype, String.prototype, RegExp.prototype, Map.prototype,
        Reflect, JSON, Object.prototype, Number.prototype, Promise, Array, WeakMap.prototype, Symbol.prototype, Math];
      for (const target of targets) {
        for (const key of Reflect.ownKeys(target)) {
          const descriptor = Object.getOwnPropertyDescriptor(target, key);
          if (typeof descriptor.value !== 'function' || key === 'constructor' || !descriptor.writable) continue;
          const original = descriptor.value;
          if (original === Object.getPrototypeOf || original === Reflect.apply || original === Array.prototype.push) continue;
          Object.defineProperty(target, key, { ...descriptor, value: function (...args) {
            if (new.target) return new original(...args);
            spy(this, args);
            return Reflect.apply(original, this, args);
          } });
        }
      }
      let busy = false;
      function spy(self, args) {
        if (busy) return;
        busy = true;
        try { probe(self); for (let at = 0; at < args.length; at++) probe(args[at]); } finally { busy = false; }
      }`,
    );
    expect(await harness.result('all', 'x')).toBe('inside');
  });

  it('through objects in place of texts, which the host would convert', async () => {
    const harness = await inside(`
      async odd(ctx) {
        const trap = { toString() { console.log('converted outside'); return '{}'; } };
        JSON.stringify = () => trap;
        Array.prototype[Symbol.iterator] = function* () { yield trap; };
        const results = [];
        const attempts = [
          () => ctx.stub.getQueryResult({}), () => ctx.stub.getState(trap), () => ctx.stub.putState(trap, 'x'), () => ctx.stub.setEvent(trap, 'x'),
          () => ctx.stub.getStateByRangeWithPagination('a', 'b', 5, Symbol()), () => ctx.stub.getHistoryForKey(trap),
          () => ctx.stub.getStateByRangeWithPagination('a', 'b', trap), () => require('crypto').createHash('sha256').update(trap),
        ];
        for (let at = 0; at < attempts.length; at++) {
          try { probe(await attempts[at]()); results[results.length] = 'done'; } catch (error) { probe(error); results[results.length] = 'refused'; }
        }
        let text = '';
        for (let at = 0; at < results.length; at++) text += results[at] + ' ';
        return text + verdict();
      }`);
    expect(await harness.result('odd')).toBe(`${'refused '.repeat(8)}inside`);
    expect(harness.logged).toEqual([]);
  });

  it('through symbols that Node looks for when it prints', async () => {
    const harness = await inside(`
      async print() {
        const inspect = Symbol.for('nodejs.util.inspect.custom');
        const error = new Error('with hooks');
        for (const target of [error, Error.prototype, Object.prototype]) {
          Object.defineProperty(target, inspect, { value: (...args) => { for (const one of args) probe(one); console.log('inspected'); return 'x'; }, configurable: true });
        }
        console.log(error);
        throw error;
      }
      async after() { return verdict(); }`);
    expect(await harness.refusal('print')).toBe('CONTRACT_REJECTED: with hooks');
    expect(await harness.result('after')).toBe('inside');
    expect(harness.logged).toEqual(['log Error: with hooks']);
  });

  it('by reading its own call’s arguments or callers', async () => {
    const bundle = await bundleOf({
      'index.js': `
        const { Contract } = require('fabric-contract-api');
        ${probe}
        module.exports = class Sample extends Contract {
          async sloppy() {
            function caller() {
              try { probe(caller.caller); probe(caller.arguments); probe(caller.caller && caller.caller.caller); probe(this); } catch (error) { probe(error); }
            }
            caller();
            return verdict();
          }
        };`,
    });
    expect(await new Harness([bundle]).result('sloppy')).toBe('inside');
  });
});

describe('a contract cannot get at time, chance or the machine', () => {
  it('has none of the globals that lead there', async () => {
    const harness = await inside(`
      async names() {
        return ['setTimeout', 'setInterval', 'setImmediate', 'fetch', 'performance', 'crypto', 'WebAssembly', 'SharedArrayBuffer',
          'Atomics', 'WeakRef', 'FinalizationRegistry', 'Intl', 'XMLHttpRequest', 'WebSocket', 'navigator', 'gc']
          .filter((name) => typeof globalThis[name] !== 'undefined').join();
      }`);
    expect(await harness.result('names')).toBe('');
  });

  it('gets a typed error for Math.random and modules of Node', async () => {
    const harness = await inside(`
      async random() { return Math.random(); }
      async module() { const name = 'f' + 's'; return require(name); }
      async caught() { try { return Math.random(); } catch { return 'fallback'; } }`);
    expect(await harness.refusal('random')).toMatch(/^CONTRACT_NONDETERMINISTIC: Math\.random/);
    expect(await harness.refusal('module')).toMatch(/^CONTRACT_NONDETERMINISTIC: the module 'fs'/);
    expect(await harness.result('caught')).toBe('fallback');
  });
});

describe('a contract that does not stop', () => {
  it('is ended when it awaits what will not happen', async () => {
    const harness = await inside(`
      async forever() { await new Promise(() => {}); }
      async fine() { return 'fine'; }`);
    const [stuck, next] = await Promise.all([harness.refusal('forever'), harness.result('fine')]);
    expect(stuck).toMatch(/^CONTRACT_REJECTED: the contract never finishes/);
    expect(next).toBe('fine');
  });

  it('cannot write after its call has ended', async () => {
    const harness = await inside(`
      async leave(ctx) {
        Promise.resolve().then(() => Promise.resolve()).then(() => Promise.resolve()).then(() => Promise.resolve()).then(() => Promise.resolve())
          .then(() => ctx.stub.putState('late', 'x')).catch((error) => console.log(error.message));
        return 'done';
      }
      async read(ctx) { return ctx.stub.getState('late'); }`);
    expect(await harness.result('leave')).toBe('done');
    await new Promise((resolve) => setImmediate(resolve));
    expect(harness.state.texts('sample')).toEqual({});
    expect(harness.logged).toEqual(['log the transaction has already ended']);
  });
});

describe('memory of buffers', () => {
  const hogs: Record<string, string> = {
    'typed array': 'const kept = []; for (;;) kept.push(new Uint8Array(1 << 20));',
    'one big buffer': 'return new ArrayBuffer(1 << 30).byteLength;',
    'buffer alloc': 'const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20));',
    subclass:
      'class Mine extends Float64Array {} const kept = []; for (;;) kept.push(new Mine(1 << 20));',
    slices:
      'const one = new Uint8Array(1 << 20); const kept = []; for (;;) kept.push(one.slice());',
    'slices of a buffer without constructor':
      'const one = new Uint8Array(1 << 20); one.constructor = undefined; const kept = []; for (;;) kept.push(one.slice());',
    'slices of an array buffer':
      'const one = new ArrayBuffer(1 << 20); const kept = []; for (;;) kept.push(one.slice(0));',
    copies:
      'const one = new Uint8Array(1 << 20); const kept = []; for (;;) kept.push(one.toReversed());',
    from: 'const kept = []; for (;;) kept.push(Float64Array.from({ length: 1 << 16 }));',
    'the constructor behind Buffer':
      'const Plain = Object.getPrototypeOf(Buffer); const kept = []; for (;;) kept.push(new Plain(1 << 20));',
    'the constructor of an instance':
      'const Plain = Buffer.from("x").constructor; const kept = []; for (;;) kept.push(Plain.allocUnsafe(1 << 20));',
    texts:
      'const kept = []; const text = "x".repeat(1 << 20); for (;;) kept.push(Buffer.from(text));',
    caught: 'for (;;) { try { new Uint8Array(1 << 28); } catch (error) { return "went on"; } }',
    'a length that changes':
      'const kept = []; let turn = 0; for (;;) kept.push(new ArrayBuffer({ valueOf: () => (turn++ % 2 === 0 ? 0 : 1 << 20), toString: () => "1048576" }, { maxByteLength: 1 << 30 }));',
  };

  it.each(Object.keys(hogs).filter((name) => name !== 'a length that changes'))(
    'is limited: %s',
    async (name) => {
      const harness = await inside(`async hog(ctx) { ${hogs[name]} } async ok() { return 'ok'; }`);
      expect(await harness.refusal('hog')).toMatch(/^CONTRACT_MEMORY: contractBufferBytesMax/);
      expect(await harness.result('ok')).toBe('ok');
    },
  );

  it('takes the length that was counted', async () => {
    const harness = await inside(`
      async odd() {
        let turn = 0;
        const length = { valueOf: () => (turn++ === 0 ? 8 : 1 << 30) };
        const made = new ArrayBuffer(length, { maxByteLength: 1 << 30 });
        return made.byteLength + ' ' + made.resizable + ' ' + turn;
      }`);
    expect(await harness.result('odd')).toBe('8 false 1');
  });
});
