import type { SourceMachine } from './source-machine.ts';
import type { SourceChange } from './source-model.ts';
import { SimulationFailure } from './world.ts';

/** What the contract does with changes, and how the ledger is asked about it. */
export const captureFunction = 'apply';
/** Keys of an entity's content, and of its last revision. */
export function entityKey(source: string, entity: string): string {
  return `o${source}/${entity}`;
}
export function revisionKey(source: string, entity: string): string {
  return `q${source}/${entity}`;
}

/** Changes of sources in the order in which the ledger executed them. */
export class CapturedChanges {
  /** By source: what took effect in one transaction of the ledger. */
  readonly #effects = new Map<string, SourceChange[][]>();
  readonly #revisions = new Map<string, number>();

  /** A valid record of {@link captureFunction}, in log order. */
  take([source = '', changes = '[]']: readonly string[]): void {
    const effective = (JSON.parse(changes) as SourceChange[]).filter(({ entity, revision }) => {
      const key = revisionKey(source, entity);
      if ((this.#revisions.get(key) ?? -1) >= revision) return false;
      this.#revisions.set(key, revision);
      return true;
    });
    if (effective.length === 0) return;
    const known = this.#effects.get(source);
    if (known === undefined) this.#effects.set(source, [effective]);
    else known.push(effective);
  }

  /**
   * Every transaction of the source took effect once, whole, and in order; the ledger holds what the
   * source's table holds.
   *
   * @throws {SimulationFailure}
   */
  check({ name, model }: SourceMachine, rows: ReadonlyMap<string, string>): void {
    const text = (changes: readonly SourceChange[] | undefined): string => JSON.stringify(changes);
    const effects = this.#effects.get(name) ?? [];
    const once = new Set(effects.map(text));
    for (const commit of model.commits) {
      if (!once.has(text(commit))) wrong(`${name}: ${text(commit)} did not take effect as it was`);
    }
    if (effects.length !== model.commits.length) {
      wrong(`${name} committed ${model.commits.length} times, ${effects.length} took effect`);
    }
    const last = new Map<string, number>();
    for (const { entity, revision } of effects.flat()) {
      if ((last.get(entity) ?? -1) >= revision)
        wrong(`${name}: ${entity} went back to ${revision}`);
      last.set(entity, revision);
    }
    for (const entity of last.keys()) {
      const held = rows.get(entityKey(name, entity));
      const there = model.table.get(entity);
      if (held !== there) wrong(`${name}: ${entity} is ${held} here and ${there} there`);
    }
  }
}

function wrong(what: string): never {
  throw new SimulationFailure('correctness', `source: ${what}`);
}
