import { execFileSync } from 'node:child_process';

/**
 * Hosts that are network namespaces on one bridge: their links can be cut. Addresses and names are
 * made from the process id, so that test runs do not meet.
 */
export class Hosts {
  readonly #name: string;
  readonly #net: string;
  readonly #private: string;
  readonly #count: number;

  private constructor(count: number) {
    this.#name = `db${process.pid.toString(36)}`;
    this.#net = `10.213.${process.pid % 250}`;
    this.#private = `10.214.${process.pid % 250}`;
    this.#count = count;
  }

  /** `undefined` where network namespaces are not permitted. */
  static create(count: number): Hosts | undefined {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined;
    const hosts = new Hosts(count);
    try {
      hosts.#make();
      process.once('exit', () => hosts.remove());
      return hosts;
    } catch {
      hosts.remove();
      return undefined;
    }
  }

  /** For `startCluster`. */
  get all(): { address: string; command: string[] }[] {
    return Array.from({ length: this.#count }, (_, index) => ({
      address: this.#address(index),
      command: ['ip', 'netns', 'exec', this.#host(index)],
    }));
  }

  /** An address of the host on a second network, over the same link. */
  privateAddress(index: number): string {
    return `${this.#private}.${index + 2}`;
  }

  /** Nothing gets through between two hosts on the second network any more; the first one stays. */
  cutPrivately(a: number, b: number): void {
    ip('-n', this.#host(a), 'route', 'add', 'blackhole', `${this.privateAddress(b)}/32`);
    ip('-n', this.#host(b), 'route', 'add', 'blackhole', `${this.privateAddress(a)}/32`);
  }

  healPrivately(a: number, b: number): void {
    ip('-n', this.#host(a), 'route', 'del', 'blackhole', `${this.privateAddress(b)}/32`);
    ip('-n', this.#host(b), 'route', 'del', 'blackhole', `${this.privateAddress(a)}/32`);
  }

  /** Nothing gets through to or from this host any more, and nobody is told. */
  cut(index: number): void {
    ip('link', 'set', this.#link(index), 'down');
  }

  heal(index: number): void {
    ip('link', 'set', this.#link(index), 'up');
  }

  remove(): void {
    const quietly = (...args: string[]): void => {
      try {
        ip(...args);
      } catch {
        // It was not there.
      }
    };
    for (let index = 0; index < this.#count; index++) {
      quietly('link', 'del', this.#link(index));
      quietly('netns', 'del', this.#host(index));
    }
    quietly('link', 'del', this.#name);
  }

  #make(): void {
    ip('link', 'add', this.#name, 'type', 'bridge');
    ip('addr', 'add', `${this.#net}.1/24`, 'dev', this.#name);
    ip('addr', 'add', `${this.#private}.1/24`, 'dev', this.#name);
    ip('link', 'set', this.#name, 'up');
    for (let index = 0; index < this.#count; index++) {
      const [host, link] = [this.#host(index), this.#link(index)];
      ip('netns', 'add', host);
      ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host);
      ip('link', 'set', link, 'master', this.#name, 'up');
      ip('-n', host, 'addr', 'add', `${this.#address(index)}/24`, 'dev', 'eth0');
      ip('-n', host, 'addr', 'add', `${this.privateAddress(index)}/24`, 'dev', 'eth0');
      ip('-n', host, 'link', 'set', 'eth0', 'up');
      ip('-n', host, 'link', 'set', 'lo', 'up');
    }
  }

  #host(index: number): string {
    return `${this.#name}-${index}`;
  }

  #link(index: number): string {
    return `${this.#name}-l${index}`;
  }

  #address(index: number): string {
    return `${this.#net}.${index + 2}`;
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: 'ignore' });
}
