//! Changing the table. SQLite adds columns itself; for everything else the table is made anew in one transaction, with its
//! rows, indexes and triggers.

use async_trait::async_trait;
use weir_core::{
    ColumnDefault, Completed, Completion, Error, ErrorKind, Evolve, Fit, MappedColumn, PresentColumn, Reference,
    Relation, Result, ResultExt, TableChange, UniqueKey, WriteRequest,
};
use weir_sql::TableName;
use weir_sql::defaults::{DefaultKind, PlainDefault, carried};
use weir_sqlite::catalog::{Table, schema_of};
use weir_sqlite::family::family;
use weir_sqlite::types::form_of;
use weir_sqlite::{Access, Database, QUOTING, Value};

use crate::definition::{ColumnEdit, edited, with_constraint};
use crate::known::{self, Found};
use crate::plan::new_column;
use crate::staging::renamed_table;
use crate::writer::SqliteWriter;

/// The name under which a table is made anew.
const ANEW: &str = "weir_anew";

#[async_trait]
impl Evolve for SqliteWriter {
    async fn compare(&self, request: &WriteRequest) -> Result<Vec<Fit>> {
        let known = self.known().await.context("table", &self.table)?.present()?;
        Ok(request.columns.iter().map(|column| fit(&known.table, column)).collect())
    }

    async fn alterations(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        let known = self.known().await.context("table", &self.table)?.present()?;
        Ok(work(&known, changes)?.shown(&known.table))
    }

    async fn alter(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        self.seen.forget();
        let (name, changes) = (self.name.clone(), changes.to_vec());
        self.in_file(Access::Write, move |database| {
            let known = known::one(database, &name)?.present()?;
            let work = work(&known, &changes)?;
            let shown = work.shown(&known.table);
            if shown.is_empty() {
                return Ok(shown);
            }
            in_transaction(database, || {
                for statement in &work.additions {
                    database.execute(statement).context("statement", statement)?;
                }
                if !work.edits.is_empty() {
                    // With the columns that were added.
                    let known = known::one(database, &name)?.present()?;
                    let sql = known.definition.as_deref().and_then(|sql| edited(sql, &work.edits));
                    make_anew(database, &known.table, &sql.ok_or_else(|| unreadable(&known.table))?)?;
                }
                Ok(())
            })?;
            Ok(shown)
        })
        .await
    }

    async fn unique_keys(&self) -> Result<Vec<Vec<String>>> {
        let known = self.known().await.context("table", &self.table)?;
        Ok(known.found.map(|found| found.unique).unwrap_or_default())
    }

    async fn complete(&self, completion: &Completion) -> Result<Completed> {
        if let Some(left) = self.seen.take_left()
            && missing(&left.present()?, completion).is_nothing()
        {
            return Ok(Completed::default());
        }
        let (name, completion) = (self.name.clone(), completion.clone());
        self.in_file(Access::Write, move |database| complete(database, &name, &completion)).await
    }
}

fn unreadable(table: &Table) -> Error {
    Error::new(ErrorKind::Unsupported, "the table's definition cannot be read, so it cannot be changed")
        .with("table", &table.name)
}

fn fit(table: &Table, column: &MappedColumn) -> Fit {
    let wanted = new_column(column).native_type;
    let present = table.columns.iter().find(|c| c.name == column.name).map(|found| PresentColumn {
        native_type: if found.declared.is_empty() { "(none)".into() } else { found.declared.clone() },
        relation: match (family(&found.declared), family(&wanted)) {
            // A strict table has five types only, and each holds all that SQLite can.
            (Some(now), Some(new)) => match now.relation(&new) {
                Relation::Widens | Relation::Crosses if table.strict => Relation::Holds,
                relation => relation,
            },
            // A column without a type takes anything.
            _ => Relation::Same,
        },
    });
    Fit { wanted, present }
}

/// What is to be done.
#[derive(Default)]
struct Work {
    additions: Vec<String>,
    edits: Vec<ColumnEdit>,
}

impl Work {
    fn shown(&self, table: &Table) -> Vec<String> {
        let mut shown = self.additions.clone();
        shown.extend(self.edits.iter().map(|edit| {
            let declared = edit.declared.as_deref().unwrap_or("NULL");
            format!(
                "{} is made anew with its rows, {} as {declared}",
                table.name.quoted(QUOTING),
                QUOTING.quote(&edit.name)
            )
        }));
        shown
    }
}

fn work(known: &Found, changes: &[TableChange]) -> Result<Work> {
    let (table, mut work) = (&known.table, Work::default());
    for change in changes {
        let column = change.column();
        let fit = fit(table, column);
        let Some(present) = fit.present else {
            let TableChange::AddColumn { default, .. } = change else {
                return Err(Error::new(ErrorKind::Conflict, "the column is gone from the target: run again")
                    .with("column", &column.name));
            };
            // SQLite adds no column whose default is computed.
            let fixed = default.as_ref().filter(|default| **default != ColumnDefault::Now);
            let default = fixed.and_then(|default| default_sql(default, &fit.wanted));
            let null = if default.is_some() && !column.nullable { " NOT NULL" } else { "" };
            let default = default.map_or_else(String::new, |sql| format!(" DEFAULT {sql}"));
            let (name, table) = (QUOTING.quote(&column.name), table.name.quoted(QUOTING));
            work.additions.push(format!("ALTER TABLE {table} ADD COLUMN {name} {}{null}{default}", fit.wanted));
            continue;
        };
        let mut edit = ColumnEdit { name: column.name.clone(), ..ColumnEdit::default() };
        match change {
            TableChange::AddColumn { .. } => continue,
            TableChange::WidenColumn { .. } => match present.relation {
                Relation::Same | Relation::Holds => continue,
                Relation::Widens => edit.declared = Some(fit.wanted),
                Relation::Crosses | Relation::Apart => {
                    let text = format!("{} cannot be widened to {}", present.native_type, fit.wanted);
                    return Err(Error::new(ErrorKind::Unsupported, text).with("column", &column.name));
                }
            },
            TableChange::AllowNull { .. } => {
                if table.columns.iter().any(|c| c.name == column.name && c.nullable) {
                    continue;
                }
                edit.allow_null = true;
            }
        }
        match work.edits.iter_mut().find(|known| known.name == edit.name) {
            Some(known) => {
                known.declared = edit.declared.or(known.declared.take());
                known.allow_null |= edit.allow_null;
            }
            None => work.edits.push(edit),
        }
    }
    if !work.edits.is_empty() {
        // What cannot be done is found before anything is.
        known.definition.as_deref().and_then(|sql| edited(sql, &work.edits)).ok_or_else(|| unreadable(table))?;
    }
    Ok(work)
}

/// A default in SQLite's words, where the column's declared type takes it.
pub fn default_sql(default: &ColumnDefault, declared: &str) -> Option<String> {
    use arrow::datatypes::DataType;
    let (data_type, extension) = form_of(declared)?;
    let kind = match (&data_type, extension) {
        (DataType::Boolean, _) => DefaultKind::Boolean,
        (DataType::UInt64, _) => DefaultKind::Other,
        (data_type, _) if data_type.is_integer() => DefaultKind::Integer,
        (DataType::Float32 | DataType::Float64 | DataType::Decimal128(..), _) => DefaultKind::Number,
        (DataType::Utf8, None) => DefaultKind::Text(None),
        (DataType::Date32, _) => DefaultKind::Date,
        (DataType::Time64(_), _) => DefaultKind::Time,
        (DataType::Timestamp(..), _) => DefaultKind::DateTime,
        _ => DefaultKind::Other,
    };
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Some(match carried(default, kind)? {
        PlainDefault::Boolean(value) => u8::from(value).to_string(),
        // More digits than a number keeps stand as text.
        PlainDefault::Number(number) if declared.to_ascii_uppercase().contains("TEXT") => quoted(&number),
        PlainDefault::Number(number) => number,
        PlainDefault::Quoted(text) => quoted(&text),
        PlainDefault::Now => match kind {
            DefaultKind::Date => "CURRENT_DATE".into(),
            DefaultKind::Time => "CURRENT_TIME".into(),
            _ => "CURRENT_TIMESTAMP".into(),
        },
    })
}

/// Runs `change` in a transaction in which SQLite looks neither at foreign keys nor at what views say.
fn in_transaction(database: &Database<'_>, change: impl FnOnce() -> Result<()>) -> Result<()> {
    database.execute("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; BEGIN IMMEDIATE")?;
    match change() {
        Ok(()) => Ok(database.execute("COMMIT")?),
        Err(error) => {
            database.execute("ROLLBACK")?;
            Err(error)
        }
    }
}

/// Puts a table of this definition in the place of `table`: the same rows, indexes, triggers and numbering.
fn make_anew(database: &Database<'_>, table: &Table, sql: &str) -> Result<()> {
    let (schema, old) = (QUOTING.quote(schema_of(&table.name)), table.name.quoted(QUOTING));
    let anew = table.name.sibling(ANEW).quoted(QUOTING);
    let create = renamed_table(sql, &anew).ok_or_else(|| unreadable(table))?;
    let name = [Value::Text(table.name.name.as_bytes())];
    let more = database.texts(
        &format!(
            "SELECT sql FROM {schema}.sqlite_schema WHERE type IN ('index', 'trigger') AND tbl_name = ?1 COLLATE NOCASE \
             AND sql IS NOT NULL ORDER BY type, name"
        ),
        &name,
    )?;
    let numbered = format!("SELECT count(*) FROM {schema}.sqlite_schema WHERE name = 'sqlite_sequence'");
    let numbered = database.integer(&numbered, &[])? == Some(1);
    let next = match numbered {
        true => database.integer(&format!("SELECT seq FROM {schema}.sqlite_sequence WHERE name = ?1"), &name)?,
        false => None,
    };
    let mut columns: Vec<String> =
        table.columns.iter().filter(|c| !c.generated).map(|c| QUOTING.quote(&c.name)).collect();
    // Rows keep their numbers, which other tables may hold; a column that is the row id has them already.
    if let Some(rowid) = table.rowid() {
        columns.push(rowid.to_owned());
    }
    let columns = columns.join(", ");
    database.execute(&create).context("statement", &create)?;
    database.execute(&format!("INSERT INTO {anew} ({columns}) SELECT {columns} FROM {old}"))?;
    database.execute(&format!("DROP TABLE {old}"))?;
    database.execute(&format!("ALTER TABLE {anew} RENAME TO {}", QUOTING.quote(&table.name.name)))?;
    for statement in &more {
        database.execute(statement).context("statement", statement)?;
    }
    if let Some(next) = next {
        let quoted = table.name.name.replace('\'', "''");
        database.execute(&format!("UPDATE {schema}.sqlite_sequence SET seq = {next} WHERE name = '{quoted}'"))?;
    }
    Ok(())
}

/// What a table has not got yet.
struct Missing<'a> {
    /// The last number that its row id is to have had.
    number: Option<i64>,
    unique: Vec<&'a UniqueKey>,
    foreign_keys: Vec<&'a Reference>,
}

impl Missing<'_> {
    fn is_nothing(&self) -> bool {
        self.number.is_none() && self.unique.is_empty() && self.foreign_keys.is_empty()
    }
}

fn missing<'a>(known: &Found, completion: &'a Completion) -> Missing<'a> {
    let same = |a: &[String], b: &[String]| a.len() == b.len() && a.iter().all(|column| b.contains(column));
    let is_there = |key: &Reference| {
        known.keys.iter().any(|own| {
            own.columns == key.columns
                && own.to.table.eq_ignore_ascii_case(&key.to.table)
                && own.to_columns == key.to_columns
        })
    };
    let key = known.table.key();
    let position = completion.positions.iter().find(|(column, _)| key == [column.clone()]);
    let number = position.map(|(_, next)| next.saturating_sub(1));
    Missing {
        // A row id without a number of its own goes on after the greatest that is there.
        number: number.filter(|number| known.number.is_some_and(|last| last < *number)),
        unique: completion
            .unique
            .iter()
            .filter(|key| !known.unique.iter().any(|own| same(own, &key.columns)))
            .collect(),
        foreign_keys: completion.foreign_keys.iter().filter(|key| !is_there(key)).collect(),
    }
}

/// The next number of the table's row id is greater than this one.
fn go_on_after(database: &Database<'_>, table: &TableName, number: i64) -> Result<()> {
    let (schema, name) = (QUOTING.quote(schema_of(table)), table.name.replace('\'', "''"));
    let sequence = format!("{schema}.sqlite_sequence");
    // A table that has never had a row has no number there.
    database.execute(&format!(
        "BEGIN IMMEDIATE; \
         INSERT INTO {sequence} (name, seq) SELECT '{name}', 0 \
         WHERE NOT EXISTS (SELECT 1 FROM {sequence} WHERE name = '{name}'); \
         UPDATE {sequence} SET seq = max(seq, {number}) WHERE name = '{name}'; COMMIT"
    ))?;
    Ok(())
}

fn complete(database: &Database<'_>, name: &TableName, completion: &Completion) -> Result<Completed> {
    let known = known::one(database, name)?.present()?;
    let (table, missing) = (&known.table, missing(&known, completion));
    let mut completed = Completed::default();
    for key in missing.unique {
        let index = QUOTING.quote(&format!("{}_{}_key", table.name.name, key.columns.join("_")));
        let sql = format!(
            "CREATE UNIQUE INDEX {index} ON {} ({})",
            QUOTING.quote(&table.name.name),
            QUOTING.quote_all(&key.columns)
        );
        match database.execute(&sql) {
            Ok(_) => completed.keys.push(sql),
            Err(failure) => completed.undone.push(format!("{sql}: {}", failure.message)),
        }
    }
    if let Some(number) = missing.number {
        go_on_after(database, &table.name, number)?;
    }
    if missing.foreign_keys.is_empty() {
        return Ok(completed);
    }
    let mut made = Vec::new();
    in_transaction(database, || {
        let mut sql = known.definition.clone().ok_or_else(|| unreadable(table))?;
        for key in missing.foreign_keys {
            let constraint = format!(
                "FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {} ON UPDATE {}",
                QUOTING.quote_all(&key.columns),
                QUOTING.quote(&key.to.table),
                QUOTING.quote_all(&key.to_columns),
                key.on_delete,
                key.on_update
            );
            sql = with_constraint(&sql, &constraint).ok_or_else(|| unreadable(table))?;
            made.push(format!("{} {constraint}", QUOTING.quote(&table.name.name)));
        }
        make_anew(database, table, &sql)
    })?;
    completed.keys.append(&mut made);
    Ok(completed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};
    use serde_json::json;
    use weir_core::{ConnectorContext, Form, TargetName, UniqueKey, Writer};
    use weir_sqlite::File;

    fn column(name: &str, data_type: DataType) -> MappedColumn {
        let offers = vec![Field::new(name, data_type, true)];
        MappedColumn { name: name.into(), offers, source_type: "?".into(), nullable: true, key: None, comment: None }
    }

    async fn texts(file: &File, context: &ConnectorContext, sql: &str) -> Vec<String> {
        let sql = sql.to_owned();
        file.with(Access::Read, context, move |database| Ok(database.texts(&sql, &[])?)).await.unwrap()
    }

    #[tokio::test]
    async fn a_table_that_is_made_anew_keeps_all_that_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Default::default(),
        };
        let file = File { path: folder.path().join("a.db"), session: vec![] };
        let sql = "CREATE TABLE customer(id INTEGER PRIMARY KEY);
                   CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, n INT32 NOT NULL CHECK (n <> 0), customer INT,
                     twice INT AS (n * 2), name TEXT DEFAULT 'x, NOT NULL' NOT NULL);
                   CREATE INDEX by_n ON t(n);
                   CREATE TABLE log(line TEXT);
                   CREATE TRIGGER on_t AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.name); END;
                   CREATE VIEW v AS SELECT n FROM t;
                   CREATE TABLE child(t INT REFERENCES t(id));
                   INSERT INTO t(id, n, customer) VALUES (1, 5, 1), (9, 6, 2); DELETE FROM t WHERE id = 9; INSERT INTO child VALUES (1)";
        file.with(Access::Create, &context, move |db| Ok(db.execute(sql)?)).await.unwrap();
        let writer = SqliteWriter::open(&json!({"path": file.path, "table": "t"}), &context).unwrap();
        let able = writer.evolve().unwrap();
        let changes = [
            TableChange::WidenColumn { column: column("n", DataType::Int64) },
            TableChange::AllowNull { column: column("n", DataType::Int64) },
            TableChange::AllowNull { column: column("name", DataType::Utf8) },
            TableChange::AddColumn {
                column: column("more", DataType::Boolean),
                default: Some(ColumnDefault::Literal("true".into())),
            },
        ];
        assert_eq!(able.alter(&changes).await.unwrap().len(), 3);
        assert!(able.alterations(&changes).await.unwrap().is_empty());
        let completion = Completion {
            positions: vec![("id".into(), 100)],
            unique: vec![UniqueKey { name: "u".into(), columns: vec!["name".into()] }],
            foreign_keys: vec![Reference {
                name: "fk".into(),
                columns: vec!["customer".into()],
                to: TargetName { schema: None, table: "customer".into() },
                to_columns: vec!["id".into()],
                on_delete: "CASCADE".into(),
                on_update: "NO ACTION".into(),
            }],
        };
        for keys in [2, 0] {
            let completed = able.complete(&completion).await.unwrap();
            assert_eq!((completed.keys.len(), completed.undone.len()), (keys, 0), "{completed:?}");
        }
        let of = async |sql: &str| texts(&file, &context, sql).await.join(" ");
        assert_eq!(
            of("SELECT id || ',' || n || ',' || twice || ',' || name || ',' || more FROM t").await,
            "1,5,10,x, NOT NULL,1"
        );
        assert_eq!(
            of("SELECT type || \" \" || \"notnull\" FROM pragma_table_info('t') WHERE name IN ('n', 'name')").await,
            "INTEGER 0 TEXT 0"
        );
        assert_eq!(
            of("SELECT group_concat(name) FROM (SELECT name FROM pragma_index_list('t') ORDER BY name)").await,
            "by_n,t_name_key"
        );
        assert_eq!(of("SELECT \"table\" || on_delete FROM pragma_foreign_key_list('t')").await, "customerCASCADE");
        assert_eq!(of("SELECT count(*) || '' FROM v, child").await, "1");
        // The trigger, the check and the numbering are still there.
        let insert = "INSERT INTO t(n, name) VALUES (5000000000, 'new')";
        file.with(Access::Write, &context, move |db| Ok(db.execute(insert)?)).await.unwrap();
        assert_eq!(of("SELECT id || line FROM t JOIN log ON line = name WHERE line = 'new'").await, "100new");
        let refused = file.with(Access::Write, &context, |db| Ok(db.execute("INSERT INTO t(n) VALUES (0)")?)).await;
        assert!(refused.is_err());
        let other = [TableChange::WidenColumn { column: column("n", DataType::Utf8) }];
        assert_eq!(able.alter(&other).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
