import { setTimeout as sleep } from 'node:timers/promises';
import { decodeBlock, decodeSignedMetadata } from '../../src/blocks/index.ts';

/** Waits until it holds; 90 seconds at most, unless told otherwise. */
export async function until(holds: () => Promise<boolean>, waitMs = 90_000): Promise<void> {
  const untilMs = performance.now() + waitMs;
  while (!(await holds())) {
    if (performance.now() > untilMs) throw new Error('not in time');
    await sleep(100);
  }
}

/**
 * Waits until every node has the block that is now the newest of any, and compares all blocks of all
 * nodes, byte for byte but for the signatures. Returns what differs.
 *
 * @param gateways - their URLs.
 */
export async function differentBlocks(gateways: readonly string[]): Promise<string[]> {
  const heights = async (): Promise<number[]> => Promise.all(gateways.map(heightAt));
  const top = Math.max(...(await heights())) - 1;
  try {
    await until(async () => Math.min(...(await heights())) > top);
  } catch {
    return [`blocks of the nodes end at ${(await heights()).join()}`];
  }
  const different: string[] = [];
  for (let height = 0; height <= top; height++) {
    const shown = await Promise.all(gateways.map((gateway) => blockAt(gateway, height)));
    if (new Set(shown).size > 1) different.push(`block ${height} is not the same on all nodes`);
  }
  return different;
}

/**
 * How often each of the transactions stands in a node's chain, marked valid. What has left the log
 * can be looked up nowhere else.
 */
export async function timesInChain(
  gateway: string,
  txIds: readonly string[],
): Promise<Map<string, number>> {
  const times = new Map(txIds.map((txId) => [txId, 0]));
  const end = await heightAt(gateway);
  for (let height = 0; height < end; height++) {
    const { envelopes, metadata } = decodeBlock(await blockBytes(gateway, height));
    for (const [index, envelope] of envelopes.entries()) {
      if (metadata[transactionsFilter]?.[index] !== 0) continue;
      // The identifier stands in the header, before all that the transaction wrote.
      const header = Buffer.from(envelope).subarray(0, 4096);
      for (const [txId, count] of times) {
        if (header.includes(txId)) times.set(txId, count + 1);
      }
    }
  }
  return times;
}

const transactionsFilter = 2;

/** 0 while the node has no chain to show. */
async function heightAt(gateway: string): Promise<number> {
  const answer = await fetch(`${gateway}/v1/channels/main/blocks?limit=1`);
  const { height } = (await answer.json()) as { height?: number };
  return height ?? 0;
}

async function blockAt(gateway: string, height: number): Promise<string> {
  const { header, envelopes, metadata } = decodeBlock(await blockBytes(gateway, height));
  const { value } = decodeSignedMetadata(metadata[0] as Buffer);
  return JSON.stringify([header, envelopes, value, metadata.slice(1)]);
}

async function blockBytes(gateway: string, height: number): Promise<Buffer> {
  const answer = await fetch(`${gateway}/v1/channels/main/blocks/${height}`);
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (!answer.ok) throw new Error(`no block ${height} from ${gateway}: ${bytes.toString()}`);
  return bytes;
}
