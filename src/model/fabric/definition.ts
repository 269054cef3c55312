import { type Bytestring, bytestringOf, bytestringOfText } from '../../base/index.ts';
import type { KeyWrite } from '../record.ts';
import { ProtoWriter } from './proto-writer.ts';

/*
 * The rows by which Fabric's peers know a chaincode. A deployment writes them beside Daybook's own,
 * so that a peer finds who may endorse, and that reads of `Sequence` in endorsed transactions mean
 * what they mean in Fabric: the definition that was in force.
 */

/** Who endorses: what the policy of that name in the channel's configuration says. */
const endorsementPolicy = '/Channel/Application/Endorsement';

/** Key, within `_lifecycle`, of the number of a contract's deployments. */
export function sequenceKey(contract: string): Bytestring {
  return bytestringOfText(`namespaces/fields/${contract}/Sequence`);
}

/**
 * The rows of a chaincode definition in Fabric's namespace `_lifecycle`, keys ascending.
 *
 * @param sequence - 1 for the first deployment, then one more each time.
 */
export function fabricDefinition(
  contract: string,
  version: string,
  sequence: number,
): { readonly key: Bytestring; readonly value: Bytestring }[] {
  const fields: readonly (readonly [string, Bytestring])[] = [
    ['Collections', stateBytes(() => undefined)],
    [
      'EndorsementInfo',
      stateBytes((writer) => {
        // lifecycle.ChaincodeEndorsementInfo{1: version, 3: endorsement_plugin}
        writer.bytestring(3, 'escc').bytestring(1, bytestringOfText(version));
      }),
    ],
    ['Sequence', encoded((writer) => writer.varint(1, sequence))],
    [
      'ValidationInfo',
      stateBytes((writer) => {
        // lifecycle.ChaincodeValidationInfo{1: plugin, 2: ApplicationPolicy{2: reference}}
        const end = writer.length;
        writer.bytestring(2, endorsementPolicy).message(2, end).bytestring(1, 'vscc');
      }),
    ],
  ];
  const prefix = bytestringOfText(`namespaces/fields/${contract}/`);
  return [
    ...fields.map(([field, value]) => ({ key: `${prefix}${field}`, value })),
    {
      key: bytestringOfText(`namespaces/metadata/${contract}`),
      // lifecycle.StateMetadata{1: datatype, 2: fields, in the order of Fabric's structure}
      value: encoded((writer) => {
        for (const field of ['Collections', 'ValidationInfo', 'EndorsementInfo', 'Sequence']) {
          writer.bytestring(2, field);
        }
        writer.bytestring(1, 'ChaincodeDefinition');
      }),
    },
  ];
}

/** Whether the writes of a namespace hold exactly these rows among them. */
export function hasRows(
  writes: readonly KeyWrite[],
  rows: readonly { readonly key: Bytestring; readonly value: Bytestring }[],
): boolean {
  return rows.every((row) =>
    writes.some(({ key, value }) => key === row.key && value === row.value),
  );
}

/** lifecycle.StateData{2: bytes}; a member of a oneof, so written even when empty. */
function stateBytes(write: (writer: ProtoWriter) => void): Bytestring {
  return encoded((writer) => {
    const end = writer.length;
    write(writer);
    writer.message(2, end);
  });
}

function encoded(write: (writer: ProtoWriter) => void): Bytestring {
  const writer = new ProtoWriter(512);
  write(writer);
  return bytestringOf(writer.view());
}
