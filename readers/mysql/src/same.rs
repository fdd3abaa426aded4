//! What tables are at the moment of a snapshot, so that one is found out that was emptied or rebuilt since.
//!
//! The server refuses to read a table in a snapshot that is older than the table. But MariaDB forgets how old that is when it closes
//! the table, as a server of many tables does all the time, and of one that takes another one's name no server notices. Such
//! a table has no rows in the snapshot, and would arrive empty; or it has those of a later moment, which MariaDB has copied in a way
//! that older snapshots see. So it is noted which tables have rows, and when each was made: ALTER makes a table again.

use std::collections::HashMap;

use weir_core::{Error, ErrorKind, Result};
use weir_mysql::{QUOTING, RowSession, escape};
use weir_sql::TableName;

/// What is known of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Whether it has rows.
    pub(crate) filled: bool,
    /// When it was made, in seconds; unknown where the server does not say.
    pub(crate) made: Option<String>,
}

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

/// Looks at all of the tables. Of what cannot be asked nothing is known: its reader finds out why.
pub(crate) async fn look(session: &mut RowSession, tables: &[String]) -> Result<HashMap<String, Found>> {
    let mut found: HashMap<_, _> = tables.iter().map(|table| (table.clone(), Found::default())).collect();
    let mut fill = |tables: Vec<String>| {
        for table in tables {
            found.entry(table).or_default().filled = true;
        }
    };
    let mut made = HashMap::new();
    say(session, IN_TIME).await?;
    for chunk in tables.chunks(AT_ONCE) {
        match ask(session, chunk).await? {
            Some(filled) => fill(filled),
            None => {
                for table in chunk {
                    fill(ask(session, std::slice::from_ref(table)).await?.unwrap_or_default());
                }
            }
        }
        made.extend(times(session, chunk).await?);
        // Else they would be locked against ALTER and DROP until the snapshot ends.
        session.run("ROLLBACK TO SAVEPOINT weir").await?;
    }
    say(session, AS_BEFORE).await?;
    for (table, time) in made {
        found.entry(table).or_default().made = Some(time);
    }
    Ok(found)
}

/// When these tables were made, of those that the server tells it of.
async fn times(session: &mut RowSession, tables: &[String]) -> Result<HashMap<String, String>> {
    let asked = tables.iter().enumerate().filter_map(|(number, table)| {
        let name = TableName::parse(table, QUOTING).ok()?;
        let schema = name.schema.map_or_else(|| "DATABASE()".to_owned(), |schema| escape(&schema));
        // One a name: then the servers look for this table and not through all of them.
        Some(format!(
            "SELECT {number}, UNIX_TIMESTAMP(CREATE_TIME) AS made FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {}",
            escape(&name.name)
        ))
    });
    let sql = asked.collect::<Vec<_>>().join(" UNION ALL ");
    let rows = match session.cells(&sql).await {
        Err(error) if is_refusal(&error) => return Ok(HashMap::new()),
        rows => rows?,
    };
    let time = |row: Vec<Option<String>>| {
        let [Some(number), Some(time)] = row.as_slice() else { return None };
        Some((tables.get(number.parse::<usize>().ok()?)?.clone(), time.clone()))
    };
    Ok(rows.into_iter().filter_map(time).collect())
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

/// Refuses a table that has been read and is not what it was. `nothing`: no row was read.
pub(crate) async fn check(session: &mut RowSession, table: &str, was: &Found, nothing: bool) -> Result<()> {
    let text = "the table was emptied or altered after its snapshot was taken: run again";
    let changed = || Err(Error::new(ErrorKind::Conflict, text));
    if was.filled && nothing && session.cells(&format!("SELECT 1 FROM {table} LIMIT 1")).await?.is_empty() {
        return changed();
    }
    let Some(made) = &was.made else { return Ok(()) };
    match times(session, &[table.to_owned()]).await?.get(table) {
        Some(now) if now != made => changed(),
        _ => Ok(()),
    }
}
