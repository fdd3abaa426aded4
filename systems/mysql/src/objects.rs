//! Everything that a whole-database job may select.

use weir_core::{Object, ObjectKind, ObjectName, Objects, Result};

use crate::connection::Session;

/// All tables and views of all databases that the user may look into.
pub(crate) async fn objects(session: &mut Session) -> Result<Objects> {
    // Statistics of MySQL 8 and later are cached for a day; older and related servers do not know the variable.
    let _ = session.raw("SET SESSION information_schema_stats_expiry = 0").await?;
    let database: Option<String> = session.row::<Option<String>>("SELECT DATABASE()").await?.flatten();
    let folded: Option<u64> = session.row("SELECT @@lower_case_table_names").await?;
    type Listed = (String, String, String, Option<u64>, Option<u64>);
    let rows: Vec<Listed> = session
        .rows(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') \
               AND TABLE_NAME NOT LIKE 'weir\\_%' ORDER BY 1, 2",
        )
        .await?;
    let of = |(database, table, kind, rows, bytes): Listed| Object {
        name: ObjectName { database, schema: None, table },
        kind: match kind.to_ascii_uppercase().as_str() {
            "BASE TABLE" | "SYSTEM VERSIONED" => ObjectKind::Table,
            kind if kind.contains("VIEW") => ObjectKind::View,
            _ => ObjectKind::Other,
        },
        rows,
        bytes,
    };
    Ok(Objects {
        database,
        schema: None,
        ignores_case: folded.unwrap_or(0) > 0,
        list: rows.into_iter().map(of).collect(),
        hides: true,
        ..Objects::default()
    })
}
