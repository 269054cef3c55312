import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { validateXML } from 'xmllint-wasm';

const data =
  process.env.DAYBOOK_DATA ?? fileURLToPath(new URL('../../../shared/data', import.meta.url));
const schemas = `${data}/uddi`;

/** Whether UDDI's schemas are there. */
export const schemasThere = existsSync(schemas);

/** A document type would load other files; the schema for signatures names one. */
function schemaText(name: string): string {
  const text = readFileSync(`${schemas}/${name}`, 'utf8');
  return text
    .replace(/<!DOCTYPE[^[>]*(\[[\s\S]*?\])?\s*>/, '')
    .replace(/schemaLocation="[^"]*\/([^"/]+\.xsd)"/g, 'schemaLocation="$1"');
}

/** What xmllint finds wrong with messages, by UDDI's schema of replication, which has all others. */
export async function schemaProblems(messages: readonly string[]): Promise<readonly string[]> {
  const others = [
    'uddi_v3.xsd',
    'uddi_v3custody.xsd',
    'www.w3.org/2001/xml.xsd',
    'www.w3.org/TR/xmldsig-core/xmldsig-core-schema.xsd',
  ];
  const result = await validateXML({
    xml: messages.map((contents, at) => ({ fileName: `message${at}.xml`, contents })),
    schema: [schemaText('uddi_v3replication.xsd')],
    preload: others.map((name) => ({
      fileName: name.replace(/^.*\//, ''),
      contents: schemaText(name),
    })),
  });
  return result.errors.map(({ rawMessage }) => rawMessage);
}
