//! The structure of tables. SQLite answers from the file that is open, so every question is a function call.

use std::collections::HashMap;

use weir_core::{
    ColumnDefault, ColumnDescription, ErrorKind, ForeignKey, Identity, ObjectKind, ObjectName, Result,
    TableDescription, UniqueKey,
};
use weir_sql::TableName;

use crate::catalog::{self, Table, has_table, list};
use crate::raw::{Database, Value};

/// Describes these tables and views, in their order; those that are gone, or that cannot be read because what they rest on
/// is gone, are left out.
///
/// # Errors
/// The file's.
pub fn describe_all(database: &Database<'_>, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        match catalog::describe(database, TableName::bare(name.table.clone())) {
            Ok(table) => found.push(describe(database, name, &table)?),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(_) => {}
        }
    }
    Ok(found)
}

fn describe(database: &Database<'_>, name: &ObjectName, table: &Table) -> Result<TableDescription> {
    let written = [Value::Text(name.table.as_bytes())];
    let mut defaults: Vec<(String, Option<String>)> = Vec::new();
    database.query("SELECT name, dflt_value FROM pragma_table_xinfo(?1)", &written, |row| {
        defaults.push((row.text(0).unwrap_or_default(), row.text(1)));
    })?;
    let numbered = number(database, table)?;
    let columns = table.columns.iter().map(|column| {
        let default = defaults.iter().find(|(name, _)| *name == column.name).and_then(|(_, text)| text.as_deref());
        // The row id is filled by SQLite itself.
        let is_rowid = column.key.is_some() && column.has_default && default.is_none() && !column.generated;
        ColumnDescription {
            labels: Vec::new(),
            name: column.name.clone(),
            native_type: column.declared.clone(),
            nullable: column.nullable,
            default: default.filter(|_| !column.generated).and_then(default_value),
            generated: column.generated.then(String::new),
            identity: is_rowid.then_some(Identity { always: false, next: numbered, increment: 1 }),
            comment: None,
        }
    });
    Ok(TableDescription {
        name: name.clone(),
        kind: match table.kind.as_str() {
            "view" => ObjectKind::View,
            "virtual" => ObjectKind::Other,
            _ => ObjectKind::Table,
        },
        columns: columns.collect(),
        primary_key: table.key(),
        unique: unique(database, name)?,
        foreign_keys: foreign(database, name)?,
        comment: None,
    })
}

/// The number that the next row gets from SQLite.
fn number(database: &Database<'_>, table: &Table) -> Result<Option<i64>> {
    let greatest = catalog::span(database, table)?.map(|(_, max)| max);
    let mut used = greatest;
    if has_table(database, "main", "sqlite_sequence")? {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1 COLLATE NOCASE";
        used = used.max(database.integer(sql, &[Value::Text(table.name.name.as_bytes())])?);
    }
    Ok(used.and_then(|n| n.checked_add(1)).or(table.has_rowid.then_some(1)))
}

fn unique(database: &Database<'_>, name: &ObjectName) -> Result<Vec<UniqueKey>> {
    Ok(unique_keys(database, "main", &[&name.table])?.remove(&name.table).unwrap_or_default())
}

/// The unique keys of tables besides their primary ones, over columns alone and over all rows, in one statement.
///
/// # Errors
/// The file's.
pub fn unique_keys(database: &Database<'_>, schema: &str, names: &[&str]) -> Result<HashMap<String, Vec<UniqueKey>>> {
    let mut found: HashMap<String, Vec<UniqueKey>> = HashMap::new();
    let mut broken = Vec::new();
    // `pk` is the primary key's own index.
    let sql = "SELECT w.value, l.name, i.name FROM json_each(?1) w JOIN pragma_index_list(w.value, ?2) l \
               JOIN pragma_index_info(l.name, ?2) i \
               WHERE l.\"unique\" = 1 AND l.partial = 0 AND l.origin <> 'pk' ORDER BY w.key, l.name, i.seqno";
    let names = list(names);
    let values = [Value::Text(names.as_bytes()), Value::Text(schema.as_bytes())];
    database.query(sql, &values, |row| {
        let index = row.text(1).unwrap_or_default();
        // An expression has no name.
        let Some(column) = row.text(2) else { return broken.push(index) };
        let keys = found.entry(row.text(0).unwrap_or_default()).or_default();
        match keys.last_mut().filter(|key| key.name == index) {
            Some(key) => key.columns.push(column),
            None => keys.push(UniqueKey { name: index, columns: vec![column] }),
        }
    })?;
    found.values_mut().for_each(|keys| keys.retain(|key| !broken.contains(&key.name)));
    Ok(found)
}

fn foreign(database: &Database<'_>, name: &ObjectName) -> Result<Vec<ForeignKey>> {
    Ok(foreign_keys(database, "main", &[name])?.remove(&name.table).unwrap_or_default())
}

/// The foreign keys of tables, in one statement, and one for all that name no columns of the table that they refer to.
///
/// # Errors
/// The file's.
pub fn foreign_keys(
    database: &Database<'_>,
    schema: &str,
    names: &[&ObjectName],
) -> Result<HashMap<String, Vec<ForeignKey>>> {
    let of: HashMap<&str, &ObjectName> = names.iter().map(|name| (name.table.as_str(), *name)).collect();
    let mut found: HashMap<String, Vec<(i64, ForeignKey)>> = HashMap::new();
    let mut implicit = false;
    let sql = "SELECT w.value, k.id, k.\"table\", k.\"from\", k.\"to\", k.on_delete, k.on_update FROM json_each(?1) w \
               JOIN pragma_foreign_key_list(w.value, ?2) k ORDER BY w.key, k.id, k.seq";
    let tables = list(&names.iter().map(|name| name.table.as_str()).collect::<Vec<_>>());
    let values = [Value::Text(tables.as_bytes()), Value::Text(schema.as_bytes())];
    database.query(sql, &values, |row| {
        let name = row.text(0).unwrap_or_default();
        let Some(own) = of.get(name.as_str()) else { return };
        let id = row.integer(1).unwrap_or_default();
        let column = row.text(3).unwrap_or_default();
        let to = row.text(4);
        implicit |= to.is_none();
        let keys = found.entry(name).or_default();
        match keys.last_mut().filter(|(known, _)| *known == id) {
            Some((_, key)) => {
                key.columns.push(column);
                key.to_columns.extend(to);
            }
            None => keys.push((
                id,
                ForeignKey {
                    name: format!("{}_fk{id}", own.table),
                    columns: vec![column],
                    to: ObjectName { table: row.text(2).unwrap_or_default(), ..(*own).clone() },
                    to_columns: to.into_iter().collect(),
                    on_delete: row.text(5).unwrap_or_default(),
                    on_update: row.text(6).unwrap_or_default(),
                },
            )),
        }
    })?;
    if implicit {
        // Without columns it refers to the primary key; of a table that is gone, to nothing.
        let keys = found.values_mut().flatten().map(|(_, key)| key).filter(|key| key.to_columns.is_empty());
        let mut keys: Vec<&mut ForeignKey> = keys.collect();
        let to: Vec<TableName> =
            keys.iter().map(|key| TableName { schema: Some(schema.to_owned()), name: key.to.table.clone() }).collect();
        let tables = match catalog::find_tables(database, &to) {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                // One that cannot be read, a view whose table is gone, fails them all: each is asked about by itself then.
                let one = |name| catalog::find_tables(database, std::slice::from_ref(name)).map(|mut one| one.pop());
                to.iter().map(|name| one(name).ok().flatten().unwrap_or(Ok(None))).collect()
            }
            tables => tables?,
        };
        for (key, table) in keys.iter_mut().zip(tables) {
            key.to_columns = table.ok().flatten().map(|table| table.key()).unwrap_or_default();
        }
        found.values_mut().for_each(|keys| keys.retain(|(_, key)| key.to_columns.len() == key.columns.len()));
    }
    let plain = |keys: Vec<(i64, ForeignKey)>| keys.into_iter().map(|(_, key)| key).collect();
    Ok(found.into_iter().map(|(name, keys)| (name, plain(keys))).collect())
}

/// What a default's text means: `'new'`, `-1`, `CURRENT_TIMESTAMP`.
fn default_value(text: &str) -> Option<ColumnDefault> {
    let text = text.trim();
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(text).trim();
    let lower = inner.to_ascii_lowercase();
    if let Some(quoted) = inner.strip_prefix('\'').and_then(|t| t.strip_suffix('\''))
        && !quoted.replace("''", "").contains('\'')
    {
        return Some(ColumnDefault::Literal(quoted.replace("''", "'")));
    }
    match lower.as_str() {
        "null" => None,
        "true" | "false" => Some(ColumnDefault::Literal(lower)),
        "current_timestamp" | "current_date" | "current_time" | "datetime('now')" | "date('now')" => {
            Some(ColumnDefault::Now)
        }
        number if number.parse::<f64>().is_ok_and(f64::is_finite) => Some(ColumnDefault::Literal(lower)),
        _ => Some(ColumnDefault::Expression(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, File};
    use weir_core::{ConnectorContext, Form};

    #[tokio::test]
    async fn tables_are_described() {
        let folder = tempfile::tempdir().unwrap();
        let file = File { path: folder.path().join("shop.db"), session: vec![] };
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Default::default(),
        };
        let sql = "CREATE TABLE customer(id INTEGER PRIMARY KEY AUTOINCREMENT, mail TEXT NOT NULL UNIQUE,
                     state TEXT DEFAULT 'it''s new', at DATETIME DEFAULT CURRENT_TIMESTAMP, points INT DEFAULT -1,
                     odd TEXT DEFAULT (lower('X')), twice INT AS (points * 2));
                   INSERT INTO customer(mail) VALUES ('a'), ('b');
                   CREATE TABLE item(a INT, b INT, customer INT REFERENCES customer ON DELETE CASCADE, PRIMARY KEY(b, a));
                   CREATE VIEW gone AS SELECT * FROM missing;
                   CREATE VIEW v AS SELECT id FROM customer";
        file.with(Access::Create, &context, move |db| Ok(db.execute(sql)?)).await.unwrap();
        let name = |table: &str| ObjectName { database: "shop".into(), schema: None, table: table.into() };
        let names = [name("item"), name("nothing"), name("gone"), name("v"), name("customer")];
        let found = file.with(Access::Read, &context, move |db| describe_all(db, &names)).await.unwrap();
        assert_eq!(found.iter().map(|t| t.name.table.as_str()).collect::<Vec<_>>(), ["item", "v", "customer"]);
        let (item, customer) = (&found[0], &found[2]);
        assert_eq!(item.primary_key, ["b", "a"]);
        let key = &item.foreign_keys[0];
        assert_eq!((key.to.table.as_str(), key.on_delete.as_str()), ("customer", "CASCADE"));
        assert_eq!((&key.columns[..], &key.to_columns[..]), (&["customer".to_owned()][..], &["id".to_owned()][..]));
        assert_eq!(found[1].kind, ObjectKind::View);
        assert_eq!(customer.unique.len(), 1);
        assert_eq!(customer.unique[0].columns, ["mail"]);
        let column = |name: &str| customer.column(name).unwrap();
        assert_eq!(column("id").identity, Some(Identity { always: false, next: Some(3), increment: 1 }));
        assert_eq!(column("state").default, Some(ColumnDefault::Literal("it's new".into())));
        assert_eq!(column("at").default, Some(ColumnDefault::Now));
        assert_eq!(column("points").default, Some(ColumnDefault::Literal("-1".into())));
        assert_eq!(column("odd").default, Some(ColumnDefault::Expression("lower('X')".into())));
        assert_eq!((column("twice").generated.as_deref(), &column("twice").default), (Some(""), &None));
        assert!(!column("mail").nullable && column("mail").identity.is_none());
    }
}
