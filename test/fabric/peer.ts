import { isUtf8 } from 'node:buffer';
import { createHash, verify, X509Certificate } from 'node:crypto';
import { common, ledger, msp, peer } from '@hyperledger/fabric-protos';

/*
 * How a peer of Fabric 2 validates endorser transactions, written from Fabric's rules alone, on
 * Fabric's own protobuf classes: no code of the ledger takes part. The test beside it lets it judge
 * the blocks of a real network first, whose peer's verdicts are known.
 */

const { TxReadWriteSet } = ledger.rwset;
const { KVRWSet } = ledger.rwset.kvrwset;

/** Fabric's `TxValidationCode`s that occur here. */
const codes = {
  valid: 0,
  badCommonHeader: 2,
  badCreatorSignature: 4,
  invalidEndorserTransaction: 5,
  badProposalTxId: 8,
  duplicateTxId: 9,
  endorsementPolicyFailure: 10,
  mvccReadConflict: 11,
  phantomReadConflict: 12,
  targetChainNotFound: 14,
  illegalWriteSet: 22,
  badPayload: 1,
  badRwset: 23,
  invalidChaincode: 25,
  invalidOther: 255,
} as const;

/** A refusal with Fabric's code. */
class Refused extends Error {
  readonly code: number;

  constructor(code: number, why: string) {
    super(why);
    this.code = code;
  }
}

interface Version {
  readonly block: number;
  readonly transaction: number;
}

interface Row {
  readonly value: Buffer;
  readonly version: Version;
}

/** One signed message: whose, and whether the signature holds is known. */
interface Signed {
  readonly identity: Buffer;
  readonly message: Buffer;
  readonly signature: Buffer;
}

/** Fields of a protobuf message that Fabric's package has no class for. */
function fieldOf(bytes: Buffer, wanted: number): Buffer {
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at] as number;
    // Numbers here are small, and lengths below 16,384.
    if (tag % 8 === 0) {
      at += 2;
      continue;
    }
    let length = bytes[at + 1] as number;
    at += 2;
    if (length >= 0x80) length = (length & 0x7f) + (bytes[at++] as number) * 0x80;
    if (tag >> 3 === wanted) return bytes.subarray(at, at + length);
    at += length;
  }
  return Buffer.alloc(0);
}

function bytesOf(value: Uint8Array | string): Buffer {
  return Buffer.from(value as Uint8Array);
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** A peer that follows one channel from its first block on. */
export class FabricPeer {
  /** Why the transactions of the last block were refused, by number. */
  readonly reasons = new Map<number, string>();
  readonly #state = new Map<string, Row>();
  readonly #txIds = new Set<string>();
  readonly #roots = new Map<string, X509Certificate[]>();
  readonly #policies = new Map<string, common.Policy>();
  #channel = '';
  #application: readonly string[] = [];
  #previous: Buffer | undefined;

  /** Validates and commits the next block; one code per transaction. */
  commit(bytes: Uint8Array): number[] {
    const block = common.Block.deserializeBinary(bytes);
    const header = block.getHeader();
    const data = block.getData()?.getDataList_asU8() ?? [];
    if (header === undefined) throw new Error('a block without a header');
    if (!sha256(...data).equals(bytesOf(header.getDataHash_asU8()))) throw new Error('data hash');
    const previous = this.#previous ?? Buffer.alloc(0);
    if (!previous.equals(bytesOf(header.getPreviousHash_asU8()))) throw new Error('previous hash');
    this.#previous = headerHash(header);
    this.reasons.clear();
    const number = header.getNumber();
    const validated = data.map((envelope, at) => this.#judge(at, () => this.#validate(envelope)));
    const seen = new Set<string>();
    const flags = validated.map((outcome, at) => {
      if (typeof outcome === 'number') return outcome;
      return this.#toCode(at, () => {
        if (seen.has(outcome.txId)) throw new Refused(codes.duplicateTxId, 'twice in the block');
        seen.add(outcome.txId);
      });
    });
    // Reads are checked in order, against what valid transactions before have written.
    const updates = new Map<string, Row | undefined>();
    for (const [at, outcome] of validated.entries()) {
      if (typeof outcome === 'number' || flags[at] !== codes.valid) continue;
      flags[at] = this.#toCode(at, () => this.#checkReads(outcome.sets, updates));
      if (flags[at] !== codes.valid) continue;
      for (const { namespace, rows } of outcome.sets) {
        for (const write of rows.getWritesList()) {
          const row = {
            value: bytesOf(write.getValue_asU8()),
            version: { block: number, transaction: at },
          };
          updates.set(`${namespace}\0${write.getKey()}`, write.getIsDelete() ? undefined : row);
        }
      }
    }
    for (const [key, row] of updates) {
      if (row === undefined) this.#state.delete(key);
      else this.#state.set(key, row);
    }
    // A transaction id is spent once it stands in a block, valid or not.
    for (const envelope of data) this.#txIds.add(txIdOf(envelope));
    return flags;
  }

  #judge<T>(at: number, run: () => T): T | number {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.reasons.set(at, error.message);
      return error.code;
    }
  }

  #toCode(at: number, run: () => void): number {
    const outcome = this.#judge(at, run);
    return typeof outcome === 'number' ? outcome : codes.valid;
  }

  #validate(bytes: Uint8Array): number | { txId: string; sets: NamespaceSet[] } {
    const envelope = common.Envelope.deserializeBinary(bytes);
    const payloadBytes = bytesOf(envelope.getPayload_asU8());
    const payload = common.Payload.deserializeBinary(payloadBytes);
    const header = payload.getHeader();
    if (header === undefined) throw new Refused(codes.badCommonHeader, 'no header');
    const channelHeader = common.ChannelHeader.deserializeBinary(header.getChannelHeader_asU8());
    if (channelHeader.getType() === common.HeaderType.CONFIG) {
      this.#configure(channelHeader.getChannelId(), bytesOf(payload.getData_asU8()));
      return codes.valid;
    }
    const signatureHeader = common.SignatureHeader.deserializeBinary(
      header.getSignatureHeader_asU8(),
    );
    const creator = bytesOf(signatureHeader.getCreator_asU8());
    const nonce = bytesOf(signatureHeader.getNonce_asU8());
    if (
      channelHeader.getType() !== common.HeaderType.ENDORSER_TRANSACTION ||
      channelHeader.getEpoch() !== 0 ||
      creator.length === 0 ||
      nonce.length === 0
    ) {
      throw new Refused(codes.badCommonHeader, 'header');
    }
    const signature = bytesOf(envelope.getSignature_asU8());
    if (!this.#holds({ identity: creator, message: payloadBytes, signature })) {
      throw new Refused(codes.badCreatorSignature, 'the creator’s signature over the payload');
    }
    const txId = channelHeader.getTxId();
    if (sha256(nonce, creator).toString('hex') !== txId) {
      throw new Refused(codes.badProposalTxId, 'the transaction id');
    }
    const action = endorsedAction(payload, header);
    if (channelHeader.getChannelId() !== this.#channel) {
      throw new Refused(codes.targetChainNotFound, 'another channel');
    }
    if (this.#txIds.has(txId)) throw new Refused(codes.duplicateTxId, 'the id is spent');
    const sets = this.#dispatch(channelHeader, action);
    return { txId, sets };
  }

  /** The checks of a transaction against the definitions and policies of its chaincodes. */
  #dispatch(channelHeader: common.ChannelHeader, action: Action): NamespaceSet[] {
    const extension = peer.ChaincodeHeaderExtension.deserializeBinary(
      channelHeader.getExtension_asU8(),
    );
    const results = TxReadWriteSet.deserializeBinary(action.chaincode.getResults_asU8());
    const invoked = extension.getChaincodeId()?.getName() ?? '';
    const executed = action.chaincode.getChaincodeId();
    if (invoked === '' || invoked !== executed?.getName() || executed.getVersion() === '') {
      throw new Refused(codes.invalidChaincode, 'chaincode name or version');
    }
    const eventBytes = action.chaincode.getEvents_asU8();
    if (eventBytes.length > 0) {
      const event = peer.ChaincodeEvent.deserializeBinary(eventBytes);
      if (event.getChaincodeId() !== invoked) throw new Refused(codes.invalidOther, 'the event');
    }
    const sets: NamespaceSet[] = [];
    for (const set of results.getNsRwsetList()) {
      const namespace = set.getNamespace();
      if (sets.some((other) => other.namespace === namespace)) {
        throw new Refused(codes.illegalWriteSet, `${namespace} twice`);
      }
      checkTexts(bytesOf(set.getRwset_asU8()));
      sets.push({ namespace, rows: KVRWSet.deserializeBinary(set.getRwset_asU8()) });
    }
    const written = sets.filter(({ rows }) => rows.getWritesList().length > 0);
    for (const namespace of new Set([invoked, ...written.map((set) => set.namespace)])) {
      const policy = this.#policyOf(namespace);
      const signers = action.endorsements.filter((one) => this.#holds(one));
      const identities = [
        ...new Map(signers.map((one) => [one.identity.toString('hex'), one.identity])),
      ];
      if (
        !this.#satisfies(
          policy,
          identities.map(([, identity]) => identity),
        )
      ) {
        throw new Refused(codes.endorsementPolicyFailure, `the policy of ${namespace}`);
      }
    }
    return sets;
  }

  /** Path of the policy that transactions of a namespace must satisfy. */
  #policyOf(namespace: string): string {
    if (namespace === '_lifecycle') return '/Channel/Application/LifecycleEndorsement';
    const field = (name: string): Buffer | undefined =>
      this.#state.get(`_lifecycle\0namespaces/fields/${namespace}/${name}`)?.value;
    const validation = field('ValidationInfo');
    if (field('Sequence') === undefined || validation === undefined) {
      throw new Refused(codes.invalidChaincode, `no definition of ${namespace}`);
    }
    const info = fieldOf(validation, 2);
    const plugin = fieldOf(info, 1).toString();
    const policy = common.ApplicationPolicy.deserializeBinary(fieldOf(info, 2));
    if (plugin !== 'vscc') throw new Refused(codes.invalidChaincode, `plugin ${plugin}`);
    return policy.getChannelConfigPolicyReference();
  }

  #satisfies(path: string, identities: readonly Buffer[]): boolean {
    const policy = this.#policies.get(path);
    if (policy === undefined) return false;
    if (policy.getType() === common.Policy.PolicyType.IMPLICIT_META) {
      const meta = common.ImplicitMetaPolicy.deserializeBinary(policy.getValue_asU8());
      const parts = this.#application.map((organisation) =>
        this.#satisfies(`/Channel/Application/${organisation}/${meta.getSubPolicy()}`, identities),
      );
      const held = parts.filter(Boolean).length;
      const { ANY, ALL } = common.ImplicitMetaPolicy.Rule;
      if (meta.getRule() === ANY) return held > 0;
      if (meta.getRule() === ALL) return held === parts.length;
      return held > parts.length / 2;
    }
    const envelope = common.SignaturePolicyEnvelope.deserializeBinary(policy.getValue_asU8());
    const rule = envelope.getRule();
    const used = new Set<number>();
    const holds = (part: common.SignaturePolicy): boolean => {
      if (part.hasNOutOf()) {
        const { n, rulesList } = {
          n: part.getNOutOf()?.getN() ?? 0,
          rulesList: part.getNOutOf()?.getRulesList() ?? [],
        };
        return rulesList.filter((one) => holds(one)).length >= n;
      }
      const principal = envelope.getIdentitiesList()[part.getSignedBy()];
      const found = identities.findIndex(
        (identity, at) => !used.has(at) && principal !== undefined && isA(identity, principal),
      );
      if (found >= 0) used.add(found);
      return found >= 0;
    };
    return rule !== undefined && holds(rule);
  }

  #checkReads(sets: readonly NamespaceSet[], updates: ReadonlyMap<string, Row | undefined>): void {
    for (const { namespace, rows } of sets) {
      for (const read of rows.getReadsList()) {
        const key = `${namespace}\0${read.getKey()}`;
        // Whatever version it names: an update in the same block is a conflict.
        if (updates.has(key) || !same(this.#state.get(key)?.version, versionOf(read))) {
          throw new Refused(codes.mvccReadConflict, `read of ${namespace}/${read.getKey()}`);
        }
      }
    }
    for (const { namespace, rows } of sets) {
      for (const range of rows.getRangeQueriesInfoList()) {
        const start = `${namespace}\0${range.getStartKey()}`;
        const end =
          range.getEndKey() === '' ? `${namespace}\u0001` : `${namespace}\0${range.getEndKey()}`;
        const beyond = (key: string): boolean =>
          range.getItrExhausted() || range.getEndKey() === ''
            ? compare(key, end) >= 0
            : compare(key, end) > 0;
        const found = [...this.#state.keys(), ...updates.keys()].filter(
          (key) => compare(key, start) >= 0 && !beyond(key),
        );
        const expected = (range.getRawReads()?.getKvReadsList() ?? []).map((read) => ({
          key: `${namespace}\0${read.getKey()}`,
          version: versionOf(read),
        }));
        const keys = [...new Set(found)].sort(compare);
        const unchanged =
          keys.length === expected.length &&
          keys.every(
            (key, at) =>
              key === expected[at]?.key &&
              !updates.has(key) &&
              same(this.#state.get(key)?.version, expected[at]?.version),
          );
        if (!unchanged) throw new Refused(codes.phantomReadConflict, `range in ${namespace}`);
      }
    }
  }

  /** Whether a signature holds: a certificate of the channel's, ECDSA in low-S form. */
  #holds({ identity, message, signature }: Signed): boolean {
    try {
      const { mspId, certificate } = readIdentity(identity);
      const roots = this.#roots.get(mspId) ?? [];
      const issued = roots.some((root) => certificate.verify(root.publicKey));
      return (
        issued && isLow(signature) && verify('sha256', message, certificate.publicKey, signature)
      );
    } catch {
      return false;
    }
  }

  #configure(channel: string, data: Buffer): void {
    this.#channel = channel;
    const root = common.ConfigEnvelope.deserializeBinary(data).getConfig()?.getChannelGroup();
    if (root === undefined) throw new Error('a configuration without groups');
    const walk = (group: common.ConfigGroup, path: string): void => {
      group.getPoliciesMap().forEach((entry: common.ConfigPolicy, name: string) => {
        const policy = entry.getPolicy();
        if (policy !== undefined) this.#policies.set(`${path}/${name}`, policy);
      });
      const value = group.getValuesMap().get('MSP')?.getValue_asU8();
      if (value !== undefined) {
        const config = msp.MSPConfig.deserializeBinary(value);
        const fabric = msp.FabricMSPConfig.deserializeBinary(config.getConfig_asU8());
        const roots = fabric.getRootCertsList_asU8().map((pem) => new X509Certificate(pem));
        this.#roots.set(fabric.getName(), roots);
      }
      group.getGroupsMap().forEach((nested: common.ConfigGroup, name: string) => {
        walk(nested, `${path}/${name}`);
      });
      if (path === '/Channel/Application') {
        this.#application = [...group.getGroupsMap().keys()] as string[];
      }
    };
    walk(root, '/Channel');
  }
}

interface NamespaceSet {
  readonly namespace: string;
  readonly rows: InstanceType<typeof KVRWSet>;
}

interface Action {
  readonly chaincode: peer.ChaincodeAction;
  readonly endorsements: readonly Signed[];
}

/** The one action of a transaction, its proposal hash checked. */
function endorsedAction(payload: common.Payload, header: common.Header): Action {
  const refuse = (why: string): never => {
    throw new Refused(codes.invalidEndorserTransaction, why);
  };
  const transaction = peer.Transaction.deserializeBinary(payload.getData_asU8());
  const [action, ...more] = transaction.getActionsList();
  if (action === undefined || more.length > 0) return refuse('actions');
  const actionHeader = common.SignatureHeader.deserializeBinary(action.getHeader_asU8());
  if (actionHeader.getNonce_asU8().length === 0 || actionHeader.getCreator_asU8().length === 0) {
    return refuse('the action’s header');
  }
  const actionPayload = peer.ChaincodeActionPayload.deserializeBinary(action.getPayload_asU8());
  const endorsed = actionPayload.getAction();
  if (endorsed === undefined) return refuse('no endorsed action');
  const responseBytes = bytesOf(endorsed.getProposalResponsePayload_asU8());
  const response = peer.ProposalResponsePayload.deserializeBinary(responseBytes);
  const hash = sha256(
    header.getChannelHeader_asU8(),
    action.getHeader_asU8(),
    actionPayload.getChaincodeProposalPayload_asU8(),
  );
  if (!hash.equals(bytesOf(response.getProposalHash_asU8()))) return refuse('the proposal hash');
  return {
    chaincode: peer.ChaincodeAction.deserializeBinary(response.getExtension_asU8()),
    endorsements: endorsed.getEndorsementsList().map((endorsement) => {
      const identity = bytesOf(endorsement.getEndorser_asU8());
      const message = Buffer.concat([responseBytes, identity]);
      return { identity, message, signature: bytesOf(endorsement.getSignature_asU8()) };
    }),
  };
}

function txIdOf(bytes: Uint8Array): string {
  const envelope = common.Envelope.deserializeBinary(bytes);
  const payload = common.Payload.deserializeBinary(envelope.getPayload_asU8());
  const header = payload.getHeader()?.getChannelHeader_asU8() ?? new Uint8Array();
  return common.ChannelHeader.deserializeBinary(header).getTxId();
}

function readIdentity(bytes: Buffer): { mspId: string; certificate: X509Certificate } {
  const identity = msp.SerializedIdentity.deserializeBinary(bytes);
  return {
    mspId: identity.getMspid(),
    certificate: new X509Certificate(identity.getIdBytes_asU8()),
  };
}

/** Whether an identity is what a principal asks for; roles other than member are node OUs. */
function isA(identity: Buffer, principal: msp.MSPPrincipal): boolean {
  if (principal.getPrincipalClassification() !== msp.MSPPrincipal.Classification.ROLE) return false;
  const role = msp.MSPRole.deserializeBinary(principal.getPrincipal_asU8());
  const { mspId, certificate } = readIdentity(identity);
  if (role.getMspIdentifier() !== mspId) return false;
  if (role.getRole() === msp.MSPRole.MSPRoleType.MEMBER) return true;
  const names: Readonly<Record<number, string>> = {
    1: 'admin',
    2: 'client',
    3: 'peer',
    4: 'orderer',
  };
  return certificate.subject.split('\n').includes(`OU=${names[role.getRole()]}`);
}

const halfOrder = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551') / 2n;

function isLow(der: Buffer): boolean {
  const s = der.subarray(4 + (der[3] as number) + 2);
  return BigInt(`0x${s.toString('hex')}`) <= halfOrder;
}

/** ASN.1: SEQUENCE { INTEGER number, OCTET STRING previous, OCTET STRING data }. */
function headerHash(header: common.BlockHeader): Buffer {
  let digits = header.getNumber().toString(16);
  if (digits.length % 2 === 1) digits = `0${digits}`;
  let number = Buffer.from(digits, 'hex');
  if ((number[0] as number) >= 0x80) number = Buffer.concat([Buffer.of(0), number]);
  const previous = header.getPreviousHash_asU8();
  const data = header.getDataHash_asU8();
  const body = Buffer.concat([
    Buffer.of(0x02, number.length),
    number,
    Buffer.of(0x04, previous.length),
    previous,
    Buffer.of(0x04, data.length),
    data,
  ]);
  return sha256(Buffer.of(0x30, body.length), body);
}

/** Go refuses messages whose strings are not UTF-8: every key here is such a string. */
function checkTexts(set: Buffer): void {
  const rows = KVRWSet.deserializeBinary(set);
  const keys = [...rows.getReadsList(), ...rows.getWritesList()].map((row) => row.getKey());
  // The decoder puts U+FFFD in the place of what is not UTF-8.
  if (keys.some((key) => key.includes('\ufffd')) || keys.some((key) => !isUtf8(Buffer.from(key)))) {
    throw new Refused(codes.badRwset, 'a key is not UTF-8');
  }
}

function versionOf(read: InstanceType<typeof ledger.rwset.kvrwset.KVRead>): Version | undefined {
  const version = read.getVersion();
  return version === undefined
    ? undefined
    : { block: version.getBlockNum(), transaction: version.getTxNum() };
}

function same(left: Version | undefined, right: Version | undefined): boolean {
  return left?.block === right?.block && left?.transaction === right?.transaction;
}

/** Keys are ordered by their UTF-8 bytes. */
function compare(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}
