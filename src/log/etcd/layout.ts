import { assert, DaybookError } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';

/*
 * Which address lies on which unit. Pure. A layout is a chain of segments: a reconfiguration at tail
 * T leaves the addresses below T where they are and puts those from T on onto the next set of units.
 */

/** One log unit: an etcd cluster, known by etcd's own cluster id. */
export interface LayoutUnit {
  readonly id: string;
  readonly endpoints: readonly string[];
}

/** From `from` on (to the next segment) addresses are striped over `units`. */
export interface Segment {
  readonly from: Address;
  /** Ids; the address `from + n` lies on unit `n % units.length`. */
  readonly units: readonly string[];
}

/** Layouts follow one another by generation; each is decided once and never changed. */
export interface Layout {
  /** Random name of the log: tells a cluster that holds another one. */
  readonly log: string;
  readonly generation: number;
  /** Epoch of the log at the time of the change: with it a new unit starts. */
  readonly epoch: number;
  /** Trim point of the log at the time of the change. */
  readonly trim: Address;
  readonly segments: readonly Segment[];
  /** Every unit named in a segment. */
  readonly units: readonly LayoutUnit[];
}

/** The first layout of a log. */
export function foundingLayout(log: string, units: readonly LayoutUnit[]): Layout {
  return {
    log,
    generation: 1,
    epoch: 0,
    trim: asAddress(0),
    segments: [{ from: asAddress(0), units: units.map((unit) => unit.id) }],
    units,
  };
}

/**
 * The successor of `layout`: from `change.tail` on, addresses lie on `change.units`. Segments that
 * end at or before the trim point are left out, and so are units that no segment needs.
 *
 * @param change.tail - the tail of the log while every unit of `layout` is sealed.
 */
export function nextLayout(
  layout: Layout,
  change: { tail: Address; trim: Address; epoch: number; units: readonly LayoutUnit[] },
): Layout {
  assert(change.units.length > 0, 'a layout needs a unit');
  assert(change.tail >= lastSegment(layout).from, 'the tail lies before the last segment');
  const old = layout.segments.filter((segment, index) => {
    const end = Math.min(layout.segments[index + 1]?.from ?? change.tail, change.tail);
    return end > segment.from && end > change.trim;
  });
  const segments = [...old, { from: change.tail, units: change.units.map((unit) => unit.id) }];
  const known = new Map(layout.units.map((unit) => [unit.id, unit]));
  for (const unit of change.units) known.set(unit.id, unit);
  const used = new Set(segments.flatMap((segment) => segment.units));
  return {
    log: layout.log,
    generation: layout.generation + 1,
    epoch: change.epoch,
    trim: change.trim,
    segments: joined(segments),
    units: [...known.values()].filter((unit) => used.has(unit.id)),
  };
}

/** The unit of an address; `undefined` before the first segment, where all is trimmed. */
export function unitOf(layout: Layout, address: Address): string | undefined {
  const segment = layout.segments[segmentIndex(layout, address)];
  if (segment === undefined) return undefined;
  return segment.units[(address - segment.from) % segment.units.length];
}

/** The first address at or after `from` that lies on `unit`; `undefined` when none ever will. */
export function firstOnUnit(layout: Layout, unit: string, from: Address): Address | undefined {
  for (let at = Math.max(segmentIndex(layout, from), 0); at < layout.segments.length; at++) {
    const segment = layout.segments[at] as Segment;
    const stripe = segment.units.indexOf(unit);
    if (stripe < 0) continue;
    const start = Math.max(from, segment.from);
    const count = segment.units.length;
    const ahead = (((stripe - (start - segment.from)) % count) + count) % count;
    const end = layout.segments[at + 1]?.from ?? Number.MAX_SAFE_INTEGER;
    if (start + ahead < end) return asAddress(start + ahead);
  }
  return undefined;
}

/** The last address before `before` that lies on `unit`; `undefined` when none does. */
export function lastOnUnit(layout: Layout, unit: string, before: Address): Address | undefined {
  let end = before;
  for (let at = segmentIndex(layout, before); at >= 0; at--) {
    const segment = layout.segments[at] as Segment;
    const stripe = segment.units.indexOf(unit);
    const count = segment.units.length;
    const back = (end - 1 - segment.from - stripe) % count;
    const last = end - 1 - (back < 0 ? back + count : back);
    if (stripe >= 0 && last >= segment.from) return asAddress(last);
    end = segment.from;
  }
  return undefined;
}

/** The segment that new entries go to. */
export function lastSegment(layout: Layout): Segment {
  return layout.segments[layout.segments.length - 1] as Segment;
}

/** The unit that decides the layout's successor and holds leadership and registrations. */
export function homeUnit(layout: Layout): string {
  return lastSegment(layout).units[0] as string;
}

/** JSON, as stored in etcd. */
export function encodeLayout(layout: Layout): Buffer {
  return Buffer.from(JSON.stringify(layout), 'utf8');
}

/** @throws {DaybookError} `LOG_DAMAGED` */
export function decodeLayout(value: Uint8Array): Layout {
  try {
    const layout = JSON.parse(Buffer.from(value).toString('utf8')) as Layout;
    assert(layout.segments.length > 0 && layout.units.length > 0, 'an empty layout');
    return layout;
  } catch (cause) {
    throw new DaybookError('LOG_DAMAGED', 'a stored layout is damaged', { cause });
  }
}

function segmentIndex(layout: Layout, address: Address): number {
  return layout.segments.findLastIndex((segment) => segment.from <= address);
}

/** Neighbours that continue the same stripes become one segment. */
function joined(segments: readonly Segment[]): Segment[] {
  const result: Segment[] = [];
  for (const segment of segments) {
    const before = result[result.length - 1];
    const continues =
      before !== undefined &&
      before.units.length === segment.units.length &&
      before.units.every((unit, index) => unit === segment.units[index]) &&
      (segment.from - before.from) % segment.units.length === 0;
    if (!continues) result.push(segment);
  }
  return result;
}
