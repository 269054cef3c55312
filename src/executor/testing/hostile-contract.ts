import type { ContractBundle } from '../../model/index.ts';

/** A contract that tries to take its process with it, and a harmless function. */
export const hostileBundle: ContractBundle = {
  name: 'hostile',
  version: '1',
  options: { readYourWrites: false, indexes: {} },
  source: '',
};

/** Its source, as a package that can be bundled. */
export const hostileSource = `
'use strict';
const { Contract } = require('fabric-contract-api');

class Hostile extends Contract {
  async good(ctx, key) {
    const before = Number((await ctx.stub.getState(key)).toString() || '0');
    await ctx.stub.putState(key, Buffer.from(String(before + 1)));
    return String(before + 1);
  }
  async loop() {
    for (;;) {}
  }
  async heap() {
    const hoard = [];
    for (;;) hoard.push(new Array(1000).fill({ text: 'x' + hoard.length }));
  }
  async buffers() {
    const hoard = [];
    for (;;) hoard.push(Buffer.alloc(16 * 1024 * 1024, hoard.length));
  }
  async huge() {
    const list = [];
    for (let size = 2 ** 20; ; size *= 2) list.push('x'.repeat(size).split('').join('-'));
  }
  async rejection(ctx, key) {
    await ctx.stub.putState(key, Buffer.from('1'));
    Promise.reject(new Error('nobody catches this'));
    return 'done';
  }
  async deep() {
    const down = (n) => down(n + 1) + 1;
    return String(down(0));
  }
}
module.exports.contracts = [Hostile];
`;
