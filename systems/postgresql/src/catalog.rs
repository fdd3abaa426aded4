//! What the server says of its tables, columns, types and keys.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column as _, Decode, Executor, Postgres, Row, SqlSafeStr, Statement, Type};
use weir_core::{
    Catalog, ConnectorContext, Hold, LetterCase, LooksInto, ObjectName, Objects, Result, Shared, SourceSnapshot,
    TableDescription, TableInfo, glob,
};
use weir_sql::{Ahead, Quoting, TableName};

use crate::connection::{Endpoint, Session, literal};
use crate::error::map;
use crate::structure;
use crate::types::PgType;

/// A table, view or the like.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its oid.
    pub oid: i64,
    /// Schema and name, as the server has them.
    pub name: TableName,
    /// `relkind`: r (table), p (partitioned), v (view), m (materialized view), f (foreign).
    pub kind: char,
    /// Whether its rows lie in pages of a plain heap of its own, so that ranges of pages can be read.
    pub heap: bool,
    /// Pages of the heap now.
    pub pages: u64,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Bytes on disk, indexes left out.
    pub bytes: Option<u64>,
    /// Whether a crash of the server empties it.
    pub unlogged: bool,
    /// The columns in order.
    pub columns: Vec<TableColumn>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct TableColumn {
    /// The name.
    pub name: String,
    /// The type.
    pub pg: PgType,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Whether a row that does not name it gets a value: a default, identity or generated column.
    pub has_default: bool,
    /// Whether it is generated always from others.
    pub generated: bool,
    /// Whether it is an identity that is generated always: written with OVERRIDING SYSTEM VALUE only.
    pub identity_always: bool,
    /// The position in the primary key, from 1.
    pub key: Option<u32>,
    /// The comment.
    pub comment: Option<String>,
}

impl Table {
    /// The primary key's columns in the key's order.
    pub fn key(&self) -> Vec<&TableColumn> {
        let mut key: Vec<_> = self.columns.iter().filter(|c| c.key.is_some()).collect();
        key.sort_by_key(|c| c.key);
        key
    }

    /// A column by its exact name.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The names of all columns.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|c| c.name.as_str()).collect()
    }
}

pub(crate) fn get<T>(row: &PgRow, index: usize) -> Result<T>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(index).map_err(map)
}

pub(crate) fn letter(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

/// Everything about some tables, in a few queries for all of them; those that are gone are left out.
///
/// # Errors
/// Those of the connection.
pub async fn describe_all(session: &mut Session, oids: &[i64]) -> Result<Vec<Table>> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<_> = oids.iter().map(i64::to_string).collect();
    let among = format!("= ANY (ARRAY[{}]::oid[])", list.join(","));
    // Relatives without table access methods keep everything in heaps.
    let method = if session.version >= 120_000 {
        "coalesce((SELECT a.amname = 'heap' FROM pg_catalog.pg_am a WHERE a.oid = c.relam), false)"
    } else {
        "true"
    };
    let size = if session.version >= 120_000 {
        "CASE c.relkind WHEN 'p' THEN (SELECT sum(pg_table_size(t.relid))::int8 FROM pg_partition_tree(c.oid) t WHERE t.isleaf) \
         WHEN 'v' THEN NULL WHEN 'f' THEN NULL ELSE pg_table_size(c.oid) END, \
         CASE c.relkind WHEN 'p' THEN (SELECT sum(greatest(l.reltuples, 0))::float8 FROM pg_partition_tree(c.oid) t \
           JOIN pg_catalog.pg_class l ON l.oid = t.relid WHERE t.isleaf) ELSE c.reltuples::float8 END"
    } else {
        "CASE WHEN c.relkind IN ('v','f') THEN NULL ELSE pg_table_size(c.oid) END, c.reltuples::float8"
    };
    let rows = session
        .answers(&format!(
            "SELECT n.nspname::text, c.relname::text, c.relkind::text, \
             c.relkind IN ('r','m') AND NOT c.relhassubclass AND {method}, \
             CASE WHEN c.relkind IN ('r','m') THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END, \
             c.relpages::int8, {size}, c.oid::int8, c.relpersistence = 'u' \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid {among} ORDER BY c.oid"
        ))
        .await?;
    let mut tables = rows.iter().map(table_of).collect::<Result<Vec<Table>>>()?;
    let generated = if session.version >= 120_000 { "a.attgenerated::text" } else { "''::text" };
    let identity = if session.version >= 100_000 { "a.attidentity::text" } else { "''::text" };
    let columns = session
        .answers(&format!(
            "SELECT a.attname::text, a.atttypid::int8, a.atttypmod, a.attnotnull, a.atthasdef, {generated}, {identity}, \
             (SELECT k.position::int4 FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position) \
              WHERE i.indrelid = a.attrelid AND i.indisprimary AND k.attnum = a.attnum LIMIT 1), \
             col_description(a.attrelid, a.attnum::int4), a.attrelid::int8 \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid {among} AND a.attnum > 0 AND NOT a.attisdropped \
             ORDER BY a.attrelid, a.attnum"
        ))
        .await?;
    let mut wanted = Vec::with_capacity(columns.len());
    for row in &columns {
        wanted.push((get::<i64>(row, 1)? as u32, get::<i32>(row, 2)?));
    }
    for (row, pg) in columns.iter().zip(resolve_types(session, &wanted).await?) {
        let generated: String = get(row, 5)?;
        let identity: String = get(row, 6)?;
        let oid: i64 = get(row, 9)?;
        let Ok(at) = tables.binary_search_by_key(&oid, |table| table.oid) else { continue };
        tables[at].columns.push(TableColumn {
            name: get(row, 0)?,
            pg,
            nullable: !get::<bool>(row, 3)?,
            has_default: get::<bool>(row, 4)? || !identity.is_empty(),
            generated: !generated.is_empty(),
            identity_always: identity == "a",
            key: get::<Option<i32>>(row, 7)?.map(|k| k.max(0) as u32),
            comment: get(row, 8)?,
        });
    }
    Ok(tables)
}

/// A table without its columns.
fn table_of(row: &PgRow) -> Result<Table> {
    let pages: i64 = get::<Option<i64>>(row, 4)?.unwrap_or(0);
    let then: i64 = get(row, 5)?;
    let kind = letter(&get::<String>(row, 2)?);
    let tuples = get::<Option<f64>>(row, 7)?.filter(|t| *t >= 0.0);
    let rows = match tuples {
        // The planner's own way: the density of the last ANALYZE times the pages of now.
        Some(tuples) if matches!(kind, 'r' | 'm') && then > 0 => Some(tuples / then as f64 * pages as f64),
        Some(0.0) => (pages == 0 && matches!(kind, 'r' | 'm')).then_some(0.0),
        other => other,
    };
    Ok(Table {
        oid: get(row, 8)?,
        name: TableName { schema: Some(get(row, 0)?), name: get(row, 1)? },
        kind,
        heap: get(row, 3)?,
        pages: pages.max(0) as u64,
        rows: rows.map(|r| r.round() as u64),
        bytes: get::<Option<i64>>(row, 6)?.map(|b| b.max(0) as u64),
        unlogged: get(row, 9)?,
        columns: Vec::new(),
    })
}

/// The oids of tables, by their exact names; those that are not there are left out.
///
/// # Errors
/// Those of the connection.
pub async fn oids(session: &mut Session, tables: &[TableName]) -> Result<Vec<i64>> {
    let pair = |table: &TableName| {
        let schema = table.schema.as_deref().map_or_else(|| "current_schema()".to_owned(), literal);
        format!("({schema}, {})", literal(&table.name))
    };
    let pairs: Vec<_> = tables.iter().map(pair).collect();
    let rows = session
        .answers(&format!(
            "SELECT c.oid::int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r','p','v','m','f') AND (n.nspname, c.relname) IN ({})",
            pairs.join(", ")
        ))
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Looks types up by oid and modifier, through domains to their base types.
pub async fn resolve_types(session: &mut Session, wanted: &[(u32, i32)]) -> Result<Vec<PgType>> {
    if let Some(known) = wanted.iter().map(|(oid, typmod)| PgType::built_in(*oid, *typmod)).collect() {
        return Ok(known);
    }
    let values: Vec<_> =
        wanted.iter().enumerate().map(|(i, (oid, typmod))| format!("({i}, {oid}::oid, {typmod})")).collect();
    let rows = session
        .answers(&format!(
            "WITH RECURSIVE w(i, oid, typmod) AS (VALUES {}), d(i, oid, typmod, depth) AS ( \
               SELECT i, oid, typmod, 0 FROM w UNION ALL \
               SELECT d.i, t.typbasetype, t.typtypmod, d.depth + 1 FROM d JOIN pg_catalog.pg_type t ON t.oid = d.oid \
               WHERE t.typtype = 'd') \
             SELECT DISTINCT ON (w.i) format_type(w.oid, w.typmod), format_type(d.oid, d.typmod), d.oid::int8, d.typmod, \
               coalesce(t.typtype::text, 'b'), (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) \
                 FROM pg_catalog.pg_enum e WHERE e.enumtypid IN (t.oid, CASE WHEN t.typlen = -1 THEN t.typelem END)) \
             FROM w JOIN d ON d.i = w.i LEFT JOIN pg_catalog.pg_type t ON t.oid = d.oid ORDER BY w.i, d.depth DESC",
            values.join(", ")
        ))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(PgType {
                text: get(row, 0)?,
                base: get(row, 1)?,
                oid: get::<i64>(row, 2)? as u32,
                typmod: get(row, 3)?,
                kind: letter(&get::<String>(row, 4)?),
                labels: get::<Option<Vec<String>>>(row, 5)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// The result columns of a statement, without running it: name and type. Where a result column is a table's column,
/// its modifier (precision, length) is known too.
pub async fn describe_query(session: &mut Session, sql: &str) -> Result<Vec<(String, PgType)>> {
    let mut columns = Vec::new();
    {
        let (connection, stopper) = session.parts();
        let statement = AssertSqlSafe(sql.to_owned()).into_sql_str();
        let prepared = stopper.watch(connection.prepare(statement)).await?.map_err(map)?;
        for column in prepared.columns() {
            let oid = column.type_info().oid().map_or(0, |o| o.0);
            let origin = column.relation_id().map(|r| r.0).zip(column.relation_attribute_no());
            columns.push((column.name().to_owned(), oid, origin));
        }
    }
    let origins: Vec<_> =
        columns.iter().filter_map(|(_, _, o)| o.map(|(r, a)| format!("({r}::oid, {a}::int2)"))).collect();
    let mut modifiers: Vec<(i64, i16, i64, i32)> = Vec::new();
    if !origins.is_empty() {
        let rows = session
            .rows(&format!(
                "SELECT attrelid::int8, attnum, atttypid::int8, atttypmod FROM pg_catalog.pg_attribute \
                 WHERE (attrelid, attnum) IN ({})",
                origins.join(", ")
            ))
            .await?;
        for row in &rows {
            modifiers.push((get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?));
        }
    }
    let wanted: Vec<_> = columns
        .iter()
        .map(|(_, oid, origin)| {
            let known = origin.and_then(|(relation, number)| {
                modifiers.iter().find(|(r, n, ..)| (*r, *n) == (i64::from(relation), number))
            });
            // The result has a domain's base type: its own modifier is the column's domain's business.
            known.map_or((*oid, -1), |(_, _, declared, typmod)| (*declared as u32, *typmod))
        })
        .collect();
    let types = resolve_types(session, &wanted).await?;
    Ok(columns.into_iter().map(|(name, ..)| name).zip(types).collect())
}

/// The catalogue of one database.
pub struct PgCatalog {
    endpoint: Endpoint,
    context: ConnectorContext,
}

impl PgCatalog {
    /// A catalogue; connects when asked.
    pub fn new(endpoint: Endpoint, context: ConnectorContext) -> Self {
        Self { endpoint, context }
    }
}

#[async_trait]
impl Catalog for PgCatalog {
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        let mut session = self.endpoint.connect(&self.context).await?;
        let rows = session
            .rows(
                "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::float8, \
                 CASE WHEN c.relkind IN ('r','m') THEN pg_table_size(c.oid) END, \
                 n.nspname = current_schema() \
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind IN ('r','p','v','m','f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
                   AND n.nspname !~ '^pg_(toast|temp)' AND c.relname NOT LIKE 'weir\\_%' AND NOT coalesce(c.relispartition, false) \
                   AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
                 ORDER BY 1, 2",
            )
            .await?;
        session.close().await;
        let mut tables = Vec::new();
        for row in &rows {
            let (schema, name): (String, String) = (get(row, 0)?, get(row, 1)?);
            let part = |text: &str| {
                if text.contains(['.', '"', ',']) { Quoting::DOUBLE.quote(text) } else { text.to_owned() }
            };
            let current: bool = get::<Option<bool>>(row, 5)?.unwrap_or(false);
            let name = if current { part(&name) } else { format!("{}.{}", part(&schema), part(&name)) };
            if pattern.is_some_and(|p| !glob(p, &name, LetterCase::Exact)) {
                continue;
            }
            let kind = letter(&get::<String>(row, 2)?);
            tables.push(TableInfo {
                name,
                kind: match kind {
                    'v' => "view",
                    'm' => "materialized view",
                    'f' => "foreign table",
                    _ => "table",
                }
                .into(),
                rows: get::<Option<f64>>(row, 3)?.filter(|r| *r >= 0.0 && kind != 'v').map(|r| r as u64),
                bytes: get::<Option<i64>>(row, 4)?.map(|b| b.max(0) as u64),
            });
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn snapshot(&self, tables: &[ObjectName], _: usize) -> Result<Option<SourceSnapshot>> {
        crate::snapshot::of_database(&self.endpoint, &self.context, tables).await
    }

    async fn objects(&self, _: &LooksInto<'_>) -> Result<Objects> {
        let mut session = self.endpoint.connect(&self.context).await?;
        let objects = crate::objects::objects(&mut session).await?;
        session.close().await;
        Ok(objects)
    }

    async fn describe(&self, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
        let mut session = self.endpoint.connect(&self.context).await?;
        let tables = structure::describe(&mut session, names).await?;
        session.close().await;
        Ok(tables)
    }

    async fn look_ahead(&self, tables: &[ObjectName]) -> Result<Option<Hold>> {
        let named = |table: &ObjectName| TableName { schema: table.schema.clone(), name: table.table.clone() };
        let names: Vec<TableName> = tables.iter().map(named).collect();
        let mut session = self.endpoint.connect(&self.context).await?;
        let mut found = HashMap::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            let oids = oids(&mut session, names).await?;
            let described = describe_all(&mut session, &oids).await?;
            found.extend(described.into_iter().map(|table| (table.name.clone(), table)));
        }
        session.rest().await;
        Ok(Some(Ahead::leave(&self.context.shared, ahead(&self.endpoint), found)))
    }
}

/// How many tables a look ahead asks about at once.
pub const AT_ONCE: usize = 500;

/// Under which name tables of a database are left for their readers.
fn ahead(endpoint: &Endpoint) -> String {
    format!("postgresql tables of {}", endpoint.identity())
}

/// What a look ahead has found of a table; `name` with its schema.
pub fn looked_ahead(shared: &Shared, endpoint: &Endpoint, name: &TableName) -> Option<Table> {
    Ahead::find(shared, &ahead(endpoint), name)
}
