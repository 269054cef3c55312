/** An element without its namespace: names in UDDI's messages are unique enough. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** Own text; the schema has no mixed content. */
  readonly text: string;
}

/** An element in short form. */
export function element(
  name: string,
  parts: {
    readonly attributes?: Readonly<Record<string, string>>;
    readonly children?: readonly XmlElement[];
    readonly text?: string;
  } = {},
): XmlElement {
  const { attributes = {}, children = [], text = '' } = parts;
  return { name, attributes, children, text };
}

/** The first child with a name. */
export function childOf(parent: XmlElement, name: string): XmlElement | undefined {
  return parent.children.find((child) => child.name === name);
}

/** The text of the first child with a name, without surrounding blanks. */
export function childText(parent: XmlElement, name: string): string | undefined {
  return childOf(parent, name)?.text.trim();
}

/** Writes an element; `prefixOf` gives its namespace's prefix, with the colon, inside its parent. */
export function writeXml(
  one: XmlElement,
  prefixOf: (name: string, parent: string | undefined) => string,
  parent?: string,
): string {
  const name = prefixOf(one.name, parent) + one.name;
  let head = name;
  for (const [key, value] of Object.entries(one.attributes)) {
    head += ` ${key === 'lang' ? 'xml:lang' : key}="${escaped(value)}"`;
  }
  if (one.children.length === 0 && one.text === '') return `<${head}/>`;
  const inner = one.children.map((child) => writeXml(child, prefixOf, one.name)).join('');
  return `<${head}>${inner}${escaped(one.text)}</${name}>`;
}

function escaped(text: string): string {
  return (
    text
      .replace(/[&<>"\r\n\t]/g, (found) => `&#${found.charCodeAt(0)};`)
      // No form of XML 1.0 can carry these.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: it is about them
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
  );
}
