export {
  answerApi,
  type Custody,
  type RegistryAccess,
  type Tokens,
} from './api-service.ts';
export { assertionDraft } from './assertion-draft.ts';
export { acceptTransfer, discardTransfer, offerTransfer } from './custody.ts';
export { draftOf, keyAttributes, linksOf, nameOf } from './draft.ts';
export { isScan, type Nested, type Scan, scan } from './find.ts';
export { inquiry } from './inquiry.ts';
export { type Publication, type PublicationAnswer, publication } from './publication.ts';
export {
  answerCharactersMax,
  answerReplication,
  checkEmptyAnswer,
  custodyRequest,
  envelope,
  type FullCopyPage,
  faultOf,
  fullCopyIn,
  fullCopyRequest,
  messageIn,
  notification,
  type PeerAnswer,
  pullAnswerIn,
  pullRequest,
  type ReplicatedRegistry,
  recordsInAnswer,
  recordsPerAnswerMax,
} from './replication-service.ts';
export { checkShape } from './shapes.ts';
export {
  apiXml,
  custodyXml,
  recordElement,
  recordOf,
  replicationXml,
  vectorElement,
  vectorOf,
} from './wire.ts';
export { messageCharactersMax, parseXml } from './xml.ts';
export { childOf, childText, element, writeXml, type XmlElement } from './xml-element.ts';
