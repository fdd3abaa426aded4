//! What a server is, and what a database has set.

use weir_core::{Error, Result};

use crate::cells::{number, text};
use crate::connection::Session;

/// What a server is, and what the session's database has set.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Whether it is Babelfish for PostgreSQL.
    pub babelfish: bool,
    /// The session's database.
    pub database: String,
    /// The user's default schema.
    pub schema: String,
    /// Whether the database allows snapshot isolation.
    pub snapshot: bool,
    /// Whether its statements read committed rows from versions, without locks.
    pub versioned: bool,
    /// The database's collation.
    pub collation: Option<String>,
}

/// Asks the server what it is.
///
/// # Errors
/// The server's.
pub async fn server(session: &mut Session) -> Result<Server> {
    let row = session
        .row(
            "SELECT CAST(@@VERSION AS nvarchar(4000)), DB_NAME(), SCHEMA_NAME(), \
             CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), \
             CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128))",
        )
        .await?
        .ok_or_else(|| Error::internal("the server says nothing"))?;
    let banner = text(&row, 0).unwrap_or_default();
    let babelfish = banner.contains("Babelfish");
    let product = text(&row, 3).unwrap_or_default();
    let version = match babelfish {
        true => banner.lines().next().unwrap_or_default().trim().to_owned(),
        false => product,
    };
    let settings = session
        .row(
            "SELECT CAST(snapshot_isolation_state AS bigint), CAST(is_read_committed_snapshot_on AS bigint) \
             FROM sys.databases WHERE name = DB_NAME()",
        )
        .await?;
    let on = |at| settings.as_ref().and_then(|row| number(row, at)) == Some(1);
    Ok(Server {
        version,
        babelfish,
        database: text(&row, 1).unwrap_or_default(),
        schema: text(&row, 2).unwrap_or_else(|| "dbo".into()),
        snapshot: on(0),
        versioned: on(1),
        collation: text(&row, 4),
    })
}
