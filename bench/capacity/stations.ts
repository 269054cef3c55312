interface Event {
  readonly atUs: number;
  readonly order: number;
  readonly run: () => void;
}

/** Virtual time: events run one after the other in order of time, then of their making. */
export class Clock {
  /** Binary heap. */
  readonly #events: Event[] = [];
  #nowUs = 0;
  #order = 0;

  get nowUs(): number {
    return this.#nowUs;
  }

  after(delayUs: number, run: () => void): void {
    const events = this.#events;
    const event = { atUs: this.#nowUs + delayUs, order: this.#order++, run };
    let at = events.length;
    events.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, events[parent] as Event)) break;
      events[at] = events[parent] as Event;
      at = parent;
    }
    events[at] = event;
  }

  /** Runs all events before `untilUs`. */
  runUntil(untilUs: number): void {
    for (let next = this.#events[0]; next !== undefined; next = this.#events[0]) {
      if (next.atUs >= untilUs) break;
      this.#removeFirst();
      this.#nowUs = next.atUs;
      next.run();
    }
    this.#nowUs = untilUs;
  }

  #removeFirst(): void {
    const events = this.#events;
    const last = events.pop();
    if (last === undefined || events.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= events.length) break;
      if (child + 1 < events.length && before(events[child + 1] as Event, events[child] as Event)) {
        child++;
      }
      if (!before(events[child] as Event, last)) break;
      events[at] = events[child] as Event;
      at = child;
    }
    events[at] = last;
  }
}

function before(left: Event, right: Event): boolean {
  return left.atUs < right.atUs || (left.atUs === right.atUs && left.order < right.order);
}

/** One core, or one log unit: does one job after the other. */
export class Station {
  readonly #clock: Clock;
  #freeAtUs = 0;
  #busyUs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Time spent on jobs so far, those in the queue included. */
  get busyUs(): number {
    return this.#busyUs;
  }

  /** Time until a job that came now would begin. */
  get backlogUs(): number {
    return Math.max(0, this.#freeAtUs - this.#clock.nowUs);
  }

  /** Runs `done` when the jobs before this one and then `costUs` have passed. */
  work(costUs: number, done: () => void): void {
    this.#freeAtUs = Math.max(this.#freeAtUs, this.#clock.nowUs) + costUs;
    this.#busyUs += costUs;
    this.#clock.after(this.#freeAtUs - this.#clock.nowUs, done);
  }
}
