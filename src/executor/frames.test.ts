import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ByteReader } from '../base/index.ts';
import { asPosition, type Position } from '../model/index.ts';
import { AppliedWriter, decodeApplied } from './frames.ts';

it('what happened in the log arrives in its order, own records one by one', () => {
  const small = fc.nat({ max: 4 });
  // Small steps: runs go on, break off, and begin where another ended.
  const step = fc.record({
    kind: fc.constantFrom('own', 'own', 'own', 'failed', 'write', 'take'),
    executions: small,
    positions: small,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const writer = new AppliedWriter();
      const told: string[] = [];
      const heard: string[] = [];
      const take = (): void => {
        const frame = new ByteReader(Buffer.concat(writer.take(1, asPosition(7))), 'frame');
        frame.u8();
        for (const operation of decodeApplied(frame).operations) {
          if (operation.kind === 'write') heard.push(`write ${operation.key}`);
          if (operation.kind === 'failed') heard.push(`failed ${operation.execution}`);
          if (operation.kind !== 'own') continue;
          for (let at = 0; at < operation.count; at++) {
            heard.push(`own ${operation.execution + at} at ${operation.position + at}`);
          }
        }
        expect(heard).toEqual(told);
      };
      let execution = 0;
      let position: Position = asPosition(0);
      for (const { kind, executions, positions } of steps) {
        execution += executions === 0 ? 2 : 1;
        position = asPosition(position + (positions === 0 ? 2 : 1));
        if (kind === 'own') {
          writer.own(execution, position);
          told.push(`own ${execution} at ${position}`);
        } else if (kind === 'failed') {
          writer.failed(execution);
          told.push(`failed ${execution}`);
        } else if (kind === 'write') {
          writer.write(`k${execution}`, 'v', position);
          told.push(`write k${execution}`);
        } else {
          take();
        }
      }
      take();
    }),
  );
});
