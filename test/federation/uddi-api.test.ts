import { describe, expect, it } from 'vitest';
import { memoryAccess } from '../../src/replication/federation/testing/memory-access.ts';
import { federation, type TestNode } from '../../src/replication/federation/testing/small-world.ts';
import {
  answerApi,
  envelope,
  messageIn,
  type XmlElement,
} from '../../src/replication/federation/uddi/index.ts';

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
});
