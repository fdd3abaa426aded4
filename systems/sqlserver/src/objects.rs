//! Everything that a whole-database job may select.

use tiberius::Row;
use weir_core::{LooksInto, Object, ObjectKind, ObjectName, Objects, Result, Seen};

use crate::cells::{number, text};
use crate::connection::Session;
use crate::databases::{is_final, others};
use crate::server::server;
use crate::sizes::sizes;

/// Tables and views of the connection's database and of those others that somebody looks into, as `weir tables` and
/// whole-database jobs list them. The session ends in any of them.
pub(crate) async fn objects(session: &mut Session, looks_into: &LooksInto<'_>) -> Result<Objects> {
    let server = server(session).await?;
    let mut list = listed(session, &server.database).await?;
    let mut others = others(session, looks_into).await?;
    for other in others.iter_mut().filter(|other| other.seen == Seen::Listed) {
        match listed_in(session, &other.name).await {
            Ok(more) => list.extend(more),
            Err(error) if is_final(&error) => return Err(error.with("database", &other.name)),
            Err(error) => other.seen = Seen::Closed(format!("shows nothing: {}", error.message())),
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    // The default collation's letters say whether names that differ in case are one.
    let ignores_case = server.collation.as_deref().is_none_or(|c| c.to_ascii_uppercase().contains("_CI"));
    let (database, schema) = (Some(server.database), Some(server.schema));
    Ok(Objects { database, schema, ignores_case, list, others, hides: true, ..Objects::default() })
}

async fn listed_in(session: &mut Session, database: &str) -> Result<Vec<Object>> {
    session.enter(database).await?;
    listed(session, database).await
}

/// What there is in the session's database, which has this name.
async fn listed(session: &mut Session, database: &str) -> Result<Vec<Object>> {
    let listed = session
        .rows(
            "SELECT CAST(s.name AS nvarchar(128)), CAST(o.name AS nvarchar(128)), CAST(o.type AS nvarchar(2)), \
             CAST(o.object_id AS bigint) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
             WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND s.name NOT IN ('sys', 'INFORMATION_SCHEMA') \
             AND o.name NOT LIKE 'weir[_]%'",
        )
        .await?;
    let sizes = sizes(session, "1 = 1").await?;
    let of = |row: &Row| {
        let view = text(row, 2).is_some_and(|t| t.trim() == "V");
        let size = sizes.get(&number(row, 3).unwrap_or_default()).copied().filter(|_| !view).unwrap_or_default();
        Object {
            name: ObjectName {
                database: database.to_owned(),
                schema: text(row, 0),
                table: text(row, 1).unwrap_or_default(),
            },
            kind: if view { ObjectKind::View } else { ObjectKind::Table },
            rows: size.0,
            bytes: size.1,
        }
    };
    Ok(listed.iter().map(of).collect())
}
