import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { refusal } from '../core/index.ts';
import type { XmlElement } from './xml-element.ts';

/** Characters in one message. */
export const messageCharactersMax = 1024 * 1024;
const depthMax = 32;

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  removeNSPrefix: true,
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  // Read below: the parser knows too few character references, and lets others pass.
  processEntities: false,
  cdataPropName: '#cdata',
});

/**
 * Reads one XML document.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_messageTooLarge`, or `E_fatalError` when it is not
 *   well-formed or declares a document type, which could name entities without end).
 */
export function parseXml(text: string, charactersMax: number = messageCharactersMax): XmlElement {
  if (text.length > charactersMax) {
    throw refusal('E_messageTooLarge', `more than ${charactersMax} characters`);
  }
  if (/<!DOCTYPE|<!ENTITY/i.test(text)) throw refusal('E_fatalError', 'document types are refused');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is about them
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(text)) {
    throw refusal('E_fatalError', 'a character that XML cannot carry');
  }
  const verdict = XMLValidator.validate(text);
  if (verdict !== true) throw refusal('E_fatalError', `not XML: ${verdict.err.msg}`);
  const found = elementsIn(parser.parse(text) as unknown[], 0);
  const root = found.elements.find(({ name }) => name !== '?xml');
  if (root === undefined) throw refusal('E_fatalError', 'no element');
  return root;
}

function elementsIn(
  nodes: readonly unknown[],
  depth: number,
): { readonly elements: XmlElement[]; readonly text: string } {
  if (depth > depthMax) throw refusal('E_fatalError', 'nested too deeply');
  const elements: XmlElement[] = [];
  let text = '';
  for (const node of nodes) {
    const parts = node as Record<string, unknown>;
    const name = Object.keys(parts).find((key) => key !== ':@') ?? '';
    if (name === '#text') {
      text += withoutReferences(String(parts[name]));
      continue;
    }
    if (name === '#cdata') {
      for (const part of parts[name] as Record<string, unknown>[]) text += String(part['#text']);
      continue;
    }
    const inner = elementsIn(parts[name] as unknown[], depth + 1);
    const attributes: Record<string, string> = {};
    for (const [key, value] of Object.entries((parts[':@'] ?? {}) as Record<string, string>)) {
      if (key !== 'xmlns') attributes[key] = attributeValue(value);
    }
    // Blanks between children are layout; other text there is for the check of shapes to refuse.
    const layout = inner.elements.length > 0 && inner.text.trim() === '';
    elements.push({
      name,
      attributes,
      children: inner.elements,
      text: layout ? '' : inner.text,
    });
  }
  return { elements, text };
}

const namedReferences: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

function withoutReferences(text: string): string {
  return text.replace(/&([^;&]{0,10};)?/g, (whole, reference: string | undefined) => {
    const name = reference?.slice(0, -1) ?? '';
    const named = Object.hasOwn(namedReferences, name) ? namedReferences[name] : undefined;
    if (named !== undefined) return named;
    const digits = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name);
    const code =
      digits?.[1] === undefined
        ? Number(digits?.[2] ?? Number.NaN)
        : Number.parseInt(digits[1], 16);
    if (!isCharacter(code)) throw refusal('E_fatalError', `${whole} is no reference`);
    return String.fromCodePoint(code);
  });
}

function attributeValue(raw: string): string {
  if (raw.includes('<')) throw refusal('E_fatalError', '< in an attribute');
  return withoutReferences(raw);
}

/** What XML 1.0 can carry: what is let in must be fit to be passed on. */
function isCharacter(code: number): boolean {
  if (code === 9 || code === 10 || code === 13) return true;
  if (code >= 0xd800 && code <= 0xdfff) return false;
  return code >= 0x20 && code <= 0x10ffff && code !== 0xfffe && code !== 0xffff;
}
