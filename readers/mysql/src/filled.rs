//! Which tables have rows at the moment of a snapshot, so that one is found out that was emptied or rebuilt since.
//!
//! The server refuses to read a table in a snapshot that is older than the table. But MariaDB forgets how old that is when it closes
//! the table, as a server of many tables does all the time, and of one that takes another one's name no server notices. Such
//! a table has no rows in the snapshot, and would arrive empty.

use std::collections::HashSet;

use weir_core::{Error, ErrorKind, Result};
use weir_mysql::RowSession;

/// How many tables one statement asks about.
const AT_ONCE: usize = 50;

/// Who waits for somebody's lock keeps all the others waiting, and so does who looks through a million deleted rows for one
/// that is left. MySQL has a hint for the latter, MariaDB a variable.
const IN_TIME: [&str; 2] = [
    "SET @weir_wait = @@SESSION.lock_wait_timeout, SESSION lock_wait_timeout = 1",
    "SET @weir_time = @@SESSION.max_statement_time, SESSION max_statement_time = 1",
];
const AS_BEFORE: [&str; 2] =
    ["SET SESSION lock_wait_timeout = @weir_wait", "SET SESSION max_statement_time = @weir_time"];

/// Those of the tables that have rows. What cannot be asked is not among them: its reader finds out why.
pub(crate) async fn filled(session: &mut RowSession, tables: &[String]) -> Result<HashSet<String>> {
    let mut filled = HashSet::new();
    say(session, IN_TIME).await?;
    for chunk in tables.chunks(AT_ONCE) {
        match ask(session, chunk).await? {
            Some(found) => filled.extend(found),
            None => {
                for table in chunk {
                    filled.extend(ask(session, std::slice::from_ref(table)).await?.into_iter().flatten());
                }
            }
        }
        // Else they would be locked against ALTER and DROP until the snapshot ends.
        session.run("ROLLBACK TO SAVEPOINT weir").await?;
    }
    say(session, AS_BEFORE).await?;
    Ok(filled)
}

/// Says what some relatives do not know.
async fn say(session: &mut RowSession, statements: [&str; 2]) -> Result<()> {
    for statement in statements {
        match session.run(statement).await {
            Err(error) if !is_refusal(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the server lives and says no.
fn is_refusal(error: &Error) -> bool {
    error.context().iter().any(|(key, _)| *key == "code")
}

/// `None` where the server refuses one of the tables, or has no answer in time.
async fn ask(session: &mut RowSession, tables: &[String]) -> Result<Option<Vec<String>>> {
    let list: Vec<_> = tables.iter().map(|table| format!("EXISTS (SELECT 1 FROM {table})")).collect();
    match session.cells(&format!("SELECT /*+ MAX_EXECUTION_TIME(1000) */ {}", list.join(", "))).await {
        Ok(rows) => {
            let cells = rows.into_iter().next().unwrap_or_default();
            let found = tables.iter().zip(cells).filter(|(_, cell)| cell.as_deref() == Some("1"));
            Ok(Some(found.map(|(table, _)| table.clone()).collect()))
        }
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a table that had rows at the moment that the session still shows, and has none any more.
pub(crate) async fn check(session: &mut RowSession, table: &str) -> Result<()> {
    let rows = session.cells(&format!("SELECT 1 FROM {table} LIMIT 1")).await?;
    if rows.is_empty() {
        let text = "the table was emptied or altered after its snapshot was taken: run again";
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    Ok(())
}
