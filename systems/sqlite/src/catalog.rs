//! What a database file holds.

use std::collections::HashMap;

use async_trait::async_trait;
use weir_core::{
    Catalog, ConnectorContext, Error, ErrorKind, LetterCase, LooksInto, Object, ObjectKind, ObjectName, Objects,
    Result, TableDescription, TableInfo, glob,
};
use weir_sql::{TableName, find_name};

use crate::raw::{Database, Value};
use crate::structure::describe_all;
use crate::types::Affinity;
use crate::{Access, Failure, File, QUOTING};

/// Up to this size of a file, rows are counted and pages are measured; beyond it both are estimated.
pub const SMALL_FILE: u64 = 64 * 1024 * 1024;

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, with the schema where the job wrote one.
    pub name: TableName,
    /// `table`, `view` or `virtual`.
    pub kind: String,
    /// Whether it has row ids.
    pub has_rowid: bool,
    /// Whether it is STRICT.
    pub strict: bool,
    /// The columns that a SELECT of `*` gives, in order.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The declared type; empty where there is none.
    pub declared: String,
    /// Whether values may be NULL.
    pub nullable: bool,
    /// Whether it has a default, or is the row id and so numbers itself.
    pub has_default: bool,
    /// Whether it is generated.
    pub generated: bool,
    /// The position in the primary key, from 1.
    pub key: Option<u32>,
}

impl Table {
    /// The names of the columns.
    pub fn column_names(&self) -> Vec<&str> {
        self.columns.iter().map(|c| c.name.as_str()).collect()
    }

    /// The columns of the primary key, in key order.
    pub fn key(&self) -> Vec<String> {
        let mut key: Vec<_> = self.columns.iter().filter_map(|c| Some((c.key?, c.name.clone()))).collect();
        key.sort();
        key.into_iter().map(|(_, name)| name).collect()
    }

    /// A name under which a statement can ask for the row id, if no column hides it.
    pub fn rowid(&self) -> Option<&'static str> {
        let hidden = |name: &str| self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| self.has_rowid && !hidden(name))
    }

    /// What SQLite does to values of a column. A STRICT table's ANY does nothing.
    pub fn affinity(&self, column: &Column) -> Affinity {
        if self.strict && column.declared.eq_ignore_ascii_case("any") {
            Affinity::Blob
        } else {
            Affinity::of(&column.declared)
        }
    }
}

/// The name of the schema that a name without one stands for.
pub fn schema_of(name: &TableName) -> &str {
    name.schema.as_deref().unwrap_or("main")
}

/// Finds a table or view by the name that a job wrote: exactly, else without case.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) with the nearest name.
pub fn find_table(database: &Database<'_>, written: &str) -> Result<Table> {
    let wanted = TableName::parse(written, QUOTING)?;
    if let Some(table) = find_tables(database, std::slice::from_ref(&wanted))?.pop().transpose()?.flatten() {
        return Ok(table);
    }
    let visible = names(database, schema_of(&wanted))?;
    let shown = visible.iter().map(String::as_str).filter(|name| !is_internal(name));
    match find_name("table", &wanted.name, shown) {
        // Somebody has made it meanwhile.
        Ok(_) => Err(Error::new(ErrorKind::Conflict, format!("`{wanted}` was made just now: try again"))),
        Err(error) => Err(error),
    }
}

/// The names of all tables and views of a schema.
///
/// # Errors
/// The file's.
pub fn names(database: &Database<'_>, schema: &str) -> Result<Vec<String>> {
    Ok(database.texts(
        "SELECT name FROM pragma_table_list WHERE schema = ?1 COLLATE NOCASE ORDER BY name",
        &[Value::Text(schema.as_bytes())],
    )?)
}

/// Finds tables and views, each as [`find_table`] does and `None` where there is none, in as many statements as for one of
/// them.
///
/// # Errors
/// The file's, and a view or a virtual table that cannot be read because what it rests on is gone.
pub fn find_tables(database: &Database<'_>, wanted: &[TableName]) -> Result<Vec<Result<Option<Table>>>> {
    let mut schemas: Vec<&str> = wanted.iter().map(schema_of).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let mut found: HashMap<(&str, String), Table> = HashMap::new();
    // Names that are not written as they are: what they are, or why that is not known.
    let mut spelled: HashMap<&TableName, Result<String>> = HashMap::new();
    for schema in schemas {
        let here: Vec<&TableName> = wanted.iter().filter(|name| schema_of(name) == schema).collect();
        let described = |names: Vec<&str>| describe_named(database, schema, &names);
        // Who writes them exactly needs no list of all that there are.
        let exact = described(here.iter().map(|name| name.name.as_str()).collect())?;
        found.extend(exact.into_iter().map(|(name, table)| ((schema, name), table)));
        let missing = |name: &&&TableName| !found.contains_key(&(schema, name.name.clone()));
        let missing: Vec<&TableName> = here.iter().filter(missing).copied().collect();
        if missing.is_empty() {
            continue;
        }
        let visible = names(database, schema)?;
        let mut lower: HashMap<String, Vec<&str>> = HashMap::new();
        visible.iter().for_each(|name| lower.entry(name.to_lowercase()).or_default().push(name));
        let mut near = Vec::new();
        for name in missing {
            let Some(names) = lower.get(&name.name.to_lowercase()) else { continue };
            let which = find_name("table", &name.name, names.iter().copied()).map(|index| names[index]);
            near.extend(which.as_ref().ok().copied());
            spelled.insert(name, which.map(str::to_owned));
        }
        if !near.is_empty() {
            found.extend(described(near)?.into_iter().map(|(name, table)| ((schema, name), table)));
        }
    }
    let of = |name: &TableName| {
        let spelling = match spelled.remove(name) {
            Some(spelling) => spelling?,
            None => name.name.clone(),
        };
        let Some(table) = found.get(&(schema_of(name), spelling)) else { return Ok(None) };
        let table = Table { name: name.sibling(&table.name.name), ..table.clone() };
        if table.columns.is_empty() {
            let text = format!("`{}` has no columns that could be read", table.name);
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        Ok(Some(table))
    };
    Ok(wanted.iter().map(of).collect())
}

/// A table by its exact name.
pub(crate) fn describe(database: &Database<'_>, name: TableName) -> Result<Table> {
    let found = describe_named(database, schema_of(&name), &[&name.name])?.remove(&name.name);
    let missing = || Error::new(ErrorKind::NotFound, format!("`{name}` has no columns that could be read"));
    found
        .filter(|table| !table.columns.is_empty())
        .map(|table| Table { name: name.clone(), ..table })
        .ok_or_else(missing)
}

/// A list as a parameter that `json_each` takes apart.
pub fn list(names: &[&str]) -> String {
    serde_json::json!(names).to_string()
}

/// Tables of a schema by their exact names, in one statement.
fn describe_named(database: &Database<'_>, schema: &str, names: &[&str]) -> Result<HashMap<String, Table>> {
    let mut found: HashMap<String, Table> = HashMap::new();
    let mut without_rowid = false;
    database.query(
        "SELECT t.name, t.type, t.wr, t.strict, c.name, c.type, c.\"notnull\", c.dflt_value IS NOT NULL, c.pk, c.hidden \
         FROM json_each(?1) w JOIN pragma_table_list(w.value) t ON t.name = w.value AND t.schema = ?2 COLLATE NOCASE \
         LEFT JOIN pragma_table_xinfo(t.name, t.schema) c ON c.hidden <> 1 ORDER BY w.key, c.cid",
        &[Value::Text(list(names).as_bytes()), Value::Text(schema.as_bytes())],
        |row| {
            let name = row.text(0).unwrap_or_default();
            let table = found.entry(name.clone()).or_insert_with(|| {
                let kind = row.text(1).unwrap_or_default();
                without_rowid = row.integer(2) == Some(1);
                Table {
                    name: TableName::bare(name),
                    has_rowid: kind == "table" && !without_rowid,
                    kind,
                    strict: row.integer(3) == Some(1),
                    columns: Vec::new(),
                }
            });
            let Some(column) = row.text(4) else { return };
            let hidden = row.integer(9).unwrap_or(0);
            let key = row.integer(8).and_then(|k| u32::try_from(k).ok()).filter(|k| *k > 0);
            table.columns.push(Column {
                name: column,
                declared: row.text(5).unwrap_or_default(),
                nullable: row.integer(6) != Some(1) && !(without_rowid && key.is_some()),
                has_default: row.integer(7) == Some(1) || hidden > 1,
                generated: hidden > 1,
                key,
            });
        },
    )?;
    // A single key column of the type INTEGER is the row id: never NULL, and numbered when a row leaves it out.
    for table in found.values_mut() {
        let keys = table.columns.iter().filter(|c| c.key.is_some()).count();
        if table.has_rowid && keys == 1 {
            for column in &mut table.columns {
                if column.key.is_some() && column.declared.eq_ignore_ascii_case("integer") {
                    column.nullable = false;
                    column.has_default = true;
                }
            }
        }
    }
    Ok(found)
}

/// Whether a schema has a table of that name.
pub fn has_table(database: &Database<'_>, schema: &str, name: &str) -> Result<bool, Failure> {
    let sql = format!("SELECT count(*) FROM {}.sqlite_schema WHERE name = ?1", QUOTING.quote(schema));
    Ok(database.integer(&sql, &[Value::Text(name.as_bytes())])?.unwrap_or(0) > 0)
}

/// Whether the name is SQLite's or Weir's own.
pub fn is_internal(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("sqlite_") || lower.starts_with("weir_")
}

/// Rows of a table: counted in a small file, else from the statistics of ANALYZE or the span of row ids.
pub fn rows(database: &Database<'_>, table: &Table, file_bytes: u64) -> Result<Option<u64>, Failure> {
    if table.kind == "view" {
        return Ok(None);
    }
    let quoted = table.name.quoted(QUOTING);
    let unsigned = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    if file_bytes <= SMALL_FILE {
        return Ok(unsigned(database.integer(&format!("SELECT count(*) FROM {quoted}"), &[])?));
    }
    let schema = QUOTING.quote(schema_of(&table.name));
    let analysed =
        database.integer(&format!("SELECT count(*) FROM {schema}.sqlite_schema WHERE name = 'sqlite_stat1'"), &[])?;
    if analysed == Some(1) {
        let sql = format!("SELECT max(CAST(stat AS INTEGER)) FROM {schema}.sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE");
        if let Some(rows) = database.integer(&sql, &[Value::Text(table.name.name.as_bytes())])? {
            return Ok(unsigned(Some(rows)));
        }
    }
    match span(database, table)? {
        Some((min, max)) => Ok(u64::try_from(i128::from(max) - i128::from(min) + 1).ok()),
        None => Ok(None),
    }
}

/// The least and the greatest row id.
pub fn span(database: &Database<'_>, table: &Table) -> Result<Option<(i64, i64)>, Failure> {
    let Some(rowid) = table.rowid() else { return Ok(None) };
    let quoted = table.name.quoted(QUOTING);
    // Two look-ups: SQLite finds each at an end of the tree, but scans for both at once.
    let min = database.integer(&format!("SELECT min({rowid}) FROM {quoted}"), &[])?;
    let max = database.integer(&format!("SELECT max({rowid}) FROM {quoted}"), &[])?;
    Ok(min.zip(max))
}

/// Bytes of a table: its pages in a small file, else the rows times the average of the first thousand.
pub fn bytes(
    database: &Database<'_>,
    table: &Table,
    file_bytes: u64,
    rows: Option<u64>,
) -> Result<Option<u64>, Failure> {
    if table.kind != "table" {
        return Ok(None);
    }
    if file_bytes <= SMALL_FILE {
        let sql = "SELECT sum(pgsize) FROM dbstat(?2) WHERE name = ?1 AND aggregate = 1";
        let values = [Value::Text(table.name.name.as_bytes()), Value::Text(schema_of(&table.name).as_bytes())];
        // Not every SQLite has the table `dbstat`: then nothing is known.
        return Ok(database.integer(sql, &values).ok().flatten().and_then(|n| u64::try_from(n).ok()));
    }
    let (mut sampled, mut size) = (0_u64, 0_u64);
    let columns = table.columns.len();
    database.query(&format!("SELECT * FROM {} LIMIT 1000", table.name.quoted(QUOTING)), &[], |row| {
        sampled += 1;
        size += 4
            + (0..columns)
                .map(|i| match row.value(i) {
                    Value::Null => 1,
                    Value::Integer(_) | Value::Real(_) => 6,
                    Value::Text(b) | Value::Blob(b) => 2 + b.len() as u64,
                })
                .sum::<u64>();
    })?;
    Ok(rows.filter(|_| sampled > 0).map(|rows| (rows.saturating_mul(size) / sampled).min(file_bytes)))
}

/// The tables and views of a file.
pub struct FileCatalog {
    /// The file.
    pub file: File,
    /// Cancellation.
    pub context: ConnectorContext,
}

#[async_trait]
impl Catalog for FileCatalog {
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        let pattern = pattern.map(str::to_owned);
        let file_bytes = self.file.bytes();
        self.file
            .with(Access::Read, &self.context, move |database| list_tables(database, pattern.as_deref(), file_bytes))
            .await
    }

    async fn objects(&self, _: &LooksInto<'_>) -> Result<Objects> {
        let stem = self.file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let object = |table: TableInfo| Object {
            name: ObjectName { database: stem.clone(), schema: None, table: table.name },
            kind: match table.kind.as_str() {
                "table" => ObjectKind::Table,
                "view" => ObjectKind::View,
                _ => ObjectKind::Other,
            },
            rows: table.rows,
            bytes: table.bytes,
        };
        let list = self.tables(None).await?.into_iter().map(object).collect();
        Ok(Objects { database: Some(stem.clone()), schema: None, ignores_case: true, list, ..Objects::default() })
    }

    async fn describe(&self, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
        let names = names.to_vec();
        self.file.with(Access::Read, &self.context, move |database| describe_all(database, &names)).await
    }
}

fn list_tables(database: &Database<'_>, pattern: Option<&str>, file_bytes: u64) -> Result<Vec<TableInfo>> {
    let mut kinds = HashMap::new();
    let sql = "SELECT name, type FROM pragma_table_list \
               WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') ORDER BY name";
    let mut names = Vec::new();
    database.query(sql, &[], |row| {
        let name = row.text(0).unwrap_or_default();
        if !is_internal(&name) && pattern.is_none_or(|p| glob(p, &name, LetterCase::Ignore)) {
            kinds.insert(name.clone(), row.text(1).unwrap_or_default());
            names.push(name);
        }
    })?;
    let mut infos = Vec::with_capacity(names.len());
    for name in names {
        let kind = kinds.remove(&name).unwrap_or_default();
        let kind = if kind == "virtual" { "virtual table".to_owned() } else { kind };
        // A view over a table that is gone, a virtual table of a missing module: it is still listed.
        let size = describe(database, TableName::bare(name.clone())).and_then(|table| {
            let rows = rows(database, &table, file_bytes)?;
            Ok((rows, bytes(database, &table, file_bytes, rows)?))
        });
        let (rows, bytes) = match size {
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(_) => (None, None),
        };
        infos.push(TableInfo { name, kind, rows, bytes });
    }
    Ok(infos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;
    use weir_core::Form;

    fn context() -> ConnectorContext {
        ConnectorContext {
            cancel: CancellationToken::new(),
            io: tokio::runtime::Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Default::default(),
        }
    }

    #[tokio::test]
    async fn tables_are_listed_and_described() {
        let folder = tempfile::tempdir().unwrap();
        let file = File { path: folder.path().join("a.db"), session: vec![] };
        let sql = "CREATE TABLE \"Größe 😀\"(id INTEGER PRIMARY KEY, n DECIMAL(5,2) NOT NULL DEFAULT 1, g AS (n * 2));
                   CREATE TABLE wr(a TEXT, b INT, rowid TEXT, PRIMARY KEY(b, a)) WITHOUT ROWID;
                   CREATE TABLE weir_stage_x(a); CREATE VIEW v AS SELECT * FROM wr;
                   INSERT INTO wr VALUES ('x', 1, 'r')";
        file.with(Access::Create, &context(), move |db| Ok(db.execute(sql)?)).await.unwrap();
        let catalog = FileCatalog { file: file.clone(), context: context() };
        let tables = catalog.tables(None).await.unwrap();
        assert_eq!(tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["Größe 😀", "v", "wr"]);
        assert_eq!((tables[2].rows, tables[1].kind.as_str()), (Some(1), "view"));
        assert!(tables[2].bytes.unwrap() >= 512);
        assert_eq!(catalog.tables(Some("W*")).await.unwrap().len(), 1);
        let (size, wr) = file
            .with(Access::Read, &context(), |db| Ok((find_table(db, "\"größe 😀\"")?, find_table(db, "WR")?)))
            .await
            .unwrap();
        assert!(!size.columns[0].nullable && size.columns[0].has_default && size.columns[2].generated);
        assert_eq!(size.rowid(), Some("rowid"));
        assert_eq!((wr.key(), wr.rowid()), (vec!["b".to_owned(), "a".to_owned()], None));
        let missing = file.with(Access::Read, &context(), |db| find_table(db, "wrr")).await.unwrap_err();
        assert!(missing.message().contains("did you mean `wr`"), "{missing}");
    }

    #[tokio::test]
    async fn a_missing_file_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let file = File { path: folder.path().join("a.db"), session: vec![] };
        for access in [Access::Read, Access::Write] {
            let error = file.with(access, &context(), |_| Ok(())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        assert!(!file.exists());
        std::fs::write(&file.path, "this is no database, whatever its name says, and long enough to tell").unwrap();
        let error = file.with(Access::Read, &context(), |db| find_table(db, "t")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    }

    #[tokio::test]
    async fn a_long_statement_ends_when_the_run_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let file = File { path: folder.path().join("a.db"), session: vec![] };
        let context = context();
        let cancel = context.cancel.clone();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let work = file.with(Access::Create, &context, |db| Ok(db.execute(endless)?));
        let stop = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            cancel.cancel();
        };
        let start = std::time::Instant::now();
        let (result, ()) = tokio::join!(work, stop);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        // By itself the statement would never end; the second that is promised is measured where the reader is tested.
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
