import { limits } from '../base/index.ts';
import type { GatewayContext } from './context.ts';

/** Health, limits, numbers and the API's own description. */
export function nodeRoutes(context: GatewayContext, nodeName: string): void {
  const { app, backends, closing, metrics } = context;

  app.get(
    '/health',
    {
      schema: {
        tags: ['node'],
        summary: 'Live, and ready to serve',
        description: 'Status 200 when every channel is ready, else 503 with the reasons.',
      },
    },
    (_request, reply) => {
      const channels = backends.map((backend) => ({
        channel: backend.channel,
        nextAddress: backend.nextAddress(),
        ...backend.health(),
        blocks: backend.blocks?.health(),
      }));
      const ready = !closing.aborted && channels.every((channel) => channel.ready);
      void reply.code(ready ? 200 : 503).send({ live: true, ready, node: nodeName, channels });
    },
  );

  app.get(
    '/v1/limits',
    { schema: { tags: ['node'], summary: 'Every limit by name' } },
    (_request, reply) => {
      void reply.send(limits);
    },
  );

  app.get(
    '/v1/channels',
    { schema: { tags: ['channel'], summary: 'The channels of this node' } },
    (_request, reply) => {
      void reply.send({ channels: backends.map((backend) => backend.channel) });
    },
  );

  app.get(
    '/v1/nodes',
    {
      schema: {
        tags: ['node'],
        summary: 'The nodes of the network with their gateways',
        description: 'Clients spread their calls over those that are not draining.',
      },
    },
    (_request, reply) => {
      void reply.send({ nodes: context.nodes() });
    },
  );

  app.get(
    '/metrics',
    { schema: { tags: ['node'], summary: 'Numbers in Prometheus’ text form' } },
    async (_request, reply) => {
      void reply.type(metrics.contentType);
      return metrics.text();
    },
  );

  app.get('/openapi.json', { schema: { hide: true } }, (_request, reply) => {
    void reply.send(app.swagger());
  });
}
