// biome-ignore lint/style/useImportType: the decorators look at the class of the first parameter
import { Context, Contract, Info, Returns, Transaction } from 'fabric-contract-api';
// biome-ignore lint/style/useImportType: the decorators look at the classes of parameters
import { Asset, sortedJson } from './asset';

const founders: [color: string, size: number, owner: string, value: number][] = [
  ['blue', 5, 'Tomoko', 300],
  ['red', 5, 'Brad', 400],
  ['green', 10, 'Jin Soo', 500],
  ['yellow', 10, 'Max', 600],
  ['black', 15, 'Adriana', 700],
  ['white', 15, 'Michel', 800],
];

@Info({ title: 'AssetTransfer', description: 'Assets and their owners' })
export class AssetTransfer extends Contract {
  @Transaction()
  public async InitLedger(ctx: Context): Promise<void> {
    for (const [index, [Color, Size, Owner, AppraisedValue]] of founders.entries()) {
      const ID = `asset${index + 1}`;
      await put(ctx, ID, { ID, Color, Size, Owner, AppraisedValue, docType: 'asset' });
    }
  }

  @Transaction()
  public async CreateAsset(
    ctx: Context,
    id: string,
    color: string,
    size: number,
    owner: string,
    appraisedValue: number,
  ): Promise<void> {
    if (await this.AssetExists(ctx, id)) throw new Error(`The asset ${id} already exists`);
    await put(ctx, id, assetOf(id, color, size, owner, appraisedValue));
  }

  @Transaction(false)
  @Returns('string')
  public async ReadAsset(ctx: Context, id: string): Promise<string> {
    const stored = await ctx.stub.getState(id);
    if (stored.length === 0) throw new Error(`The asset ${id} does not exist`);
    return stored.toString();
  }

  @Transaction()
  public async UpdateAsset(
    ctx: Context,
    id: string,
    color: string,
    size: number,
    owner: string,
    appraisedValue: number,
  ): Promise<void> {
    await this.ReadAsset(ctx, id);
    return put(ctx, id, assetOf(id, color, size, owner, appraisedValue));
  }

  @Transaction()
  public async DeleteAsset(ctx: Context, id: string): Promise<void> {
    await this.ReadAsset(ctx, id);
    return ctx.stub.deleteState(id);
  }

  @Transaction(false)
  @Returns('boolean')
  public async AssetExists(ctx: Context, id: string): Promise<boolean> {
    return (await ctx.stub.getState(id)).length > 0;
  }

  /** Returns the owner before. */
  @Transaction()
  @Returns('string')
  public async TransferAsset(ctx: Context, id: string, newOwner: string): Promise<string> {
    const asset = JSON.parse(await this.ReadAsset(ctx, id)) as Asset;
    const { Owner: oldOwner } = asset;
    await put(ctx, id, { ...asset, Owner: newOwner });
    return oldOwner;
  }

  @Transaction()
  @Returns('string')
  public async PutAsset(ctx: Context, asset: Asset): Promise<string> {
    await put(ctx, asset.ID, asset);
    return asset.ID;
  }

  @Transaction(false)
  @Returns('string')
  public async GetAllAssets(ctx: Context): Promise<string> {
    const assets: unknown[] = [];
    for await (const { value } of ctx.stub.getStateByRange('', '')) {
      assets.push(JSON.parse(value.toString()));
    }
    return JSON.stringify(assets);
  }
}

function assetOf(
  ID: string,
  Color: string,
  Size: number,
  Owner: string,
  AppraisedValue: number,
): Asset {
  return { ID, Color, Size, Owner, AppraisedValue };
}

function put(ctx: Context, id: string, asset: Asset & { docType?: string }): Promise<void> {
  return ctx.stub.putState(id, Buffer.from(sortedJson(asset)));
}
