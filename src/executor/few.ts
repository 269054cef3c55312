/** An empty list. */
export const none: readonly never[] = [];

/**
 * The list with one more, for lists that mostly have one or two; only lists of more than one are
 * changed in place.
 */
export function added<Item>(items: readonly Item[], item: Item): readonly Item[] {
  // A list that grows by `push` takes room for seventeen at once.
  if (items.length === 0) return [item];
  if (items.length === 1) return [items[0] as Item, item];
  (items as Item[]).push(item);
  return items;
}
