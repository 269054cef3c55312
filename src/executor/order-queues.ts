import { TransitMap } from '../base/index.ts';
import type { Job } from './job.ts';

/**
 * Keeps calls with the same ordering key apart: a call may run only when the one before it has
 * ended, however it ended.
 */
export class OrderQueues {
  /** The job that runs first, then those that wait. */
  readonly #queues = new TransitMap<string, Job[]>();

  /** @returns true when the job may run now. */
  enter(job: Job): boolean {
    const { orderKey } = job;
    if (orderKey === undefined) return true;
    const queue = this.#queues.get(orderKey);
    if (queue === undefined) {
      this.#queues.set(orderKey, [job]);
      return true;
    }
    queue.push(job);
    return false;
  }

  /** The job has ended, or never ran. @returns the one that may run now. */
  leave(job: Job): Job | undefined {
    const { orderKey } = job;
    if (orderKey === undefined) return undefined;
    const queue = this.#queues.get(orderKey);
    if (queue === undefined) return undefined;
    const at = queue.indexOf(job);
    if (at === -1) return undefined;
    queue.splice(at, 1);
    if (queue.length === 0) this.#queues.delete(orderKey);
    return at === 0 ? queue[0] : undefined;
  }
}
