import { bufferOfText } from './buffers.ts';
import type { GuestCall } from './current-call.ts';
import type { HostFunctions } from './host-functions.ts';

interface Facts {
  readonly id: string;
  readonly attributes: Record<string, unknown>;
}

const parse = JSON.parse;
const hasOwn = Object.hasOwn;

/** Fabric's `ClientIdentity`; the certificate is parsed by the host, and only when asked for. */
export class ClientIdentity {
  readonly #host: HostFunctions;
  readonly #call: GuestCall;
  #facts: Facts | undefined;

  constructor(host: HostFunctions, call: GuestCall) {
    this.#host = host;
    this.#call = call;
  }

  getMSPID(): string {
    return this.#host.mspId(this.#call.id);
  }

  getID(): string {
    return this.#read().id;
  }

  getIDBytes(): Uint8Array {
    return bufferOfText(this.#host.certificate(this.#call.id));
  }

  getAttributeValue(name: string): string | null {
    const { attributes } = this.#read();
    const value = hasOwn(attributes, name) ? attributes[name] : undefined;
    return typeof value === 'string' && value !== '' ? value : null;
  }

  assertAttributeValue(name: string, value: string): boolean {
    const found = this.getAttributeValue(name);
    return found !== null && found === value;
  }

  #read(): Facts {
    if (this.#facts === undefined) {
      const json = this.#host.clientIdentity(this.#call.id);
      if (json === '') throw new Error('the certificate of the client is not readable');
      this.#facts = parse(json) as Facts;
    }
    return this.#facts;
  }
}
