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

impl Server {
    /// Whether it tells names of schemas and tables apart by the case of their letters, as its collation says. Babelfish
    /// never does.
    pub fn exact_names(&self) -> bool {
        let collation = self.collation.as_deref().unwrap_or_default().to_ascii_uppercase();
        !self.babelfish && collation.split('_').any(|part| matches!(part, "CS" | "BIN" | "BIN2"))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collation_says_whether_names_are_told_apart_by_case() {
        let exact = |collation: &str, babelfish| {
            let server = Server {
                version: String::new(),
                babelfish,
                database: "d".into(),
                schema: "dbo".into(),
                snapshot: false,
                versioned: false,
                collation: Some(collation.into()),
            };
            server.exact_names()
        };
        for collation in ["SQL_Latin1_General_CP1_CS_AS", "Latin1_General_100_BIN2", "Japanese_BIN"] {
            assert!(exact(collation, false) && !exact(collation, true), "{collation}");
        }
        assert!(!exact("SQL_Latin1_General_CP1_CI_AS", false) && !exact("Czech_100_CI_AS_SC_UTF8", false));
    }
}
