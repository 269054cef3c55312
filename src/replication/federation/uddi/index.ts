export { answerApi, type RegistryAccess } from './api-service.ts';
export { draftOf, keyAttributes, linksOf, nameOf } from './draft.ts';
export {
  answerReplication,
  envelope,
  faultOf,
  messageIn,
  notification,
  pullRequest,
  type ReplicatedRegistry,
  recordsInAnswer,
  recordsPerAnswerMax,
} from './replication-service.ts';
export { checkShape } from './shapes.ts';
export {
  apiXml,
  recordElement,
  recordOf,
  replicationXml,
  vectorElement,
  vectorOf,
} from './wire.ts';
export {
  childOf,
  childText,
  element,
  messageCharactersMax,
  parseXml,
  writeXml,
  type XmlElement,
} from './xml.ts';
