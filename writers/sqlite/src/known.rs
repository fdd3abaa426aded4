//! What a writer knows of its target before it plans, changes or completes it: read for one table, or for all tables of a
//! whole-database job at once.

use std::collections::HashMap;

use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, ForeignKey, Hold, ObjectName, Result, TargetName, UniqueKey};
use weir_sql::{Seen, TableName};
use weir_sqlite::catalog::{self, Table, has_table, list, schema_of};
use weir_sqlite::structure::{foreign_keys, unique_keys};
use weir_sqlite::{Access, Database, QUOTING, Value};

use crate::writer::SqliteWriter;

/// How many tables one look is for.
const AT_ONCE: usize = 500;

/// A target.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The table as the job names it, or as the file does.
    pub(crate) name: TableName,
    /// The table, if it is there.
    pub(crate) found: Option<Found>,
    /// A table with nearly the same name, where that was looked for.
    pub(crate) nearest: Option<String>,
}

/// A table that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) table: Table,
    /// Sets of columns that are unique together, the primary key first.
    pub(crate) unique: Vec<Vec<String>>,
    /// Its own foreign keys.
    pub(crate) keys: Vec<ForeignKey>,
    /// The text that made it.
    pub(crate) definition: Option<String>,
    /// Those that made its indexes.
    pub(crate) indexes: Vec<String>,
    /// The last number that its row id has had, where it gives none twice (AUTOINCREMENT).
    pub(crate) number: Option<i64>,
}

impl Known {
    /// No table of that name.
    pub(crate) fn missing(name: TableName) -> Self {
        Self { name, found: None, nearest: None }
    }

    /// The table, if it is there.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.found.as_ref().map(|found| &found.table)
    }

    /// Its unique keys.
    pub(crate) fn unique(&self) -> &[Vec<String>] {
        self.found.as_ref().map_or(&[], |found| &found.unique)
    }

    /// The table, which has to be there.
    pub(crate) fn present(self) -> Result<Found> {
        let gone = || Error::new(ErrorKind::NotFound, "there is no such table").with("table", &self.name);
        self.found.ok_or_else(gone)
    }
}

/// Reads tables, each with its own error, in as many statements as for one of them. `near`: whether one that is not there may
/// be a typing error.
pub(crate) fn read(database: &Database<'_>, wanted: &[TableName], near: bool) -> Result<Vec<Result<Known>>> {
    let found = catalog::find_tables(database, wanted)?;
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for table in found.iter().filter_map(|table| table.as_ref().ok()?.as_ref()) {
        names.entry(schema_of(&table.name).to_owned()).or_default().push(table.name.name.clone());
    }
    let mut schemas = HashMap::with_capacity(names.len());
    for (schema, names) in names {
        let read = Schema::read(database, &schema, &names)?;
        schemas.insert(schema, read);
    }
    let visible = match wanted.first().filter(|_| near) {
        Some(first) => catalog::names(database, schema_of(first))?,
        None => Vec::new(),
    };
    let of = |(wanted, table): (&TableName, Result<Option<Table>>)| {
        let Some(table) = table? else {
            let visible = visible.iter().map(String::as_str).filter(|name| !catalog::is_internal(name));
            let nearest = nearest(&wanted.name, visible).map(str::to_owned);
            return Ok(Known { nearest, ..Known::missing(wanted.clone()) });
        };
        if table.kind == "view" {
            let text = format!("`{}` is a view: name the table behind it", table.name);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let name = table.name.clone();
        let found = schemas.get_mut(schema_of(&name)).map(|schema| schema.of(table));
        Ok(Known { name, found, nearest: None })
    };
    Ok(wanted.iter().zip(found).map(of).collect())
}

/// What is known of tables of one schema, by their names.
struct Schema {
    unique: HashMap<String, Vec<UniqueKey>>,
    keys: HashMap<String, Vec<ForeignKey>>,
    texts: HashMap<String, Vec<(bool, String)>>,
    /// The last numbers, where the file has any.
    numbers: Option<HashMap<String, i64>>,
}

impl Schema {
    fn read(database: &Database<'_>, schema: &str, names: &[String]) -> Result<Self> {
        let plain: Vec<&str> = names.iter().map(String::as_str).collect();
        let object = |name: &String| ObjectName { database: String::new(), schema: None, table: name.clone() };
        let objects: Vec<ObjectName> = names.iter().map(object).collect();
        let unique = unique_keys(database, schema, &plain)?;
        let keys = foreign_keys(database, schema, &objects.iter().collect::<Vec<_>>())?;
        let mut texts: HashMap<String, Vec<(bool, String)>> = HashMap::new();
        let sql = format!(
            "SELECT tbl_name, type = 'table', sql FROM {}.sqlite_schema WHERE sql IS NOT NULL \
             AND type IN ('table', 'index') AND tbl_name IN (SELECT value FROM json_each(?1)) ORDER BY name",
            QUOTING.quote(schema)
        );
        database.query(&sql, &[Value::Text(list(&plain).as_bytes())], |row| {
            let text = (row.integer(1) == Some(1), row.text(2).unwrap_or_default());
            texts.entry(row.text(0).unwrap_or_default()).or_default().push(text);
        })?;
        let mut numbers = None;
        // SQLite makes this table with the first one that needs it; the word may stand in a text for another reason.
        if texts.values().flatten().any(|(_, sql)| numbers_itself(sql))
            && has_table(database, schema, "sqlite_sequence")?
        {
            let schema = QUOTING.quote(schema);
            let last: &mut HashMap<_, _> = numbers.insert(HashMap::new());
            let sql = format!(
                "SELECT name, seq FROM {schema}.sqlite_sequence WHERE name IN (SELECT value FROM json_each(?1))"
            );
            database.query(&sql, &[Value::Text(list(&plain).as_bytes())], |row| {
                last.insert(row.text(0).unwrap_or_default(), row.integer(1).unwrap_or_default());
            })?;
        }
        Ok(Self { unique, keys, texts, numbers })
    }

    fn of(&mut self, table: Table) -> Found {
        let name = &table.name.name;
        let (definition, indexes): (Vec<_>, Vec<_>) =
            self.texts.get(name).cloned().unwrap_or_default().into_iter().partition(|(is_table, _)| *is_table);
        let unique = self.unique.get(name).into_iter().flatten().map(|key| key.columns.clone());
        let own = Some(table.key()).filter(|key| !key.is_empty());
        let definition = definition.into_iter().map(|(_, sql)| sql).next();
        let number = definition.as_deref().is_some_and(numbers_itself);
        let numbers = self.numbers.as_ref().filter(|_| number);
        let number = numbers.map(|numbers| numbers.get(name).copied().unwrap_or_default());
        Found {
            number,
            definition,
            unique: own.into_iter().chain(unique).collect(),
            keys: self.keys.get(name).cloned().unwrap_or_default(),
            indexes: indexes.into_iter().map(|(_, sql)| sql).collect(),
            table,
        }
    }
}

/// Whether the text that made a table has the word for it.
fn numbers_itself(definition: &str) -> bool {
    definition.to_ascii_uppercase().contains("AUTOINCREMENT")
}

impl Found {
    /// Whether the table has a foreign key on itself.
    pub(crate) fn refers_to_itself(&self) -> bool {
        self.keys.iter().any(|key| key.to.table.eq_ignore_ascii_case(&self.table.name.name))
    }
}

impl SqliteWriter {
    /// What the file says of the table now.
    pub(crate) async fn ask(&self) -> Result<Known> {
        let name = self.name.clone();
        if !self.file.exists() && self.creates && !self.file.path.is_dir() {
            return Ok(Known::missing(name));
        }
        let read = move |database: &Database<'_>| one(database, &name);
        self.file.with(Access::Read, &self.context, read).await
    }

    /// What was seen of the table a moment ago, or is now.
    pub(crate) async fn known(&self) -> Result<Known> {
        match self.seen.find() {
            Some(known) => Ok(known),
            None => self.ask().await,
        }
    }

    /// Reads these tables, and leaves them for their writers.
    pub(crate) async fn leave_known(&self, tables: &[TargetName]) -> Result<Hold> {
        let names = Seen::<Known>::names(tables);
        if !self.file.exists() && self.creates && !self.file.path.is_dir() {
            let known = names.iter().cloned().map(|name| Ok(Known::missing(name))).collect();
            return Ok(self.seen.leave(names, known));
        }
        let (wanted, near) = (names.clone(), !self.creates);
        let read = move |database: &Database<'_>| {
            let mut known = Vec::with_capacity(wanted.len());
            for names in wanted.chunks(AT_ONCE) {
                known.extend(read(database, names, near)?);
            }
            Ok(known)
        };
        let known = self.file.with(Access::Read, &self.context, read).await?;
        Ok(self.seen.leave(names, known))
    }
}

/// One table, as it is now.
pub(crate) fn one(database: &Database<'_>, name: &TableName) -> Result<Known> {
    let known = read(database, std::slice::from_ref(name), true)?.pop();
    known.unwrap_or_else(|| Err(Error::internal("a table was asked for, and no answer came")))
}
