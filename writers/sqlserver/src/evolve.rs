//! Changing the table: columns added, widened, made to take NULL.

use async_trait::async_trait;
use weir_core::{
    Completed, Completion, Error, ErrorKind, Evolve, Fit, KeyDefinition, MappedColumn, PresentColumn, Reference,
    Relation, Result, ResultExt, TableChange, WriteRequest,
};
use weir_sqlserver::{Column, Kind, QUOTING, Server, Session, Table, cell_text, literal};

use crate::complete;
use crate::details::{comment, default_text};
use crate::keys;
use crate::known::Known;
use crate::types::for_new;
use crate::writer::SqlServerWriter;

impl SqlServerWriter {
    /// The table that is to be changed.
    async fn evolving(&self, session: &mut Session) -> Result<(Server, Table)> {
        let known = self.ask(session).await?;
        Ok((known.server.clone(), present(known)?))
    }

    /// What is known of the table, whose keys are found, dropped or made again.
    async fn keyed(&self) -> Result<Known> {
        match self.find_left() {
            Some(known) => Ok(known),
            None => self.ask_now().await,
        }
    }

    /// Some of what has failed may be done nevertheless: whoever tries again asks the server.
    fn forget_unless(&self, done: &Result<()>) {
        if done.is_err() {
            self.seen.forget();
        }
    }

    /// The statements of some changes.
    async fn statements(&self, session: &mut Session, changes: &[TableChange]) -> Result<Vec<String>> {
        let (server, table) = self.evolving(session).await?;
        let columns: Vec<&MappedColumn> = changes.iter().map(TableChange::column).collect();
        let collations = self.collations(session, columns.iter().copied()).await?;
        let mut all = Vec::new();
        for step in steps(&table, changes)? {
            match step {
                Step::Add { column, default } => {
                    all.push(addition(&table, column, default, &collations, server.babelfish));
                    all.extend(comment(&table.name, column));
                }
                Step::Modify { column, type_text, null } => {
                    // A default is of the type that the column had, and keeps it from changing.
                    let default = match (server.babelfish, same_name(&column.type_text, &type_text)) {
                        (false, false) => default_of(session, &table, &column.name).await?,
                        _ => None,
                    };
                    let mut altered = modification(&table, column, &type_text, null, default.as_ref());
                    if server.babelfish && null == column.nullable {
                        // It keeps what the column has, and does not know the words; a change of NULL it refuses.
                        let known = altered[0].replace(&collate(column, &type_text), "");
                        altered[0] = known.trim_end_matches(" NULL").trim_end_matches(" NOT").to_owned();
                    }
                    all.extend(altered);
                }
            }
        }
        Ok(all)
    }
}

fn present(known: Known) -> Result<Table> {
    let gone = || Error::new(ErrorKind::NotFound, "there is no such table to change").with("table", &known.name);
    known.table.ok_or_else(gone)
}

#[async_trait]
impl Evolve for SqlServerWriter {
    async fn compare(&self, request: &WriteRequest) -> Result<Vec<Fit>> {
        let known = match self.seen.find() {
            Some(known) => known,
            None => self.ask_now().await?,
        };
        let table = present(known)?;
        Ok(request.columns.iter().map(|column| fit(&table, column)).collect())
    }

    async fn alterations(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        let mut session = self.connect().await?;
        let statements = self.statements(&mut session, changes).await?;
        session.rest().await;
        Ok(statements)
    }

    async fn alter(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        self.seen.forget();
        let mut session = self.connect().await?;
        let statements = self.statements(&mut session, changes).await?;
        if !statements.is_empty() {
            complete::impatient(&mut session).await?;
            session.run("BEGIN TRANSACTION").await?;
            for sql in &statements {
                // What is not committed goes with the session.
                session.run(sql).await.context("statement", sql)?;
            }
            session.run("COMMIT TRANSACTION").await?;
        }
        session.rest().await;
        Ok(statements)
    }

    async fn foreign_keys(&self, meant: &[Reference]) -> Result<Vec<KeyDefinition>> {
        Ok(keys::definitions(self.keyed().await?, meant))
    }

    async fn release(&self, keys: &[KeyDefinition]) -> Result<()> {
        let known = self.keyed().await?;
        if known.table.is_some() {
            let mut session = self.connect().await?;
            complete::impatient(&mut session).await?;
            let done = keys::drop(&mut session, &known, keys).await;
            self.forget_unless(&done);
            done.context("table", &known.name)?;
            session.rest().await;
            self.note_dropped(&known.name, keys);
        }
        Ok(())
    }

    async fn restore(&self, key: &KeyDefinition) -> Result<()> {
        let known = self.keyed().await?;
        if known.table.is_some() {
            let mut session = self.connect().await?;
            complete::impatient(&mut session).await?;
            let done = keys::restore(&mut session, &known, key).await;
            self.forget_unless(&done);
            done?;
            session.rest().await;
            self.note_restored(&known.name, key);
        }
        Ok(())
    }

    async fn complete(&self, completion: &Completion) -> Result<Completed> {
        let mut session = self.connect().await?;
        let known = match self.take_left() {
            Some(known) => known,
            None => self.ask(&mut session).await?,
        };
        let table = present(known.clone())?;
        let completed =
            complete::complete(&mut session, &known, &table, completion).await.context("table", &table.name)?;
        session.rest().await;
        Ok(completed)
    }
}

fn fit(table: &Table, column: &MappedColumn) -> Fit {
    let is_key = table.primary_key().contains(&column.name);
    let wanted = for_new(column, is_key, &[]).type_text;
    let family = |text: &str| Kind::parse(text).family(text);
    let present = table.column(&column.name).map(|found| PresentColumn {
        native_type: found.type_text.clone(),
        relation: family(&found.type_text).relation(&family(&wanted)),
    });
    Fit { wanted, present }
}

/// One column's part of some changes.
enum Step<'a> {
    Add { column: &'a MappedColumn, default: Option<&'a weir_core::ColumnDefault> },
    Modify { column: &'a Column, type_text: String, null: bool },
}

/// What is to be done, a column once: one that is widened and takes NULL is modified once.
fn steps<'a>(table: &'a Table, changes: &'a [TableChange]) -> Result<Vec<Step<'a>>> {
    let mut steps: Vec<Step<'a>> = Vec::new();
    for change in changes {
        let column = change.column();
        let Some(found) = table.column(&column.name) else {
            match change {
                TableChange::AddColumn { default, .. } => steps.push(Step::Add { column, default: default.as_ref() }),
                _ => {
                    return Err(Error::new(ErrorKind::Conflict, "the column is gone from the target: run again")
                        .with("column", &column.name));
                }
            }
            continue;
        };
        let Fit { wanted, present } = fit(table, column);
        let wider = match change {
            TableChange::WidenColumn { .. } => match present.map(|present| present.relation) {
                Some(Relation::Widens) => Some(wanted),
                Some(Relation::Crosses | Relation::Apart) => {
                    let text = format!("{} cannot be widened to {wanted}", found.type_text);
                    return Err(Error::new(ErrorKind::Unsupported, text).with("column", &column.name));
                }
                _ => continue,
            },
            TableChange::AllowNull { .. } if !found.nullable => None,
            TableChange::AllowNull { .. } | TableChange::AddColumn { .. } => continue,
        };
        let same = |step: &&mut Step<'_>| matches!(step, Step::Modify { column, .. } if column.name == found.name);
        match (steps.iter_mut().find(same), wider) {
            (Some(Step::Modify { type_text, .. }), Some(wider)) => *type_text = wider,
            (Some(Step::Modify { null, .. }), None) => *null = true,
            (_, wider) => steps.push(Step::Modify {
                column: found,
                null: found.nullable || wider.is_none(),
                type_text: wider.unwrap_or_else(|| found.type_text.clone()),
            }),
        }
    }
    Ok(steps)
}

fn addition(
    table: &Table,
    column: &MappedColumn,
    default: Option<&weir_core::ColumnDefault>,
    collations: &[String],
    babelfish: bool,
) -> String {
    let new = for_new(column, false, collations);
    let collate = new.collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let default = default.map_or_else(String::new, |default| default_text(default, &new.type_text));
    // Said aloud: what holds without the word is a setting. Babelfish fills the rows that are there without being told.
    let (null, values) = match (default.is_empty(), column.nullable) {
        (true, _) => (" NULL", ""),
        (false, true) => (" NULL", if babelfish { "" } else { " WITH VALUES" }),
        (false, false) => (" NOT NULL", ""),
    };
    let (table, name) = (table.name.quoted(QUOTING), QUOTING.quote(&column.name));
    format!("ALTER TABLE {table} ADD {name} {}{collate}{null}{default}{values}", new.type_text)
}

/// ` COLLATE …` of a text column that is altered, which would get the database's otherwise.
fn collate(column: &Column, type_text: &str) -> String {
    let collation = column.collation.as_ref().filter(|_| Kind::parse(type_text).is_text());
    collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default()
}

/// The statements that give a column another type; without its collation it would get the database's, and without a word
/// of NULL that of a setting.
fn modification(
    table: &Table,
    column: &Column,
    type_text: &str,
    null: bool,
    default: Option<&(String, String)>,
) -> Vec<String> {
    let (table, name) = (table.name.quoted(QUOTING), QUOTING.quote(&column.name));
    let null = if null { "NULL" } else { "NOT NULL" };
    let collate = collate(column, type_text);
    let alter = format!("ALTER TABLE {table} ALTER COLUMN {name} {type_text}{collate} {null}");
    let Some((constraint, definition)) = default else { return vec![alter] };
    let constraint = QUOTING.quote(constraint);
    vec![
        format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}"),
        alter,
        format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} DEFAULT {definition} FOR {name}"),
    ]
}

/// Whether two types differ in their sizes alone.
fn same_name(a: &str, b: &str) -> bool {
    let name = |text: &str| text.split('(').next().unwrap_or_default().trim().to_ascii_lowercase();
    name(a) == name(b)
}

/// Name and definition of a column's default.
async fn default_of(session: &mut Session, table: &Table, column: &str) -> Result<Option<(String, String)>> {
    let row = session
        .row(&format!(
            "SELECT CAST(d.name AS nvarchar(128)), CAST(d.definition AS nvarchar(max)) FROM sys.default_constraints d \
             JOIN sys.columns c ON c.object_id = d.parent_object_id AND c.column_id = d.parent_column_id \
             WHERE d.parent_object_id = OBJECT_ID({}) AND c.name = {}",
            literal(&table.name.quoted(QUOTING)),
            literal(column)
        ))
        .await?;
    Ok(row.and_then(|row| Some((cell_text(&row, 0)?, cell_text(&row, 1)?))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};
    use weir_core::ColumnDefault;
    use weir_sql::TableName;

    fn table(columns: &[(&str, &str, bool)]) -> Table {
        let of = |(name, type_text, nullable): &(&str, &str, bool)| Column {
            name: (*name).into(),
            type_text: (*type_text).into(),
            kind: Kind::parse(type_text),
            nullable: *nullable,
            has_default: false,
            identity: false,
            generated: false,
            key: None,
            collation: Some("Latin1_General_CI_AS".into()),
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

    fn column(name: &str, data_type: DataType, nullable: bool) -> MappedColumn {
        MappedColumn {
            name: name.into(),
            source_type: String::new(),
            nullable,
            key: None,
            offers: vec![Field::new(name, data_type, true)],
            comment: None,
        }
    }

    #[test]
    fn a_column_is_modified_once() {
        let table = table(&[("n", "int", false), ("gone", "int", true)]);
        let n = column("n", DataType::Int64, true);
        let changes = [TableChange::WidenColumn { column: n.clone() }, TableChange::AllowNull { column: n.clone() }];
        let steps = |changes: &[TableChange]| -> Vec<String> {
            let made = super::steps(&table, changes).unwrap();
            let of = |step: &Step<'_>| match step {
                Step::Modify { column, type_text, null } => {
                    modification(&table, column, type_text, *null, None).remove(0)
                }
                Step::Add { column, default } => addition(&table, column, *default, &[], false),
            };
            made.iter().map(of).collect()
        };
        assert_eq!(steps(&changes), ["ALTER TABLE [dbo].[t] ALTER COLUMN [n] bigint NULL"]);
        assert_eq!(steps(&changes[..1]), ["ALTER TABLE [dbo].[t] ALTER COLUMN [n] bigint NOT NULL"]);
        assert_eq!(steps(&changes[1..]), ["ALTER TABLE [dbo].[t] ALTER COLUMN [n] int NULL"]);
        let apart = TableChange::WidenColumn { column: column("n", DataType::Float64, true) };
        let error = super::steps(&table, &[apart]).err().unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, "int cannot be widened to float"));
        let lost = TableChange::AllowNull { column: column("x", DataType::Int64, true) };
        assert_eq!(super::steps(&table, &[lost]).err().unwrap().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn texts_keep_their_collation_and_rows_get_the_default() {
        let table = table(&[("c", "nvarchar(10)", true)]);
        let found = table.column("c").unwrap();
        assert_eq!(
            modification(&table, found, "nvarchar(max)", true, Some(&("df".into(), "(N'x')".into()))),
            [
                "ALTER TABLE [dbo].[t] DROP CONSTRAINT [df]",
                "ALTER TABLE [dbo].[t] ALTER COLUMN [c] nvarchar(max) COLLATE Latin1_General_CI_AS NULL",
                "ALTER TABLE [dbo].[t] ADD CONSTRAINT [df] DEFAULT (N'x') FOR [c]",
            ]
        );
        let seven = ColumnDefault::Literal("7".into());
        let add = |nullable, default: Option<&ColumnDefault>, babelfish| {
            addition(&table, &column("p", DataType::Int64, nullable), default, &[], babelfish)
        };
        assert_eq!(add(true, Some(&seven), false), "ALTER TABLE [dbo].[t] ADD [p] bigint NULL DEFAULT 7 WITH VALUES");
        assert_eq!(add(false, Some(&seven), true), "ALTER TABLE [dbo].[t] ADD [p] bigint NOT NULL DEFAULT 7");
        assert_eq!(add(false, None, false), "ALTER TABLE [dbo].[t] ADD [p] bigint NULL");
        assert!(same_name("decimal(9,2)", "DECIMAL(12,2)") && !same_name("int", "bigint"));
    }
}
