/** A table whose changes go to the ledger. */
export interface SourceTable {
  /** With its schema when that is not `public`: `shop.product`. */
  readonly table: string;
  /** What the entities' keys begin with: `product` gives `product/4711`. Default: the table's name. */
  readonly prefix?: string;
  /** Columns that name an entity; in its key in this order, with `/` between. */
  readonly key: readonly string[];
}

/**
 * Outbox, revisions and the functions behind the triggers.
 *
 * An entity's revision is taken while its row in `daybook.revision` is locked until the commit, so
 * revisions of one entity are in the order of its commits. Nothing else about an outbox is: numbers
 * of rows and of transactions are given out before the commit, in any order. Revisions keep up with
 * the clock, so that those of a database that was restored from a backup are newer than what the
 * ledger got before.
 */
export const outboxSql = `
  CREATE SCHEMA IF NOT EXISTS daybook;
  CREATE TABLE IF NOT EXISTS daybook.outbox (
    seq bigserial PRIMARY KEY, source text NOT NULL,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entity text NOT NULL, revision bigint NOT NULL, content text,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
  CREATE INDEX IF NOT EXISTS outbox_source_seq ON daybook.outbox (source, seq);
  CREATE INDEX IF NOT EXISTS outbox_source_txid ON daybook.outbox (source, txid);
  CREATE TABLE IF NOT EXISTS daybook.revision (
    source text NOT NULL, entity text NOT NULL, revision bigint NOT NULL,
    PRIMARY KEY (source, entity));

  CREATE OR REPLACE FUNCTION daybook.note(source_name text, entity_name text, new_content text)
  RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
  DECLARE next_revision bigint;
  BEGIN
    INSERT INTO daybook.revision AS r (source, entity, revision) VALUES
      (source_name, entity_name, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
      ON CONFLICT (source, entity)
      DO UPDATE SET revision = greatest(r.revision + 1, excluded.revision)
      RETURNING revision INTO next_revision;
    INSERT INTO daybook.outbox (source, entity, revision, content)
      VALUES (source_name, entity_name, next_revision, new_content);
  END $body$;

  CREATE OR REPLACE FUNCTION daybook.entity(prefix text, key_columns text[], content jsonb)
  RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $body$
    SELECT prefix || '/' || string_agg(
      replace(replace(content ->> c, '%', '%25'), '/', '%2F'), '/' ORDER BY n)
    FROM unnest(key_columns) WITH ORDINALITY AS k(c, n)
  $body$;

  CREATE OR REPLACE FUNCTION daybook.capture()
  RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
  DECLARE
    old_entity text; new_entity text;
    key_columns text[] := TG_ARGV[2:];
  BEGIN
    IF TG_OP = 'TRUNCATE' THEN
      EXECUTE format(
        'SELECT daybook.note($1, daybook.entity($2, $3, to_jsonb(t)), NULL) FROM %s AS t',
        TG_RELID::regclass) USING TG_ARGV[0], TG_ARGV[1], key_columns;
      RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
      old_entity := daybook.entity(TG_ARGV[1], key_columns, to_jsonb(OLD));
    END IF;
    IF TG_OP <> 'DELETE' THEN
      new_entity := daybook.entity(TG_ARGV[1], key_columns, to_jsonb(NEW));
    END IF;
    IF old_entity IS NOT NULL AND old_entity IS DISTINCT FROM new_entity THEN
      PERFORM daybook.note(TG_ARGV[0], old_entity, NULL);
    END IF;
    IF new_entity IS NOT NULL THEN
      PERFORM daybook.note(TG_ARGV[0], new_entity, to_jsonb(NEW)::text);
    END IF;
    RETURN NULL;
  END $body$;`;

/** SQL that puts the triggers on a table, or takes them off. */
export function triggersSql(source: string, table: SourceTable, remove = false): string {
  const name = tableName(table.table);
  const args = [source, prefixOf(table), ...table.key].map(literal).join(', ');
  const drop =
    `DROP TRIGGER IF EXISTS daybook_capture ON ${name}; ` +
    `DROP TRIGGER IF EXISTS daybook_truncate ON ${name};`;
  if (remove) return drop;
  return (
    `${drop} CREATE TRIGGER daybook_capture AFTER INSERT OR UPDATE OR DELETE ON ${name} ` +
    `FOR EACH ROW EXECUTE FUNCTION daybook.capture(${args}); ` +
    `CREATE TRIGGER daybook_truncate BEFORE TRUNCATE ON ${name} ` +
    `FOR EACH STATEMENT EXECUTE FUNCTION daybook.capture(${args});`
  );
}

/** SQL that puts all rows of a table into the outbox, as if they were inserted now. */
export function takeoverSql(source: string, table: SourceTable): string {
  const key = `ARRAY[${table.key.map(literal).join(', ')}]::text[]`;
  return (
    `SELECT count(daybook.note(${literal(source)}, ` +
    `daybook.entity(${literal(prefixOf(table))}, ${key}, to_jsonb(t)), to_jsonb(t)::text)::text) ` +
    `AS rows FROM ${tableName(table.table)} AS t`
  );
}

function prefixOf({ prefix, table }: SourceTable): string {
  return prefix ?? table.slice(table.lastIndexOf('.') + 1);
}

function tableName(table: string): string {
  return table
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.');
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
