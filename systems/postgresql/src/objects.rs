//! Everything that a whole-database job may select.

use weir_core::{ErrorKind, Object, ObjectKind, ObjectName, Objects, Result};

use crate::catalog::get;
use crate::connection::Session;

/// How long the size of a locked table is waited for.
const LOCK_WAIT: &str = "500ms";

/// All tables, views and the like of the connection's database. Tables that the user may not read are there too, and those in
/// schemas that he may not look into: a job that selects one says so.
pub async fn objects(session: &mut Session) -> Result<Objects> {
    let lists_leaves = session.version >= 120_000;
    // A partitioned table has its rows in its leaves; relatives older than 12 cannot list those in one step.
    let partitioned = |measured: bool| match (lists_leaves, measured) {
        (false, _) => {
            ", t AS (SELECT NULL::oid AS root, NULL::numeric AS bytes, NULL::float8 AS rows WHERE false)".to_owned()
        }
        (true, measured) => format!(
            ", t AS (SELECT p.oid AS root, sum({}) AS bytes, sum(greatest(l.reltuples, 0)) AS rows \
               FROM pg_catalog.pg_class p, pg_partition_tree(p.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid \
               WHERE p.relkind = 'p' AND NOT p.relispartition AND t.isleaf GROUP BY p.oid)",
            if measured { "pg_table_size(t.relid)" } else { "l.relpages::int8 * current_setting('block_size')::int8" }
        ),
    };
    let list = |partitioned: &str, size: &str| {
        format!(
            "WITH s AS (SELECT current_database()::text AS own){partitioned} \
             SELECT s.own, n.nspname::text, c.relname::text, c.relkind::text, \
             CASE WHEN c.relkind = 'p' THEN t.rows::float8 WHEN c.relkind IN ('r','m') THEN c.reltuples::float8 END, \
             CASE WHEN c.relkind = 'p' THEN t.bytes::int8 WHEN c.relkind IN ('r','m') THEN {size} END, \
             has_schema_privilege(n.oid, 'USAGE') \
             FROM s, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN t ON t.root = c.oid \
             WHERE c.relkind IN ('r','p','v','m','f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
               AND n.nspname !~ '^pg_(toast|temp)' AND (n.nspname !~ '^pg_' OR has_schema_privilege(n.oid, 'USAGE')) AND c.relname NOT LIKE 'weir\\_%' AND NOT coalesce(c.relispartition, false) \
             ORDER BY 2, 3"
        )
    };
    // To ask a table for its size takes a lock on it: one that is locked by somebody must not keep all of them waiting.
    session.execute(&format!("BEGIN READ ONLY; SET LOCAL lock_timeout = '{LOCK_WAIT}'")).await?;
    let measured = session.rows(&list(&partitioned(true), "pg_table_size(c.oid)")).await;
    session.execute("ROLLBACK").await?;
    let rows = match measured {
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let estimate = "c.relpages::int8 * current_setting('block_size')::int8";
            session.rows(&list(&partitioned(false), estimate)).await?
        }
        measured => measured?,
    };
    let own = session.one("SELECT current_database()::text, current_schema()::text").await?;
    let mut objects = Objects { database: Some(get(&own, 0)?), schema: get(&own, 1)?, ..Objects::default() };
    for row in &rows {
        let (schema, kind): (String, String) = (get(row, 1)?, get(row, 3)?);
        if !get::<bool>(row, 6)? && objects.closed_schemas.last() != Some(&schema) {
            objects.closed_schemas.push(schema.clone());
        }
        objects.list.push(Object {
            name: ObjectName { database: get(row, 0)?, schema: Some(schema), table: get(row, 2)? },
            kind: match kind.as_str() {
                "r" | "p" => ObjectKind::Table,
                "v" | "m" => ObjectKind::View,
                _ => ObjectKind::Other,
            },
            // What was never analysed has -1.
            rows: get::<Option<f64>>(row, 4)?.filter(|rows| *rows >= 0.0).map(|rows| rows as u64),
            bytes: get::<Option<i64>>(row, 5)?.map(|bytes| bytes.max(0) as u64),
        });
    }
    Ok(objects)
}
