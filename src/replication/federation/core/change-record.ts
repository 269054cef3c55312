/**
 * Where a change comes from: the node that made it and that node's number for it (USN). USNs of a
 * node are 1, 2, 3, … without gaps, because a number is taken in the commit that makes the change.
 *
 * @see UDDI 3.0.2, §7.3 (change records).
 */
export interface ChangeId {
  readonly origin: string;
  readonly usn: number;
}

/** What an entity is: a tModel is never removed, only hidden. */
export type EntityKind = 'business' | 'tModel' | 'assertion';

/**
 * One datum of the registry: a business with its services and bindings, a tModel, or one side of a
 * publisher assertion. It has one custodian, and only the custodian's node changes it.
 */
export interface Entity {
  readonly key: string;
  readonly kind: EntityKind;
  /** Node that has custody. A change that names another node than its origin hands it over. */
  readonly owner: string;
  /** Who published it at the custodian's node. */
  readonly publisher: string;
  /** Keys that lie inside: of services and bindings. Sorted. */
  readonly innerKeys: readonly string[];
  /** Keys that it refers to, outside itself. Sorted. */
  readonly references: readonly string[];
  readonly hidden: boolean;
  readonly createdMs: number;
  readonly modifiedMs: number;
  /** In the form of the registry on top; the protocol does not look into it. */
  readonly content: unknown;
}

/** What a change record says. After-images only: applying twice is applying once. */
export type Payload =
  | { readonly type: 'null' }
  | { readonly type: 'newData'; readonly entity: Entity }
  /** Takes effect with a later `newData`, when all members have acknowledged it. */
  | { readonly type: 'conditional'; readonly entity: Entity }
  | {
      readonly type: 'delete';
      readonly key: string;
      readonly kind: EntityKind;
      readonly modifiedMs: number;
      /** Of an assertion: what it said. */
      readonly content?: unknown;
    }
  | { readonly type: 'hide'; readonly key: string; readonly modifiedMs: number }
  | { readonly type: 'acknowledge'; readonly of: ChangeId }
  /** A conditional can never take effect, or a record was quarantined by the sender. */
  | { readonly type: 'conditionFailed'; readonly of: ChangeId; readonly reason: string }
  /** Stands in for an earlier record of the same origin that others could not apply. */
  | { readonly type: 'correction'; readonly of: ChangeId; readonly payload: Payload }
  | {
      readonly type: 'member';
      readonly node: string;
      /** The node that takes over custody and key space of `node`, which leaves. */
      readonly heir?: string;
    }
  /** Asks all others to hear no more of a member that is gone for good. */
  | {
      readonly type: 'expel';
      readonly node: string;
      readonly heir: string;
      /** Its operator vouches that the node is dead: no majority is needed. */
      readonly vouched: boolean;
    }
  /** Answers an `expel`: the sender takes nothing from the node itself any more. */
  | { readonly type: 'frozen'; readonly of: ChangeId; readonly mark: number }
  /** The node has left, and `final` is its last USN: it leaves the vector. */
  | {
      readonly type: 'retired';
      readonly node: string;
      readonly heir: string;
      readonly final: number;
    };

/** An origin's signature of one of its records; see `service/signing.ts`. */
export interface OriginSignature {
  /** SHA-256 of the payload in canonical form, hexadecimal. */
  readonly digest: string;
  /** SHA-256 fingerprint of the origin's certificate, hexadecimal. */
  readonly certificate: string;
  /** Base64. */
  readonly value: string;
}

/** One line of a journal. */
export interface ChangeRecord extends ChangeId {
  /** Every member answers with an `acknowledge` or a `conditionFailed`. */
  readonly acknowledgementRequested: boolean;
  readonly payload: Payload;
  /** Of received records; own ones are signed when they are sent. */
  readonly signature?: OriginSignature;
}

/** The highest USN known of each origin. */
export type Vector = Readonly<Record<string, number>>;

/** `origin#usn`, for messages and lookups by people. */
export function changeText(id: ChangeId): string {
  return `${id.origin}#${id.usn}`;
}
