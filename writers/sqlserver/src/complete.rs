//! What a table gets once its rows are there: the next number, unique keys, foreign keys.

use std::collections::HashMap;

use weir_core::{Completed, Completion, ErrorKind, Result, UniqueKey};
use weir_sql::TableName;
use weir_sqlserver::{QUOTING, Session, Table, cell_number, cell_text, literal};

use crate::keys;
use crate::known::Known;

/// The longest name.
pub(crate) const LONGEST: usize = 128;

/// Whoever waits for the table keeps everybody else waiting, so nobody is waited for long.
pub(crate) async fn impatient(session: &mut Session) -> Result<()> {
    // A relative that does not know the setting has no such limit.
    session.raw("SET LOCK_TIMEOUT 60000").await.map(drop)
}

/// Makes the table whole; what could not be done is said in words.
pub(crate) async fn complete(
    session: &mut Session,
    known: &Known,
    table: &Table,
    completion: &Completion,
) -> Result<Completed> {
    impatient(session).await?;
    let mut completed = Completed::default();
    for (column, next) in &completion.positions {
        position(session, table, column, *next).await.map_err(|error| error.with("column", column))?;
    }
    let present = &known.indexes;
    for key in completion.unique.iter().filter(|key| !present.iter().any(|index| index.keeps(key))) {
        tried(session, &unique_index(table, key, present), &mut completed).await?;
    }
    for (key, sql) in keys::missing(session, known, &completion.foreign_keys).await? {
        if tried(session, &sql, &mut completed).await? {
            completed.foreign_keys.push(key);
        }
    }
    Ok(completed)
}

/// Runs a statement that the rows or the types may not allow, and tells whether it was done; that it failed is then said and no
/// error.
async fn tried(session: &mut Session, sql: &str, completed: &mut Completed) -> Result<bool> {
    match session.run(sql).await {
        Ok(()) => {
            completed.keys.push(sql.to_owned());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::Cancelled || error.is_retryable() => Err(error),
        Err(error) => {
            completed.undone.push(format!("{sql}: {}", error.full()));
            Ok(false)
        }
    }
}

/// Lets the next number of a column be at least `next`; the server itself goes beyond all that rows have brought.
async fn position(session: &mut Session, table: &Table, column: &str, next: i64) -> Result<()> {
    let quoted = literal(&table.name.quoted(QUOTING));
    let row = session
        .row(&format!(
            "SELECT CAST(last_value AS bigint), CAST(increment_value AS bigint), CAST(seed_value AS bigint) \
             FROM sys.identity_columns WHERE object_id = OBJECT_ID({quoted}) AND name = {}",
            literal(column)
        ))
        .await?;
    let Some(row) = row else { return Ok(()) };
    let (increment, seed) = (cell_number(&row, 1).unwrap_or(1), cell_number(&row, 2).unwrap_or(1));
    if let Some(seed) = reseed(cell_number(&row, 0), increment, seed, next) {
        session.run(&format!("DBCC CHECKIDENT ({}, RESEED, {seed})", named(&table.name))).await?;
    }
    Ok(())
}

/// A table's name as DBCC takes it. Relatives do not read brackets there, which only unusual names need.
fn named(table: &TableName) -> String {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match table.schema.iter().chain([&table.name]).all(|part| plain(part)) {
        true => format!("'{table}'"),
        false => literal(&table.quoted(QUOTING)),
    }
}

/// What RESEED is told, if it has to be told anything: the first row of a table gets that number, every other the one
/// after it.
fn reseed(last: Option<i64>, increment: i64, seed: i64, next: i64) -> Option<i64> {
    match last {
        _ if increment <= 0 => None,
        None => (seed < next).then_some(next),
        Some(last) => (last.checked_add(increment)? < next).then(|| next - increment),
    }
}

/// A unique index that the table has.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    name: String,
    columns: Vec<String>,
    filter: Option<String>,
}

impl Index {
    /// Whether it keeps a key unique: all its rows, or all that have no NULL in it.
    fn keeps(&self, key: &UniqueKey) -> bool {
        let rest = self.columns.iter().fold(self.filter.clone().unwrap_or_default(), |filter, column| {
            filter.replace(&format!("{} IS NOT NULL", QUOTING.quote(column)), "")
        });
        self.columns.len() == key.columns.len()
            && self.columns.iter().all(|column| key.columns.contains(column))
            && rest.replace("AND", "").chars().all(|c| matches!(c, '(' | ')' | ' '))
    }
}

/// The unique indexes of tables by the numbers of these, of which there are some.
pub(crate) async fn unique_indexes(session: &mut Session, ids: &[i64]) -> Result<HashMap<i64, Vec<Index>>> {
    let rows = session
        .rows(&format!(
            "SELECT CAST(i.object_id AS bigint), CAST(i.name AS nvarchar(128)), CAST(c.name AS nvarchar(128)), \
             CAST(i.filter_definition AS nvarchar(max)) \
             FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id \
             JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
             WHERE i.object_id IN ({}) AND i.is_unique = 1 AND i.is_disabled = 0 AND k.is_included_column = 0 \
             ORDER BY i.object_id, i.index_id, k.key_ordinal",
            ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
        ))
        .await?;
    let mut all: HashMap<i64, Vec<Index>> = HashMap::new();
    for row in &rows {
        let indexes = all.entry(cell_number(row, 0).unwrap_or_default()).or_default();
        let (name, column) = (cell_text(row, 1).unwrap_or_default(), cell_text(row, 2).unwrap_or_default());
        match indexes.last_mut().filter(|index| index.name == name) {
            Some(index) => index.columns.push(column),
            None => indexes.push(Index { name, columns: vec![column], filter: cell_text(row, 3) }),
        }
    }
    Ok(all)
}

/// The statement for a unique key. Elsewhere a NULL equals nothing, and here another NULL: rows with one are left out.
fn unique_index(table: &Table, key: &UniqueKey, present: &[Index]) -> String {
    let taken = |name: &str| present.iter().any(|index| index.name.eq_ignore_ascii_case(name));
    let own = || format!("unique_{}", key.columns.join("_"));
    let name = if key.name.is_empty() || taken(&key.name) { own() } else { key.name.clone() };
    let name: String = name.chars().take(LONGEST).collect();
    let nullable = key.columns.iter().filter(|name| table.column(name).is_none_or(|column| column.nullable));
    let conditions: Vec<String> = nullable.map(|name| format!("{} IS NOT NULL", QUOTING.quote(name))).collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!(
        "CREATE UNIQUE INDEX {} ON {} ({}){filter}",
        QUOTING.quote(&name),
        table.name.quoted(QUOTING),
        QUOTING.quote_all(&key.columns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sqlserver::{Column, Kind};

    fn table(columns: &[(&str, bool)]) -> Table {
        let of = |(name, nullable): &(&str, bool)| Column {
            name: (*name).into(),
            type_text: "int".into(),
            kind: Kind::Int,
            nullable: *nullable,
            has_default: false,
            identity: false,
            generated: false,
            key: None,
            collation: None,
            comment: None,
        };
        Table {
            id: 1,
            name: TableName::parse("dbo.t", QUOTING).unwrap(),
            view: false,
            rows: None,
            bytes: None,
            columns: columns.iter().map(of).collect(),
            unique: Vec::new(),
            checks: Vec::new(),
            referenced_by: Vec::new(),
        }
    }

    #[test]
    fn numbers_go_on_where_the_source_is() {
        assert_eq!(reseed(None, 1, 1, 8), Some(8), "no row yet: the first one gets it");
        assert_eq!(reseed(None, 1, 1, 1), None);
        assert_eq!(reseed(Some(5), 1, 1, 8), Some(7));
        assert_eq!(reseed(Some(7), 1, 1, 8), None);
        assert_eq!(reseed(Some(7), 1, 1, 3), None, "never back");
        assert_eq!(reseed(Some(i64::MAX), 1, 1, 3), None);
        assert_eq!(reseed(Some(5), -1, 1, 8), None);
    }

    #[test]
    fn a_unique_key_leaves_nulls_alone() {
        let table = table(&[("a", false), ("b", true)]);
        let key = |columns: &[&str]| UniqueKey {
            name: "uk".into(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        };
        assert_eq!(unique_index(&table, &key(&["a"]), &[]), "CREATE UNIQUE INDEX [uk] ON [dbo].[t] ([a])");
        let own = |filter: Option<&str>| Index {
            name: "UK".into(),
            columns: vec!["b".into(), "a".into()],
            filter: filter.map(str::to_owned),
        };
        assert_eq!(
            unique_index(&table, &key(&["a", "b"]), &[own(None)]),
            "CREATE UNIQUE INDEX [unique_a_b] ON [dbo].[t] ([a], [b]) WHERE [b] IS NOT NULL"
        );
        assert!(own(None).keeps(&key(&["a", "b"])) && !own(None).keeps(&key(&["a"])));
        assert!(own(Some("([b] IS NOT NULL)")).keeps(&key(&["a", "b"])));
        assert!(own(Some("([a] IS NOT NULL AND [b] IS NOT NULL)")).keeps(&key(&["a", "b"])));
        assert!(!own(Some("([a]>(5))")).keeps(&key(&["a", "b"])));
    }
}
