'use strict';

const { Contract } = require('fabric-contract-api');

/** A transfer reduced to its cost: two reads and two writes of JSON rows. */
class Bench extends Contract {
  constructor() {
    super('Bench');
  }

  /** Moves `amount` between two rows; rows come into being with a balance of 0. */
  async move(ctx, from, to, amount) {
    const { stub } = ctx;
    const payer = parse(await stub.getState(from));
    const payee = parse(await stub.getState(to));
    const value = Number(amount);
    payer.balance -= value;
    payer.moves++;
    payee.balance += value;
    payee.moves++;
    await stub.putState(from, Buffer.from(JSON.stringify(payer)));
    await stub.putState(to, Buffer.from(JSON.stringify(payee)));
  }

  /** Writes rows `<prefix><first>` … in one transaction, to fill the state. */
  async fill(ctx, prefix, first, count) {
    const row = Buffer.from(JSON.stringify({ balance: 0, moves: 0 }));
    for (let index = Number(first); index < Number(first) + Number(count); index++) {
      await ctx.stub.putState(prefix + index, row);
    }
  }

  /** Writes rows: JSON of `[[key, content], …]`. */
  async put(ctx, rows) {
    for (const [key, content] of JSON.parse(rows)) {
      await ctx.stub.putState(key, Buffer.from(JSON.stringify(content)));
    }
  }

  /** Adds `amount` to all rows whose keys begin with `prefix`. */
  async raise(ctx, prefix, amount) {
    await ctx.stub.updateRange({ prefix }, {}, { $inc: { balance: Number(amount) } });
  }

  /** Costs CPU time: `rounds` steps of a pseudo-random sequence, then one read and one write. */
  async burn(ctx, key, rounds) {
    const row = parse(await ctx.stub.getState(key));
    let seed = row.moves + 1;
    for (let left = Number(rounds); left > 0; left--) seed = step(seed);
    row.moves++;
    row.seed = seed;
    await ctx.stub.putState(key, Buffer.from(JSON.stringify(row)));
  }

  /** The balance of a row. */
  async read(ctx, key) {
    return parse(await ctx.stub.getState(key)).balance;
  }
}

function parse(bytes) {
  return bytes.length === 0 ? { balance: 0, moves: 0 } : JSON.parse(bytes.toString());
}

function step(seed) {
  return (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
}

module.exports.contracts = [Bench];
