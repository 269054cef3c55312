import { Agent, request } from 'undici';
import { DaybookError } from '../base/index.ts';

const answerMsMax = 5_000;

/**
 * Asks known gateways, one after the other, for those of all running nodes. Give the result to
 * `connect`, and ask again when nodes have come or gone.
 *
 * @param known - addresses of gateways of one network; one that answers is enough.
 * @param tls - trust roots and certificate for HTTPS, PEM.
 * @returns URLs of the gateways that take transactions; when all are draining, of all.
 * @throws {DaybookError} `PEER_UNREACHABLE` when none of them answers.
 */
export async function discoverGateways(
  known: readonly string[],
  tls: { readonly ca?: string; readonly cert?: string; readonly key?: string } = {},
): Promise<string[]> {
  const dispatcher = new Agent({ connect: { timeout: answerMsMax, ...tls } });
  try {
    let cause: unknown;
    for (const gateway of known) {
      try {
        const found = await ask(gateway, dispatcher);
        if (found.length > 0) return found;
      } catch (error) {
        cause = error;
      }
    }
    throw new DaybookError('PEER_UNREACHABLE', `no gateway tells of others: ${known.join(', ')}`, {
      cause,
    });
  } finally {
    await dispatcher.close();
  }
}

async function ask(gateway: string, dispatcher: Agent): Promise<string[]> {
  const { statusCode, body } = await request(new URL('/v1/nodes', gateway), {
    dispatcher,
    headersTimeout: answerMsMax,
    bodyTimeout: answerMsMax,
  });
  const json = (await body.json()) as { nodes?: { gateway?: unknown; draining?: unknown }[] };
  if (statusCode !== 200 || !Array.isArray(json?.nodes)) return [];
  const usable = json.nodes.filter((node) => typeof node?.gateway === 'string');
  const open = usable.filter((node) => node.draining !== true);
  return (open.length > 0 ? open : usable).map((node) => String(node.gateway));
}
