import { describe, expect, it } from 'vitest';
import {
  type ChangeRecord,
  type Entity,
  highWaterMarks,
  type Payload,
  pull,
  receive,
  uddiErrors,
} from '../../src/replication/federation/core/index.ts';
import {
  codeOf,
  federation,
  type TestNode,
} from '../../src/replication/federation/testing/small-world.ts';
import {
  answerReplication,
  assertionDraft,
  custodyRequest,
  draftOf,
  element,
  messageIn,
  notification,
  parseXml,
  pullRequest,
  type ReplicatedRegistry,
  recordElement,
  recordOf,
  recordsInAnswer,
  replicationXml,
  vectorElement,
  type XmlElement,
} from '../../src/replication/federation/uddi/index.ts';
import { schemaProblems, schemasThere } from './schemas.ts';

const businessXml = `<businessEntity xmlns="urn:uddi-org:api_v3" businessKey="uddi:a.example:shop">
  <discoveryURLs><discoveryURL useType="homepage">http://shop.example/</discoveryURL></discoveryURLs>
  <name xml:lang="en">Shop &amp; &#60;Sons&#62;</name>
  <description xml:lang="en">Sells things</description>
  <contacts><contact useType="sales"><personName>Ann</personName><phone>1</phone><email>ann@shop.example</email>
    <address sortCode="1"><addressLine keyName="street" keyValue="1">Main Street</addressLine></address></contact></contacts>
  <businessServices><businessService serviceKey="uddi:a.example:orders"><name>Orders</name>
    <bindingTemplates><bindingTemplate bindingKey="uddi:a.example:orders-http">
      <accessPoint useType="endPoint">http://shop.example/orders</accessPoint>
      <tModelInstanceDetails><tModelInstanceInfo tModelKey="uddi:uddi.org:transport:http"/></tModelInstanceDetails>
    </bindingTemplate></bindingTemplates></businessService></businessServices>
  <identifierBag><keyedReference tModelKey="uddi:uddi.org:ubr:identifier:dnb.com:d-u-n-s" keyName="n" keyValue="1"/></identifierBag>
  <categoryBag><keyedReference tModelKey="uddi:uddi.org:ubr:categorization:naics:1997" keyName="" keyValue="2"/></categoryBag>
</businessEntity>`;

const assertionXml =
  '<publisherAssertion><fromKey>uddi:b.example:x</fromKey><toKey>uddi:a.example:shop</toKey><keyedReference tModelKey="uddi:uddi.org:relationships" keyName="Holding" keyValue="parent-child"/></publisherAssertion>';

const newKeys = (): (() => string) => {
  let count = 0;
  return () => `uddi:a.example:new${++count}`;
};

function entityOf(xml: string): Entity {
  const draft = draftOf(parseXml(xml), 'ann', newKeys());
  return {
    key: draft.key,
    kind: draft.kind,
    owner: 'uddi:a.example:node',
    publisher: 'ann',
    innerKeys: draft.innerKeys ?? [],
    references: draft.references ?? [],
    hidden: false,
    createdMs: 1_700_000_000_000,
    modifiedMs: 1_700_000_000_001,
    content: draft.content,
  };
}

function everyPayload(): Payload[] {
  const entity = entityOf(businessXml);
  const tModel = entityOf(
    '<tModel tModelKey="uddi:a.example:keygenerator"><name>k</name><overviewDoc><overviewURL>http://a.example</overviewURL></overviewDoc></tModel>',
  );
  const of = { origin: 'uddi:b.example:node', usn: 7 };
  const side: Entity = {
    ...assertionDraft(parseXml(assertionXml), 'to'),
    owner: 'uddi:a.example:node',
    publisher: '',
    hidden: false,
    createdMs: 1_700_000_000_001,
    modifiedMs: 1_700_000_000_001,
  };
  return [
    { type: 'null' },
    { type: 'newData', entity },
    { type: 'newData', entity: { ...tModel, hidden: true } },
    { type: 'conditional', entity },
    { type: 'delete', key: entity.key, kind: 'business', modifiedMs: 1_700_000_000_000 },
    { type: 'hide', key: tModel.key, modifiedMs: 1_700_000_000_000 },
    { type: 'acknowledge', of },
    { type: 'conditionFailed', of, reason: 'not told' },
    { type: 'correction', of, payload: { type: 'newData', entity } },
    { type: 'member', node: 'uddi:c.example:node' },
    { type: 'member', node: 'uddi:c.example:node', heir: 'uddi:a.example:node' },
    { type: 'newData', entity: side },
    {
      type: 'delete',
      key: side.key,
      kind: 'assertion',
      modifiedMs: side.modifiedMs,
      content: side.content,
    },
    {
      type: 'expel',
      node: 'uddi:c.example:node',
      heir: 'uddi:a.example:node',
      vouched: true,
    },
    { type: 'frozen', of, mark: 0 },
    { type: 'retired', node: 'uddi:c.example:node', heir: 'uddi:a.example:node', final: 12 },
  ];
}

function recordWith(payload: Payload, usn: number): ChangeRecord {
  return { origin: 'uddi:a.example:node', usn, acknowledgementRequested: usn % 2 === 0, payload };
}

describe('change records as XML', () => {
  it('come back as they were', () => {
    for (const [usn, payload] of everyPayload().entries()) {
      const record = recordWith(payload, usn);
      const text = replicationXml(recordElement(record));
      expect(recordOf(parseXml(text))).toEqual(record);
    }
  });

  it.skipIf(!schemasThere)(
    'are valid by the schema of UDDI',
    async () => {
      const records = everyPayload().map(recordWith).map(recordElement);
      const marks = vectorElement('highWaterMarks', { 'uddi:a.example:node': 3 });
      const body = (text: string): XmlElement => messageIn(text) as XmlElement;
      const messages = [
        element('changeRecords', { children: records }),
        marks,
        element('do_ping'),
        element('get_highWaterMarks'),
        element('operatorNodeID', { text: 'uddi:a.example:node' }),
        body(pullRequest('uddi:a.example:node', { 'uddi:a.example:node': 3 }, 10)),
        body(notification('uddi:a.example:node', { 'uddi:a.example:node': 3 })),
        body(
          custodyRequest(
            element('transferToken', {
              children: [
                element('nodeID', { text: 'uddi:b.example:node' }),
                element('expirationTime', { text: new Date(0).toISOString() }),
                element('opaqueToken', { text: 'AAAA' }),
              ],
            }),
            ['uddi:b.example:x'],
            { node: 'uddi:a.example:node', publisher: 'ann' },
          ),
        ),
      ];
      expect(await schemaProblems(messages.map(replicationXml))).toEqual([]);
      const problems = await schemaProblems([element('do_pong'), ...messages].map(replicationXml));
      expect(problems.join('\n')).toContain('do_pong');
    },
    60_000,
  );
});

describe('publications', () => {
  it('gives keys where there are none, and lists inner keys and references', () => {
    const draft = draftOf(
      parseXml(
        '<businessEntity><name>n</name><businessServices><businessService><bindingTemplates><bindingTemplate><hostingRedirector bindingKey="UDDI:B.example:x"/></bindingTemplate></bindingTemplates></businessService></businessServices></businessEntity>',
      ),
      'ann',
      newKeys(),
    );
    expect(draft).toMatchObject({
      key: 'uddi:a.example:new1',
      innerKeys: ['uddi:a.example:new2', 'uddi:a.example:new3'],
      references: ['uddi:b.example:x'],
    });
  });

  it('refuses hundreds of malformed ones with codes of UDDI', () => {
    const wrong: string[] = [];
    const tags = [...businessXml.matchAll(/<[a-zA-Z]+/g)].map(({ index, 0: tag }) => ({
      index,
      tag,
    }));
    for (const { index, tag } of tags) {
      const after = index + tag.length;
      wrong.push(`${businessXml.slice(0, after)} strange="1"${businessXml.slice(after)}`);
      wrong.push(`${businessXml.slice(0, index)}<strange/>${businessXml.slice(index)}`);
      wrong.push(`${businessXml.slice(0, index)}<${businessXml.slice(index)}`);
      wrong.push(businessXml.slice(0, after));
      wrong.push(`${businessXml.slice(0, index)}loose text${businessXml.slice(index)}`);
      wrong.push(`${businessXml.slice(0, index)}&nothing;${businessXml.slice(index)}`);
      wrong.push(`${businessXml.slice(0, index)}<x:y>${businessXml.slice(index)}`);
    }
    for (const { 0: attribute, 1: name = '', index } of businessXml.matchAll(/(\w+)="[^"]*"/g)) {
      const replaced = (value: string): string =>
        businessXml.slice(0, index) + value + businessXml.slice(index + attribute.length);
      if (/xmlns/.test(attribute)) continue;
      wrong.push(
        replaced(`${name}="${'x'.repeat(300)}"`),
        replaced(`${name}=`),
        replaced(`${name}="<"`),
      );
      if (name.endsWith('Key')) {
        for (const key of ['no key', 'uddi:', 'uddi:A B', 'urn:a:b', 'uddi:a::b', 'uddi:a|b']) {
          wrong.push(replaced(`${name}="${key}"`));
        }
      }
    }
    for (const { 0: whole, 1: text = '', index } of businessXml.matchAll(/>([^<>\s][^<>]*)</g)) {
      const replaced = (value: string): string =>
        `${businessXml.slice(0, index)}>${value}<${businessXml.slice(index + whole.length)}`;
      expect(text).not.toBe('');
      wrong.push(replaced(''), replaced('   '), replaced('y'.repeat(5000)));
    }
    wrong.push(
      '',
      'text',
      '<a/>',
      '<!DOCTYPE a [<!ENTITY b "c">]><tModel><name>&b;</name></tModel>',
    );
    wrong.push('<tModel/>', '<tModel><name>a</name><name>b</name></tModel>');
    wrong.push(businessXml.replace('http://shop.example/<', 'http://shop example/<'));
    const codes = new Map<string, number>();
    for (const xml of wrong) {
      const code = codeOf(() => draftOf(parseXml(xml), 'ann', newKeys()));
      codes.set(code, (codes.get(code) ?? 0) + 1);
      expect(Object.keys(uddiErrors), xml.slice(0, 3000)).toContain(code);
    }
    expect(wrong.length).toBeGreaterThan(250);
    expect(codes.size).toBeGreaterThanOrEqual(5);
  });
});

describe('replication over SOAP', () => {
  const serve = (node: TestNode): ReplicatedRegistry & { readonly heard: string[] } => {
    const heard: string[] = [];
    return {
      node: node.id,
      heard,
      highWaterMarks: async () => node.store.run(highWaterMarks()),
      pull: async (marks, limit, upTo) => node.store.run(pull(marks, limit, upTo)),
      notified: (peer) => void heard.push(peer),
    };
  };

  async function drain(to: TestNode, from: TestNode, limit: number): Promise<number> {
    for (let taken = 0; ; ) {
      const request = pullRequest(to.id, to.store.run(highWaterMarks()), limit);
      const { body } = await answerReplication(serve(from), to.id, request);
      const records = recordsInAnswer(body);
      if (records.length === 0) return taken;
      taken += to.store.run(receive(records, 0)).taken;
    }
  }

  it('carries whole registries, and the concurrent insert and delete end one way', async () => {
    const [a, b] = federation('a', 'b') as [TestNode, TestNode];
    const business = (key: string, inner: string): XmlElement =>
      draftOf(
        parseXml(`<businessEntity businessKey="${key}"><name>n</name>${inner}</businessEntity>`),
        'ann',
        newKeys(),
      ).content as XmlElement;
    const contact = `<contacts><contact><personName>p</personName><address tModelKey="${b.key('tm')}"><addressLine>x</addressLine></address></contact></contacts>`;
    const tModel = parseXml(`<tModel tModelKey="${b.key('tm')}"><name>t</name></tModel>`);
    b.save(b.key('tm'), [], { kind: 'tModel', content: tModel });
    await drain(a, b, 1);
    a.save(a.key('x'), [b.key('tm')], { content: business(a.key('x'), contact) });
    b.hide(b.key('tm'));
    await drain(b, a, 2);
    await drain(a, b, 2);
    expect(a.rowsOf('entity|', 'seen|', 'referrer|')).toEqual(
      b.rowsOf('entity|', 'seen|', 'referrer|'),
    );
    expect(a.entity(b.key('tm'))?.entity.hidden).toBe(true);
  });

  it('answers pings and notifications, and refuses who is not who it says', async () => {
    const [a, b] = federation('a', 'b') as [TestNode, TestNode];
    const service = serve(a);
    const ask = (peer: string, text: string): ReturnType<typeof answerReplication> =>
      answerReplication(service, peer, text);
    const marks = b.store.run(highWaterMarks());
    expect((await ask(b.id, notification(b.id, marks))).status).toBe(200);
    expect(service.heard).toEqual([b.id]);
    expect((await ask('uddi:evil.example:node', notification(b.id, marks))).body).toContain(
      '10140',
    );
    expect((await ask('uddi:evil.example:node', pullRequest(b.id, marks, 5))).status).toBe(500);
    for (const bad of [
      '',
      '<a/>',
      '<Envelope><Body/></Envelope>',
      '<Envelope><Body><x/></Body></Envelope>',
    ]) {
      const { status, body } = await ask(b.id, bad);
      expect(status).toBe(500);
      expect(body).toMatch(/errno="10(500|050)"/);
    }
  });
});
