import { describe, expect, it } from 'vitest';
import { uddiErrors } from '../../src/replication/federation/core/index.ts';
import { memoryAccess } from '../../src/replication/federation/testing/memory-access.ts';
import {
  federation,
  settle,
  type TestNode,
} from '../../src/replication/federation/testing/small-world.ts';
import {
  answerApi,
  envelope,
  messageIn,
  type XmlElement,
} from '../../src/replication/federation/uddi/index.ts';
import { schemaProblems, schemasThere } from './schemas.ts';

describe('the publication and inquiry APIs', () => {
  const [a, b] = federation('a', 'b') as [TestNode, TestNode];
  const atA = memoryAccess(a, [b]);
  const said: string[] = [];
  /** With the publisher's token as the first child of messages that need one. */
  const authorized = (text: string, publisher: string): string =>
    /^<(save|delete|add|set|discard|transfer|get_(registered|publisherA|assertion|transfer))/.test(
      text,
    )
      ? text.replace(/^<([^>]*?)(\/?)>/, (_whole, head: string, end: string) =>
          end === '/'
            ? `<${head}><authInfo>${publisher}</authInfo></${head.split(' ')[0]}>`
            : `<${head}><authInfo>${publisher}</authInfo>`,
        )
      : text;
  const ask = async (text: string, publisher = 'ann', access = atA): Promise<XmlElement> => {
    const { status, body } = await answerApi(access, envelope(authorized(text, publisher)));
    expect(body, text).not.toContain('Fault');
    expect(status).toBe(200);
    said.push(authorized(text, publisher), body);
    return messageIn(body) as XmlElement;
  };
  const codeOf = async (text: string, publisher = 'ann', access = atA): Promise<string> => {
    const { status, body } = await answerApi(access, envelope(authorized(text, publisher)));
    expect(status, body).toBe(500);
    said.push(body);
    return /errCode="(\w+)"/.exec(body)?.[1] ?? body;
  };
  const namesIn = (list: XmlElement): string[] =>
    (list.children[1]?.children ?? []).map(({ children }) => children[0]?.text ?? '');

  it('saves, gets, finds, hides and deletes', async () => {
    const category = '<keyedReference tModelKey="uddi:uddi.org:x" keyValue="food"/>';
    await ask(
      `<save_business><businessEntity businessKey="uddi:a.example:apple"><name>Apple shop</name><categoryBag>${category}</categoryBag></businessEntity><businessEntity><name>Pear 100% shop</name></businessEntity></save_business>`,
    );
    await ask(
      '<save_tModel><tModel tModelKey="uddi:a.example:tm"><name>Fruit</name></tModel></save_tModel>',
    );
    const find = (inner: string, attributes = ''): Promise<XmlElement> =>
      ask(`<find_business ${attributes}>${inner}</find_business>`);
    const approximate =
      '<findQualifiers><findQualifier>approximateMatch</findQualifier></findQualifiers>';
    expect(namesIn(await find('<name>Apple shop</name>'))).toEqual(['Apple shop']);
    expect(namesIn(await find('<name>apple shop</name>'))).toEqual([]);
    expect(namesIn(await find(`${approximate}<name>%shop</name>`))).toEqual([
      'Apple shop',
      'Pear 100% shop',
    ]);
    expect(namesIn(await find(`${approximate}<name>%100\\% shop</name>`))).toEqual([
      'Pear 100% shop',
    ]);
    expect(namesIn(await find(`${approximate}<name>A_ple%s%</name>`))).toEqual(['Apple shop']);
    expect(namesIn(await find(`${approximate}<name>%p%z</name>`))).toEqual([]);
    expect(namesIn(await find(`<categoryBag>${category}</categoryBag>`))).toEqual(['Apple shop']);
    const first = await find(`${approximate}<name>%</name>`, 'maxRows="1"');
    expect([namesIn(first), first.attributes.truncated]).toEqual([['Apple shop'], 'true']);
    const detail = await ask(
      '<get_businessDetail><businessKey>UDDI:a.example:apple</businessKey></get_businessDetail>',
    );
    expect(detail.children[0]?.attributes.businessKey).toBe('uddi:a.example:apple');
    await ask('<delete_tModel><tModelKey>uddi:a.example:tm</tModelKey></delete_tModel>');
    expect(namesIn(await ask('<find_tModel><name>Fruit</name></find_tModel>'))).toEqual([]);
    const hidden = await ask(
      '<get_tModelDetail><tModelKey>uddi:a.example:tm</tModelKey></get_tModelDetail>',
    );
    expect(hidden.children[0]?.attributes.deleted).toBe('true');
    await ask('<delete_business><businessKey>uddi:a.example:apple</businessKey></delete_business>');
    expect(namesIn(await find('<name>Apple shop</name>'))).toEqual([]);
  });

  it('saves all or nothing', async () => {
    const before = a.rowsOf('');
    const code = await codeOf(
      '<save_business><businessEntity businessKey="uddi:a.example:one"><name>n</name></businessEntity><businessEntity businessKey="uddi:b.example:two"><name>n</name></businessEntity></save_business>',
    );
    expect(code).toBe('E_keyUnavailable');
    expect(a.rowsOf('')).toEqual(before);
  });

  it('refuses with codes of UDDI', async () => {
    await ask(
      '<save_business><businessEntity businessKey="uddi:a.example:mine"><name>n</name></businessEntity></save_business>',
    );
    expect(
      await codeOf(
        '<delete_business><businessKey>uddi:a.example:mine</businessKey></delete_business>',
        'bob',
      ),
    ).toBe('E_userMismatch');
    expect(
      await codeOf(
        '<get_businessDetail><businessKey>uddi:a.example:no</businessKey></get_businessDetail>',
      ),
    ).toBe('E_invalidKeyPassed');
    expect(await codeOf('<find_everything/>')).toBe('E_unsupported');
    expect(await codeOf('<find_business maxRows="0"/>')).toBe('E_invalidValue');
    expect(await codeOf('<find_business><tModelBag/></find_business>')).toBe('E_fatalError');
    const both =
      '<findQualifiers><findQualifier>exactMatch</findQualifier><findQualifier>approximateMatch</findQualifier></findQualifiers>';
    expect(await codeOf(`<find_business>${both}</find_business>`)).toBe('E_invalidCombination');
    expect(await codeOf('<save_business/>')).toBe('E_fatalError');
  });

  const business = (key: string, name: string, inner = ''): string =>
    `<businessEntity businessKey="${key}"><name xml:lang="en">${name}</name>${inner}</businessEntity>`;
  const keyOf = (one: XmlElement | undefined, name: string): string => one?.attributes[name] ?? '';

  it('saves, gets, finds and deletes services and bindings within their business', async () => {
    await ask(`<save_business>${business(a.key('firm'), 'Firm')}</save_business>`);
    const service = `<businessService businessKey="${a.key('firm')}"><name>Billing</name><categoryBag><keyedReference tModelKey="uddi:uddi.org:x" keyValue="bills"/></categoryBag></businessService>`;
    const saved = await ask(`<save_service>${service}</save_service>`);
    const serviceKey = keyOf(saved.children[0], 'serviceKey');
    expect(serviceKey).toMatch(/^uddi:a\.example:new/);
    const binding = (url: string, key = ''): string =>
      `<bindingTemplate ${key} serviceKey="${serviceKey}"><accessPoint useType="endPoint">${url}</accessPoint><tModelInstanceDetails><tModelInstanceInfo tModelKey="uddi:uddi.org:transport:http"/></tModelInstanceDetails></bindingTemplate>`;
    const bound = await ask(`<save_binding>${binding('http://one')}</save_binding>`);
    const bindingKey = keyOf(bound.children[0], 'bindingKey');
    await ask(
      `<save_binding>${binding('http://two', `bindingKey="${bindingKey}"`)}</save_binding>`,
    );
    const detail = await ask(
      `<get_bindingDetail><bindingKey>${bindingKey}</bindingKey></get_bindingDetail>`,
    );
    expect(detail.children[0]?.children[0]?.text).toBe('http://two');
    const list = await ask(
      `<find_service businessKey="${a.key('firm')}"><name>Billing</name><tModelBag><tModelKey>uddi:uddi.org:transport:http</tModelKey></tModelBag></find_service>`,
    );
    expect(keyOf(list.children[1]?.children[0], 'serviceKey')).toBe(serviceKey);
    const bindings = await ask(
      `<find_binding serviceKey="${serviceKey}"><tModelBag><tModelKey>uddi:uddi.org:transport:http</tModelKey></tModelBag></find_binding>`,
    );
    expect(bindings.children.map(({ name }) => name)).toEqual([
      'listDescription',
      'bindingTemplate',
    ]);
    for (const [qualifier, found] of [
      ['serviceSubset', 1],
      ['combineCategoryBags', 1],
      ['bindingSubset', 0],
      ['andAllKeys', 0],
    ] as const) {
      const answer = await ask(
        `<find_business><findQualifiers><findQualifier>uddi:uddi.org:findqualifier:${qualifier.toLowerCase()}</findQualifier></findQualifiers><categoryBag><keyedReference tModelKey="uddi:uddi.org:x" keyValue="bills"/></categoryBag></find_business>`,
      );
      expect(namesIn(answer), qualifier).toHaveLength(found);
    }
    const info = await ask(
      `<get_operationalInfo><entityKey>${bindingKey}</entityKey></get_operationalInfo>`,
    );
    expect(info.children[0]?.children.at(-1)?.text).toBe('ann');
    // Another business shows the service as its own, and so holds it.
    await ask(
      `<save_business>${business(
        a.key('partner'),
        'Partner',
        `<businessServices><businessService serviceKey="${serviceKey}" businessKey="${a.key('firm')}"/></businessServices>`,
      )}</save_business>`,
    );
    const partner = await ask(
      `<get_businessDetail><businessKey>${a.key('partner')}</businessKey></get_businessDetail>`,
    );
    expect(JSON.stringify(partner)).toContain('http://two');
    const drop = `<delete_service><serviceKey>${serviceKey}</serviceKey></delete_service>`;
    expect(await codeOf(drop)).toBe('E_requestDenied');
    await ask(`<delete_business><businessKey>${a.key('partner')}</businessKey></delete_business>`);
    await ask(`<delete_binding><bindingKey>${bindingKey}</bindingKey></delete_binding>`);
    expect(await codeOf(drop, 'bob')).toBe('E_userMismatch');
    await ask(drop);
    expect(
      await codeOf(`<get_serviceDetail><serviceKey>${serviceKey}</serviceKey></get_serviceDetail>`),
    ).toBe('E_invalidKeyPassed');
  });

  it('finds with qualifiers, in order, and within finds', async () => {
    const bag = (values: readonly string[]): string =>
      `<categoryBag>${values.map((value) => `<keyedReference tModelKey="uddi:uddi.org:q" keyValue="${value}"/>`).join('')}</categoryBag>`;
    for (const [name, values] of [
      ['Zoë', ['1', '2']],
      ['zoe', ['1']],
      ['Adam', ['2', '3']],
    ] as const) {
      await ask(
        `<save_business>${business(a.key(`q-${name === 'Zoë' ? 'z' : name.toLowerCase()}`), name, bag(values))}</save_business>`,
      );
    }
    const find = async (qualifiers: string, inner: string): Promise<string[]> => {
      const list = qualifiers
        .split(' ')
        .map((one) => `<findQualifier>${one}</findQualifier>`)
        .join('');
      const head = qualifiers === '' ? '' : `<findQualifiers>${list}</findQualifiers>`;
      return namesIn(await ask(`<find_business>${head}${inner}</find_business>`));
    };
    expect(await find('', bag(['1', '2']))).toEqual(['Zoë']);
    expect(await find('orAllKeys', bag(['1', '3']))).toEqual(['Adam', 'Zoë', 'zoe']);
    expect(await find('orLikeKeys sortByNameDesc', bag(['1', '3']))).toEqual([
      'zoe',
      'Zoë',
      'Adam',
    ]);
    expect(await find('sortByDateDesc orAllKeys', bag(['1', '3']))).toEqual(['Adam', 'zoe', 'Zoë']);
    expect(
      await find('diacriticInsensitiveMatch caseInsensitiveMatch', '<name>ZOE</name>'),
    ).toEqual(['Zoë', 'zoe']);
    expect(await find('exactNameMatch', '<name>zoe</name>')).toEqual(['zoe']);
    expect(await find('exactMatch', '<name xml:lang="fr">zoe</name>')).toEqual([]);
    expect(await find('signaturePresent', '<name>zoe</name>')).toEqual([]);
    const nested = `<find_tModel><name>no such</name></find_tModel>`;
    expect(await find('', `<name>zoe</name>${nested}`)).toEqual([]);
    const qualified = (one: string): string =>
      `<find_business><findQualifiers>${one}</findQualifiers></find_business>`;
    const q = (name: string): string => `<findQualifier>${name}</findQualifier>`;
    expect(await codeOf(qualified(q('UTS-10')))).toBe('E_unsupported');
    expect(await codeOf(qualified(q('orAllKeys') + q('andAllKeys')))).toBe('E_invalidCombination');
    const second = await ask(
      '<find_business maxRows="1" listHead="2"><findQualifiers>' +
        `${q('orAllKeys')}</findQualifiers>${bag(['1', '3'])}</find_business>`,
    );
    expect(namesIn(second)).toEqual(['Zoë']);
    expect(second.attributes.truncated).toBe('true');
    expect(second.children[0]?.children.map(({ text }) => text)).toEqual(['1', '3', '2']);
  });

  it('relates businesses when both sides agree', async () => {
    const atB = memoryAccess(b, [a]);
    await ask(`<save_business>${business(a.key('parent'), 'Parent')}</save_business>`);
    await ask(`<save_business>${business(b.key('child'), 'Child')}</save_business>`, 'bob', atB);
    settle([a, b]);
    const reference =
      '<keyedReference tModelKey="uddi:uddi.org:relationships" keyName="Holding" keyValue="parent-child"/>';
    const assertion = `<publisherAssertion><fromKey>${a.key('parent')}</fromKey><toKey>${b.key('child')}</toKey>${reference}</publisherAssertion>`;
    const related = `<find_relatedBusinesses><businessKey>${a.key('parent')}</businessKey></find_relatedBusinesses>`;
    const report = '<get_assertionStatusReport/>';
    const statusOf = async (publisher: string, access = atA): Promise<string[]> => {
      settle([a, b]);
      const items = (await ask(report, publisher, access)).children;
      return items.map(({ attributes }) => attributes.completionStatus ?? '');
    };
    expect(
      await codeOf(`<add_publisherAssertions>${assertion}</add_publisherAssertions>`, 'eve'),
    ).toBe('E_userMismatch');
    await ask(`<add_publisherAssertions>${assertion}</add_publisherAssertions>`);
    expect(await statusOf('ann')).toEqual(['status:toKey_incomplete']);
    expect(await statusOf('bob', atB)).toEqual(['status:toKey_incomplete']);
    expect((await ask(related)).children).toHaveLength(2);
    await ask(`<add_publisherAssertions>${assertion}</add_publisherAssertions>`, 'bob', atB);
    expect(await statusOf('ann')).toEqual(['status:complete']);
    const list = await ask(related);
    expect(list.children[2]?.children[0]?.children.map(({ name }) => name)).toEqual([
      'businessKey',
      'name',
      'sharedRelationships',
    ]);
    expect((await ask('<get_publisherAssertions/>')).children).toHaveLength(1);
    await ask('<set_publisherAssertions/>');
    expect(await statusOf('ann')).toEqual(['status:fromKey_incomplete']);
    expect(
      await codeOf(`<delete_publisherAssertions>${assertion}</delete_publisherAssertions>`),
    ).toBe('E_assertionNotFound');
    await ask(`<set_publisherAssertions>${assertion}</set_publisherAssertions>`);
    expect(await statusOf('ann')).toEqual(['status:complete']);
    await ask(`<delete_publisherAssertions>${assertion}</delete_publisherAssertions>`, 'bob', atB);
    expect(await statusOf('ann')).toEqual(['status:toKey_incomplete']);
    await ask(
      `<delete_business><businessKey>${b.key('child')}</businessKey></delete_business>`,
      'bob',
      atB,
    );
    expect(await statusOf('ann')).toEqual([]);
  });

  it('hands entities over by tokens, also to another node', async () => {
    const atB = memoryAccess(b, [a]);
    await ask(`<save_business>${business(a.key('moves'), 'Moves')}</save_business>`);
    settle([a, b]);
    const bag = `<keyBag xmlns="urn:uddi-org:custody_v3"><key>${a.key('moves')}</key></keyBag>`;
    const message = (name: string, inner: string): string =>
      `<${name} xmlns="urn:uddi-org:custody_v3">${inner}</${name}>`;
    expect(await codeOf(message('get_transferToken', bag), 'bob')).toBe('E_userMismatch');
    const { status, body } = await answerApi(
      atA,
      envelope(authorized(message('get_transferToken', bag), 'ann')),
    );
    expect(status).toBe(200);
    said.push(body);
    const token = /<transferToken[\s\S]*<\/transferToken>/.exec(body)?.[0] ?? '';
    const other = bag.replace('moves', 'firm');
    expect(await codeOf(message('transfer_entities', token + other), 'bob', atB)).toBe(
      'E_transferNotAllowed',
    );
    await answerApi(atB, envelope(authorized(message('transfer_entities', token + bag), 'bob')));
    settle([a, b]);
    expect(a.entity(a.key('moves'))?.entity).toMatchObject({ owner: b.id, publisher: 'bob' });
    const again = message('transfer_entities', token + bag);
    expect(await codeOf(again, 'eve', atB)).toBe('E_transferNotAllowed');
    expect(
      await codeOf(
        `<delete_business><businessKey>${a.key('moves')}</businessKey></delete_business>`,
      ),
    ).toBe('E_userMismatch');
  });

  it('knows publishers by tokens, and shows them what is theirs', async () => {
    const answer = await ask('<get_authToken userID="zed" cred="secret"/>');
    expect(answer.children[0]?.text).toBe('zed');
    expect(await codeOf('<get_authToken userID="zed" cred="wrong"/>')).toBe('E_unknownUser');
    expect(await codeOf('<get_publisherAssertions></get_publisherAssertions>', '')).toBe(
      'E_authTokenRequired',
    );
    await ask(`<save_business>${business(a.key('zeds'), 'Zed')}</save_business>`, 'zed');
    await ask(
      `<save_tModel><tModel tModelKey="${a.key('zedt')}"><name>T</name></tModel></save_tModel>`,
      'zed',
    );
    await ask(`<delete_tModel><tModelKey>${a.key('zedt')}</tModelKey></delete_tModel>`, 'zed');
    const info = async (selection: string): Promise<string[]> =>
      (await ask(`<get_registeredInfo infoSelection="${selection}"/>`, 'zed')).children.map(
        ({ name }) => name,
      );
    expect(await info('all')).toEqual(['businessInfos', 'tModelInfos']);
    expect(await info('visible')).toEqual(['businessInfos']);
    expect(await info('hidden')).toEqual(['tModelInfos']);
  });

  it('refuses malformed messages of every kind with codes of UDDI', async () => {
    const codes = new Set<string>();
    let count = 0;
    for (const sent of said.filter((text) => !text.startsWith('<?xml'))) {
      for (const [from, to] of [
        [/>/, '><strange/>'],
        [/>([^<]*)<\/authInfo>/, '></authInfo>'],
        [/uddi:[^<"]*/, 'not a key'],
        [/^<(\w+)/, '<$1 strange="1"'],
        [/^<(\w+)([\s\S]*)\1>$/, '<$1x$2$1x>'],
        [/<\/[^<]*$/, ''],
      ] as const) {
        const wrong = sent.replace(from, to);
        if (wrong === sent) continue;
        const { status, body } = await answerApi(atA, envelope(wrong));
        expect(status, wrong).toBe(500);
        codes.add(/errno="(\d+)"/.exec(body)?.[1] ?? body);
        count++;
      }
    }
    expect(count).toBeGreaterThan(200);
    expect(
      [...codes].every((code) => Object.values(uddiErrors).some((one) => `${one}` === code)),
    ).toBe(true);
    expect(codes.size).toBeGreaterThan(3);
  });

  it.skipIf(!schemasThere)(
    'says nothing that UDDI’s schema does not know',
    async () => {
      const bodies = said.flatMap((text) => {
        if (!text.startsWith('<?xml')) return [];
        const body = /<soap:Body>([\s\S]*)<\/soap:Body>/.exec(text)?.[1] ?? '';
        const report = /<dispositionReport[\s\S]*<\/dispositionReport>/.exec(body)?.[0];
        return body === '' ? [] : [report ?? body];
      });
      expect(bodies.length).toBeGreaterThan(60);
      const kinds = new Set(bodies.map((body) => /^<(\w+)/.exec(body)?.[1]));
      expect(kinds.size).toBeGreaterThan(14);
      expect(await schemaProblems(bodies)).toEqual([]);
    },
    60_000,
  );
});
