import { isDaybookError, toDaybookError } from '../../base/index.ts';
import {
  type BlockService,
  type BlockStatus,
  claimOf,
  compareRoots,
  heightsToCompare,
  type RootClaim,
  type RootStatement,
  type RootVerdict,
} from '../../blocks/index.ts';
import type { Io } from '../../io/index.ts';
import type { IdentityVerifier } from '../../model/index.ts';
import { type Repeated, repeat } from '../repeat.ts';
import { askNode, type OtherNodes } from './other-nodes.ts';
import type { Doubt } from './repair-record.ts';

/** Settings of {@link watchRoots}. */
export interface RootWatchOptions {
  readonly io: Pick<Io, 'timers'>;
  readonly name: string;
  readonly others: OtherNodes;
  /** @throws {DaybookError} while it is being opened. */
  readonly blocks: () => Pick<BlockService, 'now' | 'statement' | 'alarm'>;
  readonly verifier: () => IdentityVerifier;
  /** Pause between two comparisons. */
  readonly intervalMs: number;
  /** What a comparison found, with what it found it from. `open` verdicts too. */
  readonly onVerdict: (verdict: RootVerdict, statements: readonly RootStatement[]) => void;
  /** Where the own chain stands, before each comparison. */
  readonly onStatus: (status: BlockStatus) => void;
  /** The node must not go on with its state. */
  readonly onDoubt: (doubt: Doubt, statements: readonly RootStatement[]) => void;
}

/**
 * Compares, again and again, what this node says about its state with what the others say, and looks
 * after the scrub of its rows.
 *
 * @returns what ends it.
 */
export function watchRoots(options: RootWatchOptions): Repeated {
  return repeat(options.io, options.intervalMs, async () => {
    try {
      await compareOnce(options);
    } catch (error) {
      // No chain yet, nobody answers, the process of the blocks is being started again: later.
      toDaybookError(error);
    }
  });
}

async function compareOnce(options: RootWatchOptions): Promise<void> {
  const { io, name, others, onDoubt, onStatus, onVerdict } = options;
  const blocks = await openedBlocks(options);
  if (blocks === undefined) return;
  const status = await blocks.now();
  onStatus(status);
  const damage = status.scrub?.damage;
  if (damage !== undefined) {
    onDoubt({ kind: 'damaged', damage }, []);
    return;
  }
  const nodes = await others();
  const members = nodes.length + 1;
  const { alarm } = blocks;
  if (doubtsChain(options, alarm, members)) return;
  const heights = await answers(nodes.map((node) => askNode(io, node).height()));
  // Nobody contradicts a node that is alone.
  if (members === 1) {
    onVerdict({ kind: 'agrees', height: status.height }, []);
    return;
  }
  const answered = heights.filter((one) => one !== undefined);
  for (const height of heightsToCompare(status.height, answered, members)) {
    const own: RootStatement = { node: name, block: await blocks.statement(height) };
    const able = nodes.filter((_, at) => (heights[at] ?? 0) >= height);
    const theirs = await answers(able.map((node) => askNode(io, node).statement(height)));
    const statements = [own, ...theirs.filter((one) => one !== undefined)];
    const [first, ...claims] = validClaims(statements, options.verifier());
    if (first === undefined || first.node !== name) return;
    const verdict = compareRoots(first, claims, members);
    onVerdict(verdict, statements);
    if (verdict.kind === 'differs') onDoubt(verdict, statements);
    if (verdict.kind !== 'open') return;
  }
}

/** The node's blocks; `undefined`: they cannot be opened, and others are to help. */
async function openedBlocks(
  options: RootWatchOptions,
): Promise<ReturnType<RootWatchOptions['blocks']> | undefined> {
  try {
    return options.blocks();
  } catch (error) {
    const members = (await options.others()).length + 1;
    if (doubtsChain(options, error, members)) return undefined;
    throw error;
  }
}

/**
 * Whether its chain cannot go on from what the node has, and others are to help. Where there are any,
 * that is quicker than to wait for a person.
 */
function doubtsChain({ onDoubt }: RootWatchOptions, alarm: unknown, members: number): boolean {
  if (!isDaybookError(alarm, 'BULK_ROWS_GONE', 'BLOCK_MISMATCH')) return false;
  // Of two nodes either may be the one whose chain is wrong.
  if (members < 3) return false;
  onDoubt({ kind: 'stuck', reason: alarm.message }, []);
  return true;
}

/** The claims whose signatures hold; of several that one key signed, the first. */
export function validClaims(
  statements: readonly RootStatement[],
  verifier: IdentityVerifier,
): RootClaim[] {
  const signers = new Set<string>();
  return statements.flatMap((statement) => {
    try {
      const { claim, signer } = claimOf(statement, verifier);
      if (signers.has(signer)) return [];
      signers.add(signer);
      return [claim];
    } catch {
      // Whoever cannot sign has no voice.
      return [];
    }
  });
}

/** What came of each; `undefined` where nothing did. */
export async function answers<T>(asked: readonly Promise<T>[]): Promise<(T | undefined)[]> {
  const settled = await Promise.allSettled(asked);
  return settled.map((one) => (one.status === 'fulfilled' ? one.value : undefined));
}
