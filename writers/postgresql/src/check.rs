//! `weir check` of a target.

use sqlx::Row;
use weir_core::{Check, WriteMode};
use weir_postgresql::{catalog, literal};

use crate::PostgresqlWriter;

/// Connection, login and the privileges that the job's mode needs.
pub async fn check(writer: &PostgresqlWriter) -> Vec<Check> {
    let what = format!("connect to {}", writer.endpoint.place());
    let mut session = match writer.endpoint.connect(&writer.context).await {
        Ok(session) => session,
        Err(error) => return vec![Check::fault(what, error.full())],
    };
    let version = session.version;
    let mut lines = vec![Check::ok(what, format!("PostgreSQL {}.{}", version / 10_000, version % 10_000))];
    match session.value::<String>("SELECT current_user::text").await {
        Ok(user) => lines.push(Check::ok("login", format!("as {user}"))),
        Err(error) => lines.push(Check::fault("login", error.full())),
    }
    let common = &writer.config.common;
    let mode = common.mode();
    let found = match catalog::find_table(&mut session, &writer.table).await {
        Ok(found) => found,
        Err(error) => {
            lines.push(Check::fault(format!("table {}", writer.table), error.full()));
            return lines;
        }
    };
    let staged = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert);
    if let Some(table) = &found {
        let mut needed = vec!["INSERT"];
        match mode {
            WriteMode::Overwrite => needed.extend(["SELECT", "DELETE", "UPDATE"]),
            WriteMode::Upsert => needed.extend(["SELECT", "UPDATE"]),
            WriteMode::Ignore => needed.push("SELECT"),
            _ => {}
        }
        for privilege in needed {
            let what = format!("{privilege} on {}", table.name);
            let asked = session
                .value::<bool>(&format!("SELECT has_table_privilege({}::oid, {})", table.oid, literal(privilege)))
                .await;
            lines.push(match asked {
                Ok(true) => Check::ok(what, "granted"),
                Ok(false) => Check::fault(what, format!("missing: GRANT {privilege} ON {} TO this login", table.name)),
                Err(error) => Check::fault(what, error.full()),
            });
        }
    } else if !common.creates(writer.context.form) {
        let error = catalog::require_table(&mut session, &writer.table).await.err();
        let detail = error.map_or_else(|| "no such table".to_owned(), |e| e.message().to_owned());
        lines.push(Check::fault(format!("table {}", writer.table), format!("{detail}; or set createTable")));
    }
    if staged || found.is_none() {
        let schema = found.as_ref().and_then(|t| t.name.schema.clone()).or_else(|| writer.table.schema.clone());
        let schema_sql = schema.as_deref().map_or_else(|| "current_schema()::text".to_owned(), literal);
        let asked = session
            .one(&format!(
                "SELECT n.nspname::text, has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n WHERE n.nspname = {schema_sql}"
            ))
            .await;
        let name = schema.unwrap_or_else(|| "the current schema".into());
        lines.push(match asked.map(|row| (row.try_get::<String, _>(0), row.try_get::<bool, _>(1))) {
            Ok((Ok(name), Ok(true))) => Check::ok(format!("CREATE in {name}"), "granted"),
            Ok((Ok(name), Ok(false))) => Check::fault(
                format!("CREATE in {name}"),
                format!(
                    "missing, and needed for the table or its staging: GRANT CREATE ON SCHEMA {name} TO this login"
                ),
            ),
            _ => Check::fault(format!("CREATE in {name}"), "there is no such schema: create it, or correct the name"),
        });
    }
    session.close().await;
    lines
}
