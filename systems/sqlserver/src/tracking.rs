//! Change tracking: the server's own record of which rows have changed.

use weir_core::{Error, ErrorKind, Result};
use weir_sql::TableName;

use crate::QUOTING;
use crate::cells::{number, optional};
use crate::connection::{Session, literal};

/// How far a table's changes are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracking {
    /// The version of the last transaction that was committed in the database.
    pub version: i64,
    /// The version after which all changes of the table are kept.
    pub oldest: i64,
}

/// The state of a table's change tracking; `None` where it is off, or the server knows none.
///
/// # Errors
/// It is hidden from the user.
pub async fn tracking(session: &mut Session, table: &TableName) -> Result<Option<Tracking>> {
    let name = literal(&table.quoted(QUOTING));
    let on =
        format!("SELECT CAST(object_id AS bigint) FROM sys.change_tracking_tables WHERE object_id = OBJECT_ID({name})");
    if optional(session, &on).await?.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT CAST(CHANGE_TRACKING_CURRENT_VERSION() AS bigint), \
         CAST(CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID({name})) AS bigint)"
    );
    let row = session.row(&sql).await?;
    let cell = |at| row.as_ref().and_then(|row| number(row, at));
    match (cell(0), cell(1)) {
        (Some(version), Some(oldest)) => Ok(Some(Tracking { version, oldest })),
        _ => Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the table's changes are hidden from the user: GRANT VIEW CHANGE TRACKING ON {} TO …",
                table.quoted(QUOTING)
            ),
        )),
    }
}

/// Whether all changes of a table, given quoted, after the version `since` are still kept.
///
/// # Errors
/// The server's.
pub async fn kept_since(session: &mut Session, table: &str, since: i64) -> Result<bool> {
    let sql = format!("SELECT CAST(CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID({})) AS bigint)", literal(table));
    let oldest = session.row(&sql).await?.as_ref().and_then(|row| number(row, 0));
    Ok(oldest.is_some_and(|oldest| oldest <= since))
}
