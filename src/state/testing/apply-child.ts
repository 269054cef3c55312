import { realIo } from '../../io/index.ts';
import { openState } from '../open-state.ts';
import { changeAt } from './changes.ts';

// Applies changes until it is killed; flushes all the time.
const [directory = ''] = process.argv.slice(2);
const io = realIo();
const state = await openState({
  io,
  directory,
  flushWritesMax: 50,
  flushIntervalMs: 5,
  transactionSegmentIdsMax: 300,
});
for (;;) {
  for (let at = 0; at < 20; at++) state.apply(changeAt(state.nextAddress));
  await new Promise<void>((resolve) => io.timers.soon(resolve));
  while (state.overloaded) await state.relieved();
}
