//! How far a server has come.

use mysql_async::Row;
use weir_core::{ErrorKind, Result};

use crate::catalog::Server;
use crate::connection::Session;

/// The server's position in its binlog; `None` where it has none, or does not tell this user.
///
/// # Errors
/// The run was stopped, or the connection is gone.
pub async fn position(session: &mut Session, server: &Server) -> Result<Option<String>> {
    // The one word since MySQL 8.2, the other before and in MariaDB.
    for sql in ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"] {
        match session.rows::<Row>(sql).await {
            Ok(rows) => {
                let Some(row) = rows.first() else { return Ok(None) };
                let file: Option<String> = row.get_opt(0).and_then(|v| v.ok());
                let at: Option<u64> = row.get_opt(1).and_then(|v| v.ok());
                return Ok(file.zip(at).map(|(file, at)| format!("{file}:{at}")));
            }
            Err(error) if is_final(error.kind()) => return Err(error),
            Err(_) => {}
        }
    }
    // What everybody may read.
    let variable = if server.mariadb { "@@GLOBAL.gtid_binlog_pos" } else { "@@GLOBAL.gtid_executed" };
    match session.row::<Option<String>>(&format!("SELECT {variable}")).await {
        Ok(position) => Ok(position.flatten().filter(|p| !p.is_empty())),
        Err(error) if is_final(error.kind()) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What is to be seen of a MySQL server's transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The names of those that have committed.
    pub executed: String,
    /// Whether others may be in the midst of it: in the binlog already, or in the tables, and not yet among `executed`.
    pub more: bool,
}

/// Which transactions are in the tables; `None` where they have no names (`gtid_mode`), by which alone MySQL tells: its
/// binlog has a transaction before the tables do.
///
/// # Errors
/// The run was stopped, or the connection is gone.
pub async fn committed(session: &mut Session, server: &Server) -> Result<Option<Committed>> {
    if server.mariadb {
        return Ok(None);
    }
    // In this order: a name has an owner from before the binlog until it is among the executed ones.
    let mut told = Vec::new();
    for sql in [
        "SELECT IF(@@GLOBAL.gtid_mode = 'ON' AND @@GLOBAL.log_bin, 'named', NULL)",
        "SELECT @@GLOBAL.gtid_owned",
        "SELECT @@GLOBAL.gtid_executed",
    ] {
        match session.row::<Option<String>>(sql).await {
            Ok(Some(Some(text))) => told.push(text),
            Err(error) if is_final(error.kind()) => return Err(error),
            // Servers before 5.6 have no names.
            _ => return Ok(None),
        }
    }
    let executed = told.pop().unwrap_or_default();
    Ok(Some(Committed { executed, more: told.pop().is_some_and(|owned| !owned.is_empty()) }))
}

fn is_final(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout)
}
