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

fn is_final(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout)
}
