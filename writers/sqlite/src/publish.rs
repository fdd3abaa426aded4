//! Making the run's rows visible: one transaction, once.

use std::collections::BTreeSet;

use weir_core::{Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt};
use weir_sql::commits::PUBLISHED;
use weir_sql::order::taken;
use weir_sqlite::catalog::{is_internal, schema_of};
use weir_sqlite::{Database, QUOTING, Value};

use crate::plan::State;
use crate::records;

/// What publishing did.
pub struct Published {
    /// Rows that were published now; `None` when an earlier call had done it.
    pub rows: Option<u64>,
    /// Statements of postSql that failed.
    pub failures: Vec<String>,
}

/// A table that is to be published.
pub struct Staged {
    /// The writer's part of its plan.
    pub state: State,
    /// Whether its rows are replaced.
    pub replaces: bool,
    /// Whether they come beside others.
    pub adds: bool,
    /// What its splits left.
    pub receipts: Vec<Receipt>,
    /// Its name, for people.
    pub table: String,
}

/// Publishes what the splits of all these tables staged, in one transaction; of each the rows that were published, `None`
/// when that had happened before.
pub fn together(database: &Database<'_>, tables: &[Staged]) -> Result<Vec<Option<u64>>> {
    let guard = ForeignKeys::suspend(database, tables)?;
    database.execute("BEGIN IMMEDIATE")?;
    // An error closes the connection, and so takes the transaction back.
    let one = |staged: &Staged| in_transaction(database, staged).context("target", &staged.table);
    let published = tables.iter().map(one).collect::<Result<_>>()?;
    guard.check(database)?;
    database.execute("COMMIT")?;
    guard.restore(database)?;
    Ok(published)
}

/// Publishes what the splits staged, and runs postSql.
pub fn publish(database: &Database<'_>, staged: &Staged) -> Result<Published> {
    let state = &staged.state;
    let rows = match state.stage.is_some() || state.commits.is_some() {
        true => together(database, std::slice::from_ref(staged))?.into_iter().flatten().next(),
        false => Some(staged.receipts.iter().map(|r| r.rows).sum()),
    };
    let mut published = Published { rows, failures: Vec::new() };
    for statement in &state.post {
        if let Err(failure) = database.execute(statement) {
            let error = failure.into_error();
            if error.kind() == ErrorKind::Cancelled {
                return Err(error);
            }
            published.failures.push(format!("postSql failed: {} ({statement})", error.message()));
            break;
        }
    }
    Ok(published)
}

/// The rows that were published; `None` when that had happened before.
fn in_transaction(database: &Database<'_>, staged: &Staged) -> Result<Option<u64>> {
    let Staged { state, replaces, adds, receipts, table } = staged;
    let written: u64 = receipts.iter().map(|r| r.rows).sum();
    if let Some(commits) = &state.commits {
        records::create(database, commits)?;
        let known = records::read(database, commits)?;
        if known.recorded.published {
            return Ok(None);
        }
        // First of all, so that of two processes one fails before it has changed anything.
        records::add(database, commits, PUBLISHED, table, None)?;
        let mut recorded: Vec<u32> = known.recorded.receipts.iter().map(|r| r.split).collect();
        let mut given: Vec<u32> = receipts.iter().map(|r| r.split).collect();
        recorded.sort_unstable();
        given.sort_unstable();
        if recorded != given {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the file has a record of the splits {recorded:?}, the run of {given:?}: somebody changed \
                     `{}`; start the run anew",
                    commits.table
                ),
            ));
        }
    }
    let Some(stage) = &state.stage else { return Ok(Some(written)) };
    if !records::has_table(database, schema_of(&state.table), stage)? {
        return match &state.commits {
            // It goes with its publication, so without records its absence says that it happened.
            None => Ok(None),
            Some(_) => Err(gone(stage)),
        };
    }
    let empty = written == 0 && *replaces;
    if empty && state.on_empty == OnEmpty::Error {
        return Err(Error::new(
            ErrorKind::Data,
            "the source gave no rows, and `onEmpty` is `error`: the table was left as it is",
        ));
    }
    if let Some(twice) = &state.twice {
        let found = database.texts(twice, &[])?;
        if let Some(key) = found.first() {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "the input has rows of equal keys, ({key}) for one, and `duplicateKeys` is `error`: nothing was \
                     published"
                ),
            ));
        }
    }
    // With foreign keys on, parents may come after their children.
    database.execute("PRAGMA defer_foreign_keys = ON")?;
    let keep = empty && state.on_empty == OnEmpty::Keep;
    let mut rows = 0;
    for statement in &state.publish {
        if keep && !statement.starts_with("DROP TABLE ") {
            continue;
        }
        database.execute(statement).map_err(|mut failure| {
            failure.message = state.in_words(&failure.message);
            let clash = *adds && failure.message.contains("UNIQUE constraint failed");
            let error = failure.into_error();
            if clash { taken(error) } else { error }
        })?;
        if statement.starts_with("INSERT ") {
            rows = database.changes();
        }
    }
    Ok(Some(rows))
}

/// The staging table of a run that has recorded splits is missing.
pub fn gone(stage: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("the staging table `{stage}` of the run is gone, and its rows with it: start the run anew"),
    )
}

/// Where the session enforces foreign keys, deleting a table's rows to replace them would delete or change the rows of
/// other tables that refer to them. So enforcement rests meanwhile, and what must hold is checked at the end.
struct ForeignKeys {
    /// Schema and name of each table that refers to one of these or is one.
    tables: BTreeSet<(String, String)>,
    violations: i64,
}

impl ForeignKeys {
    fn suspend(database: &Database<'_>, staged: &[Staged]) -> Result<Self> {
        let mut keys = Self { tables: BTreeSet::new(), violations: 0 };
        let mut replaced = staged.iter().filter(|staged| staged.replaces).peekable();
        if replaced.peek().is_none() || database.integer("PRAGMA foreign_keys", &[])? != Some(1) {
            return Ok(keys);
        }
        for Staged { state, .. } in replaced {
            let schema = schema_of(&state.table);
            let sql = format!(
                "SELECT DISTINCT m.name FROM {}.sqlite_schema m JOIN pragma_foreign_key_list(m.name, ?2) f \
                 WHERE m.type = 'table' AND (f.\"table\" = ?1 COLLATE NOCASE OR m.name = ?1)",
                QUOTING.quote(schema)
            );
            let values = [Value::Text(state.table.name.as_bytes()), Value::Text(schema.as_bytes())];
            let found = database.texts(&sql, &values)?.into_iter().filter(|table| !is_internal(table));
            keys.tables.extend(found.map(|table| (schema.to_owned(), table)));
        }
        if !keys.tables.is_empty() {
            keys.violations = keys.count(database)?;
            database.execute("PRAGMA foreign_keys = OFF")?;
        }
        Ok(keys)
    }

    fn count(&self, database: &Database<'_>) -> Result<i64> {
        let mut count = 0;
        for (schema, table) in &self.tables {
            let values = [Value::Text(table.as_bytes()), Value::Text(schema.as_bytes())];
            count += database.integer("SELECT count(*) FROM pragma_foreign_key_check(?1, ?2)", &values)?.unwrap_or(0);
        }
        Ok(count)
    }

    fn check(&self, database: &Database<'_>) -> Result<()> {
        if !self.tables.is_empty() && self.count(database)? > self.violations {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the new rows would break foreign keys ({}): nothing was published",
                    self.tables.iter().map(|(_, table)| table.as_str()).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        Ok(())
    }

    fn restore(&self, database: &Database<'_>) -> Result<()> {
        if !self.tables.is_empty() {
            database.execute("PRAGMA foreign_keys = ON")?;
        }
        Ok(())
    }
}
