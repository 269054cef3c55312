import { setMaxListeners } from 'node:events';

/** An abort that any number of waiters may listen to: Node would take more than ten for a leak, and say so. */
export function abortForMany(): AbortController {
  const abort = new AbortController();
  setMaxListeners(0, abort.signal);
  return abort;
}
