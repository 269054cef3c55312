import { X509Certificate } from 'node:crypto';
import { bytestringOfText } from '../../base/index.ts';
import {
  blockRuleDefaults,
  type ChannelConfig,
  headerTypes,
  ProtoMessage,
  ProtoWriter,
  signingProofField,
  writeTimestamp,
} from '../../model/index.ts';
import { encodeSignatureHeader } from './block.ts';

/** Name of the configuration value that holds Daybook's own configuration, verbatim. */
export const daybookConfigValue = 'Daybook';

/** What a configuration envelope is written from. */
export interface ConfigEnvelopeSource {
  readonly config: ChannelConfig;
  /** The configuration as it lies in the log. */
  readonly configJson: string;
  readonly timestampMs: number;
  /** Serialised identity of the administrator, and the signature over `configSigningBytes`. */
  readonly creator: Uint8Array;
  readonly signature: Uint8Array;
}

/**
 * A channel configuration as an envelope of type CONFIG: a `common.ConfigEnvelope` whose groups
 * name the organisations with their root certificates and the policies that follow from `access`.
 * Daybook's configuration itself stands verbatim in the value `Daybook`.
 */
export function encodeConfigEnvelope(source: ConfigEnvelopeSource): Buffer {
  const { config } = source;
  const channelHeader = new ProtoWriter(256);
  channelHeader.bytestring(4, bytestringOfText(config.channel));
  writeTimestamp(channelHeader, source.timestampMs);
  channelHeader.varint(1, headerTypes.config);

  const writer = new ProtoWriter(16 * 1024);
  writer.bytes(signingProofField, source.signature);
  const payloadEnd = writer.length;
  // Payload.data = ConfigEnvelope{config: Config{sequence, channel_group}}
  writer.raw(channelGroup(config, source.configJson)).message(2, payloadEnd);
  writer.varint(1, config.sequence).message(1, payloadEnd).message(2, payloadEnd);
  const headerEnd = writer.length;
  writer.bytes(2, encodeSignatureHeader(source.creator, new Uint8Array()));
  writer.bytes(1, channelHeader.view()).message(1, headerEnd);
  return writer.message(1, payloadEnd).finish();
}

/** Daybook's configuration (JSON) out of {@link encodeConfigEnvelope}'s `Payload.data`. */
export function readConfigJson(data: Uint8Array): string | undefined {
  const root = new ProtoMessage(data, 'config envelope').message(1, 'config').message(2, 'group');
  for (const entry of root.repeated(3)) {
    const value = new ProtoMessage(entry, 'config value');
    if (value.text(1) === daybookConfigValue) return value.message(2, 'value').text(2);
  }
  return undefined;
}

interface Group {
  readonly groups?: Readonly<Record<string, Group>>;
  readonly values?: Readonly<Record<string, Buffer>>;
  /** Policy name → `common.Policy`. */
  readonly policies?: Readonly<Record<string, Buffer>>;
}

function channelGroup(config: ChannelConfig, configJson: string): Buffer {
  const rule = config.blocks ?? blockRuleDefaults;
  const { submit, deploy, administer } = config.access;
  const everyone = config.msps.map((msp) => msp.mspId);
  const standard = {
    Readers: signaturePolicy(everyone),
    Writers: signaturePolicy(submit),
    Admins: signaturePolicy(administer),
  };
  const organisations = Object.fromEntries(
    config.msps.map((msp) => {
      const members = signaturePolicy([msp.mspId]);
      const group: Group = {
        values: { MSP: mspValue(msp.mspId, msp.rootCertificates) },
        policies: { Readers: members, Writers: members, Admins: members, Endorsement: members },
      };
      return [msp.mspId, group];
    }),
  );
  return encodeGroup({
    groups: {
      Application: {
        groups: organisations,
        values: { Capabilities: capabilities('V2_0') },
        policies: {
          ...standard,
          Endorsement: signaturePolicy(submit),
          LifecycleEndorsement: signaturePolicy(deploy),
        },
      },
      Orderer: {
        groups: organisations,
        values: {
          BatchSize: message((writer) =>
            writer.varint(3, rule.bytesMax).varint(2, rule.bytesMax).varint(1, rule.recordsMax),
          ),
          Capabilities: capabilities('V2_0'),
          ConsensusType: message((writer) => writer.bytestring(1, 'daybook')),
        },
        policies: { ...standard, BlockValidation: signaturePolicy(everyone) },
      },
    },
    values: {
      BlockDataHashingStructure: message((writer) => writer.varint(1, 0xffff_ffff)),
      Capabilities: capabilities('V2_0'),
      [daybookConfigValue]: Buffer.from(configJson, 'utf8'),
      HashingAlgorithm: message((writer) => writer.bytestring(1, 'SHA256')),
    },
    policies: standard,
  });
}

/** `common.ConfigGroup`; map entries in the order of their keys, so that bytes are one. */
function encodeGroup(group: Group): Buffer {
  return message((writer) => {
    writer.bytestring(5, 'Admins');
    eachDescending(group.policies, (name, policy) => {
      const end = writer.length;
      writer.bytestring(3, 'Admins').bytes(2, policy).message(2, end);
      writer.bytestring(1, name).message(4, end);
    });
    eachDescending(group.values, (name, value) => {
      const end = writer.length;
      writer.bytestring(3, 'Admins').bytes(2, value).message(2, end);
      writer.bytestring(1, name).message(3, end);
    });
    eachDescending(group.groups, (name, nested) => {
      const end = writer.length;
      writer.bytes(2, encodeGroup(nested)).bytestring(1, bytestringOfText(name)).message(2, end);
    });
  });
}

function eachDescending<T>(
  entries: Readonly<Record<string, T>> | undefined,
  visit: (name: string, value: T) => void,
): void {
  const names = Object.keys(entries ?? {}).sort();
  for (const name of names.reverse()) visit(name, (entries as Record<string, T>)[name] as T);
}

/** `msp.MSPConfig` of type FABRIC (0) with a `FabricMSPConfig`. */
function mspValue(mspId: string, rootCertificates: readonly string[]): Buffer {
  return message((writer) => {
    const cryptoEnd = writer.length;
    writer.bytestring(2, 'SHA256').bytestring(1, 'SHA2').message(8, cryptoEnd);
    for (const pem of rootCertificates.toReversed()) {
      writer.bytes(2, Buffer.from(new X509Certificate(pem).toString(), 'utf8'));
    }
    writer.bytestring(1, bytestringOfText(mspId)).message(2, 0);
  });
}

/** `common.Policy` of type SIGNATURE: one member of any of these MSPs. */
function signaturePolicy(mspIds: readonly string[]): Buffer {
  return message((writer) => {
    for (const mspId of mspIds.toReversed()) {
      // MSPPrincipal{classification: ROLE (0), principal: MSPRole{msp_identifier, MEMBER (0)}}
      const end = writer.length;
      writer.bytestring(1, bytestringOfText(mspId)).message(2, end).message(3, end);
    }
    const ruleEnd = writer.length;
    for (let at = mspIds.length - 1; at >= 0; at--) {
      const end = writer.length;
      // `signed_by` belongs to a oneof: it is written even when 0.
      writer
        .rawVarint(at)
        .rawVarint(1 * 8)
        .message(2, end);
    }
    writer.varint(1, 1).message(2, ruleEnd).message(2, ruleEnd);
    writer.message(2, 0).varint(1, 1);
  });
}

function capabilities(name: string): Buffer {
  return message((writer) => {
    writer.message(2, 0).bytestring(1, name).message(1, 0);
  });
}

function message(write: (writer: ProtoWriter) => void): Buffer {
  const writer = new ProtoWriter(1024);
  write(writer);
  return writer.finish();
}
