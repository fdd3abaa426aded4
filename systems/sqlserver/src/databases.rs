//! The server's other databases: which there are, and how a session gets into them.
//!
//! Each database has a catalogue of its own, and shows it to sessions that are in it.

use weir_core::{Error, ErrorKind, LooksInto, OtherDatabase, Result, Seen};

use crate::QUOTING;
use crate::cells::{number, optional, text};
use crate::connection::{Session, literal};
use crate::server::{Server, server};

/// The databases beside the session's own, the server's own ones left out. Those that somebody looks into are
/// [`Listed`](Seen::Listed) where the user may get in; about the others the server is not asked, for to ask may wake them.
///
/// # Errors
/// The connection is lost, or the run stopped.
pub(crate) async fn others(session: &mut Session, looks_into: &LooksInto<'_>) -> Result<Vec<OtherDatabase>> {
    let sql = "SELECT CAST(name AS nvarchar(128)), CAST(state AS bigint) FROM sys.databases \
               WHERE name <> DB_NAME() AND name NOT IN ('master', 'model', 'msdb', 'tempdb') ORDER BY 1";
    let mut all = Vec::new();
    for row in &optional(session, sql).await? {
        let Some(name) = text(row, 0) else { continue };
        let seen = match state(number(row, 1).unwrap_or_default()) {
            _ if !looks_into(&name) => Seen::Unasked,
            Some(state) => Seen::Closed(format!("is {state}")),
            None => Seen::Listed,
        };
        all.push(OtherDatabase { name, seen });
    }
    let asked: Vec<_> = all.iter().filter(|one| one.seen == Seen::Listed).map(|one| one.name.as_str()).collect();
    if asked.is_empty() {
        return Ok(all);
    }
    let sql = open_among(&asked);
    let open: Vec<_> = optional(session, &sql).await?.iter().filter_map(|row| text(row, 0)).collect();
    for one in all.iter_mut().filter(|one| one.seen == Seen::Listed && !open.contains(&one.name)) {
        one.seen = Seen::Closed("is closed to the user, who is none of its users".into());
    }
    Ok(all)
}

/// The statement for those of these databases that let the user in.
fn open_among(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| literal(name)).collect();
    format!(
        "SELECT CAST(name AS nvarchar(128)) FROM sys.databases WHERE name IN ({}) AND HAS_DBACCESS(name) = 1",
        names.join(", ")
    )
}

/// The statement with which a session goes on in a database.
pub(crate) fn enter(database: &str) -> String {
    format!("USE {}", QUOTING.quote(database))
}

/// What keeps everybody out of a database, by its number in `sys.databases`.
fn state(number: i64) -> Option<&'static str> {
    match number {
        0 => None,
        1 => Some("being restored"),
        2 | 3 => Some("in recovery"),
        4 => Some("marked as suspect"),
        5 => Some("in an emergency, open to administrators alone"),
        _ => Some("offline"),
    }
}

/// Goes on in the database of this name, if it is not the session's already. `false` where there is no way in (any more).
///
/// # Errors
/// The connection is lost, or the run stopped.
pub(crate) async fn entered(session: &mut Session, here: &mut Server, database: &str) -> Result<bool> {
    if here.database == database {
        return Ok(true);
    }
    match session.enter(database).await {
        Ok(()) => *here = server(session).await?,
        Err(error) if is_final(&error) => return Err(error.with("database", database)),
        Err(_) => return Ok(false),
    }
    Ok(true)
}

/// Whether an error concerns more than the database that was to be looked into.
pub(crate) fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_cannot_break_out() {
        assert_eq!(enter("a.b]; DROP TABLE t --"), "USE [a.b]]; DROP TABLE t --]");
        let sql = open_among(&["it's", "b"]);
        assert!(sql.ends_with("WHERE name IN (N'it''s', N'b') AND HAS_DBACCESS(name) = 1"), "{sql}");
    }

    #[test]
    fn one_database_that_is_shut_does_not_shut_the_others() {
        assert_eq!((state(0), state(6), state(10)), (None, Some("offline"), Some("offline")));
        assert!(is_final(&Error::cancelled()) && !is_final(&Error::new(ErrorKind::Denied, "no")));
    }
}
