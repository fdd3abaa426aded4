//! `weir check` of a source.

use sqlx::Row;
use weir_core::Check;
use weir_postgresql::literal;

use crate::PostgresqlReader;
use crate::source::describe;

/// One line for each database, and one for each table or query.
pub async fn check(reader: &PostgresqlReader) -> Vec<Check> {
    let mut lines = Vec::new();
    for (number, endpoint) in reader.endpoints.iter().enumerate() {
        let what = format!("connect to {}", endpoint.place());
        let mut session = match endpoint.connect(&reader.context).await {
            Ok(session) => session,
            Err(error) => {
                lines.push(Check::fault(what, error.full()));
                continue;
            }
        };
        let version = session.version;
        lines.push(Check::ok(what, format!("PostgreSQL {}.{}", version / 10_000, version % 10_000)));
        match session.value::<String>("SELECT current_user::text").await {
            Ok(user) => lines.push(Check::ok("login", format!("as {user}"))),
            Err(error) => lines.push(Check::fault("login", error.full())),
        }
        for (index, located) in reader.sources.iter().enumerate().filter(|(_, s)| s.endpoint == number) {
            let entries = (reader.config.common.column.as_slice(), reader.config.only.unwrap_or_default());
            let described = match describe(&mut session, &located.source, index, entries, None).await {
                Ok(described) => described,
                Err(error) => {
                    lines.push(Check::fault(format!("source {}", index + 1), error.full()));
                    continue;
                }
            };
            let what = format!("SELECT on {}", described.name);
            let Some(table) = &described.table else {
                lines.push(Check::ok(
                    format!("describe {}", described.name),
                    format!("{} columns", described.columns.len()),
                ));
                continue;
            };
            let schema = table.name.schema.as_deref().unwrap_or_default();
            let asked = session
                .one(&format!(
                    "SELECT has_schema_privilege({}, 'USAGE'), has_table_privilege({}::oid, 'SELECT') \
                     OR has_any_column_privilege({}::oid, 'SELECT')",
                    literal(schema),
                    table.oid,
                    table.oid
                ))
                .await;
            lines.push(match asked.map(|row| (row.try_get(0), row.try_get(1))) {
                Ok((Ok(true), Ok(true))) => Check::ok(what, format!("{} columns", described.columns.len())),
                Ok((Ok(false), _)) => {
                    Check::fault(what, format!("missing: GRANT USAGE ON SCHEMA {schema} TO this login"))
                }
                Ok((Ok(true), Ok(false))) => {
                    Check::fault(what, format!("missing: GRANT SELECT ON {} TO this login", described.name))
                }
                Ok(_) => Check::fault(what, "the privileges could not be read"),
                Err(error) => Check::fault(what, error.full()),
            });
        }
        session.close().await;
    }
    lines
}
