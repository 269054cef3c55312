import { join } from 'node:path';
import type { RootClaim, RootVerdict, RowDamage } from '../../blocks/index.ts';
import type { Disk } from '../../io/index.ts';
import type { MspConfig } from '../../model/index.ts';

/** Where a repair stands; on disk, so that it goes on after a restart. Plain JSON. */
export interface RepairRecord {
  /** `asked`: the state must not be used; `restored`: it is to be compared; `halted`: nothing helps. */
  readonly state: 'asked' | 'restored' | 'halted';
  /** For people. */
  readonly reason: string;
  /** Directory with what was found. */
  readonly evidence: string;
  /** Who may sign statements: as the node knew it before it doubted its state. */
  readonly msps: readonly MspConfig[];
  /** Number of its blocks when it was found to differ. */
  readonly height: number;
  /** What the node claimed then. */
  readonly own?: RootClaim;
  /** The differing rows have been looked for: reading a damaged store may end the process. */
  readonly compared?: boolean;
}

/** Why a node doubts its state. */
export type Doubt =
  | Extract<RootVerdict, { kind: 'differs' }>
  | { readonly kind: 'damaged'; readonly damage: RowDamage }
  /** Its chain cannot be made any further from what it has. */
  | { readonly kind: 'stuck'; readonly reason: string };

/** A sentence for people. */
export function sentenceOf(doubt: Doubt): string {
  if (doubt.kind === 'differs') {
    const { height, own, majority, nodes } = doubt;
    return (
      `after ${height} blocks the state root is ${own.stateRoot.slice(0, 16)} here and ` +
      `${majority.stateRoot.slice(0, 16)} at ${nodes.join(', ')}`
    );
  }
  if (doubt.kind === 'stuck') return doubt.reason;
  const { kind, key, keyHash, version, reason } = doubt.damage;
  if (kind === 'unreadable') return `the rows cannot be read: ${reason ?? ''}`;
  const name =
    key === undefined
      ? `with key hash ${keyHash.slice(0, 16)}`
      : Buffer.from(key, 'base64').toString('utf8').replace('\0', '/');
  const at = version === undefined ? '' : ` (version ${version})`;
  return `the row ${name}${at} is ${kind}: it is not the one of the state tree`;
}

const fileName = 'record.json';

/** The repair directory of a node: `record.json` while one is under way, and an `evidence-…` each. */
export class RepairDirectory {
  readonly #disk: Disk;
  readonly path: string;

  /** @param nodeDirectory - of the node. */
  constructor(disk: Disk, nodeDirectory: string) {
    this.#disk = disk;
    this.path = join(nodeDirectory, 'repair');
  }

  async read(): Promise<RepairRecord | undefined> {
    const bytes = await this.#disk.readFile(join(this.path, fileName));
    return bytes && (JSON.parse(bytes.toString('utf8')) as RepairRecord);
  }

  async write(record: RepairRecord): Promise<void> {
    await this.#disk.makeDirectory(this.path);
    await this.#disk.writeFile(join(this.path, fileName), pretty(record));
  }

  /** The repair is over; its record stays with the evidence. */
  async finish(record: RepairRecord): Promise<void> {
    await this.#disk.writeFile(join(record.evidence, 'repaired.json'), pretty(record));
    await this.#disk.remove(join(this.path, fileName));
  }

  /** Makes a directory for evidence and fills it. */
  async keep(nowMs: number, files: Readonly<Record<string, Uint8Array | object>>): Promise<string> {
    const time = new Date(nowMs).toISOString().replaceAll(/[:.]/g, '-');
    const directory = join(this.path, `evidence-${time}`);
    await this.#disk.makeDirectory(directory);
    await this.add(directory, files);
    return directory;
  }

  async add(
    directory: string,
    files: Readonly<Record<string, Uint8Array | object>>,
  ): Promise<void> {
    for (const [name, content] of Object.entries(files)) {
      const bytes = content instanceof Uint8Array ? content : pretty(content);
      await this.#disk.writeFile(join(directory, name), bytes);
    }
  }

  /** When earlier repairs began, milliseconds since 1970. */
  async times(): Promise<number[]> {
    const names = await this.#disk.list(this.path);
    return names.flatMap((name) => {
      const digits = /^evidence-(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z$/.exec(name);
      if (digits === null) return [];
      const [, day, hours, minutes, seconds, millis] = digits;
      return [Date.parse(`${day}T${hours}:${minutes}:${seconds}.${millis}Z`)];
    });
  }
}

function pretty(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`);
}
