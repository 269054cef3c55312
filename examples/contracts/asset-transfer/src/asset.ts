import { Property, Object as Schema } from 'fabric-contract-api';

/** Something that somebody owns. */
@Schema()
export class Asset {
  @Property()
  public ID!: string;

  @Property()
  public Color!: string;

  @Property()
  public Size!: number;

  @Property()
  public Owner!: string;

  @Property()
  public AppraisedValue!: number;
}

/** JSON with sorted members: every executor writes the same bytes. */
export function sortedJson(value: object): string {
  return JSON.stringify(
    Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))),
  );
}
