//! The table where rows wait: the target's columns and checks, and which row of which split each one is.

use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, PlannedColumn, Result, WriteMode, WritePlan};
use weir_postgresql::error::{is_state, map};
use weir_postgresql::find::{Wanted, find_table};
use weir_postgresql::keys::unique_keys;
use weir_postgresql::{Session, literal};
use weir_sql::TableName;

use crate::known::Found;
use crate::plan::{Q, State, schema_creation};
use crate::record::exists;

/// The split of a staged row.
pub const SPLIT: &str = "weir_split";
/// The row's number within its split.
pub const ROW: &str = "weir_row";

/// What of a target that is there makes its staging table another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    /// The target, as it is spelled.
    table: TableName,
    /// The columns that are not written.
    unwritten: Vec<String>,
    /// The unique keys, of which all columns are written.
    pub(crate) unique: Vec<Vec<String>>,
}

/// The types of which values with more digits are rounded without a word: numeric, and those with fractions of a second.
const ROUNDED: &str = "1700, 1083, 1266, 1114, 1184, 1186";

impl Layout {
    pub(crate) fn of(Found { table, unique, .. }: &Found, columns: &[PlannedColumn]) -> Self {
        let written = |name: &String| columns.iter().any(|c| c.name == *name);
        let unwritten = table.columns.iter().map(|c| &c.name).filter(|name| !written(name));
        Self {
            table: table.name.clone(),
            unwritten: unwritten.cloned().collect(),
            unique: unique.iter().filter(|key| key.iter().all(written)).cloned().collect(),
        }
    }

    /// A statement that fails when the columns of `table` have not the types that the plan has seen: binary values would be
    /// taken for others, and those of fewer digits be rounded.
    pub(crate) fn as_planned(table: &TableName, plan: &WritePlan, state: &State) -> String {
        let columns = plan.columns.iter().zip(&state.types);
        // A domain is known by its name alone: the plan looks through it.
        let columns =
            columns.map(|(column, pg)| format!("({}, {}::oid, {})", literal(&column.name), pg.oid, literal(&pg.text)));
        let columns: Vec<_> = columns.collect();
        format!(
            "SELECT 1 / (count(*) = {})::int AS as_planned FROM pg_catalog.pg_attribute a JOIN (VALUES {}) p(name, type, said) \
             ON a.attname = p.name AND (format_type(a.atttypid, a.atttypmod) = p.said \
                OR (a.atttypid = p.type AND a.atttypid NOT IN ({ROUNDED}))) \
             WHERE a.attrelid = to_regclass({})::oid",
            columns.len(),
            columns.join(", "),
            literal(&table.quoted(Q))
        )
    }

    /// A statement that fails when a column of the target has another type than it has in `stage`, which was made like it.
    pub(crate) fn as_staged(stage: &TableName, plan: &WritePlan, state: &State) -> String {
        let names: Vec<_> = plan.columns.iter().map(|column| literal(&column.name)).collect();
        format!(
            "SELECT 1 / (NOT EXISTS (SELECT FROM pg_catalog.pg_attribute t JOIN pg_catalog.pg_attribute s USING (attname) \
             WHERE t.attrelid = to_regclass({})::oid AND s.attrelid = to_regclass({})::oid AND attname IN ({}) \
             AND (t.atttypid, t.atttypmod) <> (s.atttypid, s.atttypmod)))::int AS as_planned",
            literal(&state.table.quoted(Q)),
            literal(&stage.quoted(Q)),
            names.join(", ")
        )
    }

    pub(crate) async fn ask(session: &mut Session, plan: &WritePlan, table: &TableName) -> Result<Self> {
        let gone = || Error::new(ErrorKind::NotFound, "the target table is gone").with("table", table);
        let table = find_table(session, &Wanted::exactly(table)).await?.ok_or_else(gone)?;
        let unique = unique_keys(session, &table).await?;
        Ok(Self::of(&Found { table, unique, referring: Vec::new(), keys: Vec::new() }, &plan.columns))
    }
}

/// Makes a schema, if it is not there. Several tables of one run may want to at once.
pub async fn create_schema(session: &mut Session, schema: &str) -> Result<()> {
    for _ in 0..10 {
        match session.try_execute(&schema_creation(schema)).await? {
            Ok(_) => return Ok(()),
            // IF NOT EXISTS does not help against one who makes it at this moment.
            Err(error)
                if weir_postgresql::error::database_error(&error)
                    .is_some_and(|e| matches!(e.code(), "23505" | "42P06")) => {}
            Err(error) => return Err(map(error).with("schema", schema)),
        }
    }
    Err(Error::new(ErrorKind::Conflict, "the schema cannot be made: others keep making it").with("schema", schema))
}

/// The statements that make the staging table of a target that the run itself creates, before them.
pub fn creation(plan: &WritePlan, state: &State, stage: &TableName, key: &[String]) -> String {
    let (table, into) = (state.table.quoted(Q), stage.quoted(Q));
    let keys = [key.to_vec()];
    let keys = if key.is_empty() { &[][..] } else { &keys };
    let indexes = indexes(plan, &into, keys);
    format!(
        "CREATE TABLE {into} (LIKE {table} INCLUDING CONSTRAINTS, {SPLIT} int4 NOT NULL, {ROW} int8 NOT NULL); {indexes}"
    )
}

/// The statements that make the indexes of a staging table for a target with these unique keys.
fn indexes(plan: &WritePlan, into: &str, unique: &[Vec<String>]) -> String {
    let mut sql = String::new();
    if matches!(plan.mode, WriteMode::Overwrite | WriteMode::Append) {
        // Rows that clash with each other are found here, one by one, not when the whole table is published.
        for key in unique {
            sql.push_str(&format!("CREATE UNIQUE INDEX ON {into} ({});\n", Q.quote_all(key)));
        }
    }
    match plan.mode {
        WriteMode::Overwrite => {}
        // Each batch is compared with the target's rows.
        WriteMode::Append => sql.push_str(&format!("CREATE INDEX ON {into} ({SPLIT}, {ROW});\n")),
        _ => sql.push_str(&format!("CREATE INDEX ON {into} ({SPLIT});\n")),
    }
    sql
}

/// Makes the staging table, if it is not there, within the caller's transaction. The target exists by now. The table is
/// logged even if the target is not: the record of its splits is.
pub async fn create(session: &mut Session, plan: &WritePlan, state: &State, stage: &TableName) -> Result<()> {
    // It would be there with its record, which is written in the same transaction.
    if state.records.is_none() && exists(session, stage).await? {
        return Ok(());
    }
    let asked;
    let layout = match &state.layout {
        Some(layout) => layout,
        None => {
            asked = Layout::ask(session, plan, &state.table).await?;
            &asked
        }
    };
    let (table, into) = (layout.table.quoted(Q), stage.quoted(Q));
    let mut sql = format!("CREATE TABLE {into} (LIKE {table} INCLUDING CONSTRAINTS);\n");
    // A column that no row names would be refused here for its NOT NULL; its default is the target's business.
    for column in &layout.unwritten {
        sql.push_str(&format!("ALTER TABLE {into} DROP COLUMN IF EXISTS {} CASCADE;\n", Q.quote(column)));
    }
    sql.push_str(&format!("ALTER TABLE {into} ADD COLUMN {SPLIT} int4 NOT NULL, ADD COLUMN {ROW} int8 NOT NULL;\n"));
    sql.push_str(&indexes(plan, &into, &layout.unique));
    if state.layout.is_some() {
        sql.push_str(&Layout::as_planned(stage, plan, state));
    }
    session.execute(&sql).await.map_err(|e| changed(e).with("table", stage))?;
    Ok(())
}

/// What [`Layout::as_planned`] or [`Layout::as_staged`] has found, in words.
pub(crate) fn changed(error: Error) -> Error {
    if !is_state(&error, &["22012"]) {
        return error;
    }
    let text = "the table was altered after the run had looked at it: run again, with --fresh where the run is resumed";
    Error::new(ErrorKind::Conflict, text).because(error)
}
