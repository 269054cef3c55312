/** What a node has signed about its chain at a height. Hashes in hexadecimal. */
export interface RootClaim {
  readonly node: string;
  /** Number of blocks that it covers. */
  readonly height: number;
  readonly blockHash: string;
  readonly stateRoot: string;
  /** Covers every record with its verdict. */
  readonly historyRoot: string;
}

/** What the nodes together say about one of them. */
export type RootVerdict =
  /** Most nodes have what this one has. */
  | { readonly kind: 'agrees'; readonly height: number }
  /** Most nodes have the same, and this one has something else. */
  | {
      readonly kind: 'differs';
      readonly height: number;
      readonly own: RootClaim;
      readonly majority: RootClaim;
      /** Those who claim it. */
      readonly nodes: readonly string[];
    }
  /** No majority at this height: too few answer, or there are too many opinions. */
  | { readonly kind: 'open'; readonly height: number };

/** So many nodes are more than half of `members`. */
export function majorityOf(members: number): number {
  return Math.floor(members / 2) + 1;
}

/**
 * Heights at which a node is to be compared, greatest first, until most say the same: the greatest
 * that it has together with enough others for a majority, then those at which slower nodes have a
 * voice, too. Otherwise one that is wrong would stay unnoticed for as long as one that is right lags.
 *
 * @param own - number of blocks of the node.
 * @param others - of those that answer.
 * @param members - nodes of the network, those that do not answer and the node itself included.
 */
export function heightsToCompare(
  own: number,
  others: readonly number[],
  members: number,
): number[] {
  const heights = [own, ...others].sort((left, right) => right - left);
  const shared = heights.slice(majorityOf(members) - 1).map((height) => Math.min(own, height));
  return [...new Set(shared)].filter((height) => height > 0);
}

/**
 * Compares a node's claim with those of others at the same height. Pure; one voice for each node.
 *
 * @param members - as for {@link heightsToCompare}: nodes that are silent count, too, so that a
 *   minority that is cut off from the others never finds itself right.
 */
export function compareRoots(
  own: RootClaim,
  others: readonly RootClaim[],
  members: number,
): RootVerdict {
  const { height } = own;
  const needed = majorityOf(members);
  const found = majorityClaim([own, ...others], height, needed);
  if (found === undefined) return { kind: 'open', height };
  const { claim, nodes } = found;
  if (sameState(claim, own)) return { kind: 'agrees', height };
  return { kind: 'differs', height, own, majority: claim, nodes };
}

/** What at least `needed` different nodes claim about a height; `undefined`: nothing. */
export function majorityClaim(
  claims: readonly RootClaim[],
  height: number,
  needed: number,
): { readonly claim: RootClaim; readonly nodes: readonly string[] } | undefined {
  const voices = new Map<string, { claim: RootClaim; nodes: Set<string> }>();
  const heard = new Set<string>();
  for (const claim of claims) {
    if (claim.height !== height || heard.has(claim.node)) continue;
    heard.add(claim.node);
    const what = stateOf(claim);
    const voice = voices.get(what) ?? { claim, nodes: new Set() };
    voice.nodes.add(claim.node);
    voices.set(what, voice);
  }
  for (const { claim, nodes } of voices.values()) {
    if (nodes.size >= needed) return { claim, nodes: [...nodes] };
  }
  return undefined;
}

/** Whether two claims are about the same chain and state. */
export function sameState(left: RootClaim, right: RootClaim): boolean {
  return stateOf(left) === stateOf(right);
}

function stateOf({ blockHash, stateRoot, historyRoot }: RootClaim): string {
  return `${blockHash} ${stateRoot} ${historyRoot}`;
}
