import { parentConnection, realIo } from '../../src/io/index.ts';
import { httpFeed, makeSink, type SinkConfig, startFollower } from '../../src/replication/index.ts';
import { systems } from './systems.ts';

/* One follower in a process of its own, so that it can be killed. */

interface Arguments {
  readonly system: keyof typeof systems;
  readonly sink: SinkConfig;
  readonly gateways: readonly string[];
  readonly channel: string;
}

const { system, sink, gateways, channel } = JSON.parse(process.argv[2] ?? '{}') as Arguments;
// Ends this process with its parent.
parentConnection();
const io = realIo();
const config = systems[system](sink);
const follower = startFollower({
  ...config,
  io,
  feed: httpFeed({ io, gateways, channel }),
  sink: makeSink(config, io, process.cwd()),
  keys: [],
  onEvent: (text) => process.stderr.write(`  ${system}: ${text}\n`),
});
await follower.ended;
