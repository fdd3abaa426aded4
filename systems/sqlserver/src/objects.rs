//! Everything that a whole-database job may select.

use tiberius::Row;
use weir_core::{Object, ObjectKind, ObjectName, Objects, Result};

use crate::catalog::{number, server, sizes, text};
use crate::connection::Session;

/// Tables and views of the connection's database, as `weir tables` and whole-database jobs list them.
pub(crate) async fn objects(session: &mut Session) -> Result<Objects> {
    let server = server(session).await?;
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
                database: server.database.clone(),
                schema: text(row, 0),
                table: text(row, 1).unwrap_or_default(),
            },
            kind: if view { ObjectKind::View } else { ObjectKind::Table },
            rows: size.0,
            bytes: size.1,
        }
    };
    let mut list: Vec<Object> = listed.iter().map(of).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    // The default collation's letters say whether names that differ in case are one.
    let ignores_case = server.collation.as_deref().is_none_or(|c| c.to_ascii_uppercase().contains("_CI"));
    Ok(Objects { database: Some(server.database), schema: Some(server.schema), ignores_case, list })
}
