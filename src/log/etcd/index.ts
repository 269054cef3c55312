export type { EtcdLog } from './etcd-log.ts';
export { asQuotaReached } from './grpc-errors.ts';
export type { Layout, LayoutUnit, Segment } from './layout.ts';
export {
  type Candidate,
  campaign,
  currentLeader,
  depose,
  type Leader,
  type Reign,
  watchLeader,
} from './leadership.ts';
export type { ConnectMember, Member, MemberCallOptions, MemberStream } from './member.ts';
export { openEtcdLog } from './open.ts';
export { type EtcdLogOptions, parseEtcdUrl, type TlsOptions, type UnitOptions } from './options.ts';
export { listNodes, type NodeInfo, type Registration, register, watchNodes } from './registry.ts';
export {
  forgetNode,
  type RememberedNode,
  rememberedNodes,
  rememberNode,
} from './remembered.ts';
export type { SpaceUse } from './space.ts';
export type { EtcdIo } from './unit-client.ts';
