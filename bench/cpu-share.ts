import { readFileSync } from 'node:fs';

const checkMs = 4;
/** A process may use up to so much of unused time at once. */
const creditMsMax = 20;

/**
 * Gives every process a share of one core, as a slower machine of its own would: it is stopped while
 * it has used more (its main thread's CPU time counts, as Linux tells it) and goes on afterwards.
 *
 * @param share - cores per process, over 0; 1 and more: no limit.
 * @returns a function that lets all of them run freely again.
 */
export function limitCpu(pids: readonly number[], share: number): () => void {
  if (share >= 1) return () => undefined;
  const limited = pids.map((pid) => ({ pid, usedMs: cpuMs(pid), creditMs: 0, stopped: false }));
  let checkedMs = performance.now();
  const check = (): void => {
    const nowMs = performance.now();
    const grantedMs = (nowMs - checkedMs) * share;
    checkedMs = nowMs;
    for (const each of limited) {
      const usedMs = cpuMs(each.pid);
      const creditMs = each.creditMs + grantedMs - (usedMs - each.usedMs);
      each.usedMs = usedMs;
      each.creditMs = Math.min(creditMs, creditMsMax);
      if (each.stopped === each.creditMs < 0) continue;
      each.stopped = each.creditMs < 0;
      signal(each.pid, each.stopped ? 'SIGSTOP' : 'SIGCONT');
    }
  };
  const timer = setInterval(check, checkMs);
  return () => {
    clearInterval(timer);
    for (const { pid } of limited) signal(pid, 'SIGCONT');
  };
}

/** CPU time of a process's main thread, milliseconds; 0 when it is gone. */
function cpuMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6;
  } catch {
    return 0;
  }
}

function signal(pid: number, name: 'SIGSTOP' | 'SIGCONT'): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}
