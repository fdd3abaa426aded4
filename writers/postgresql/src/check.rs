//! `weir check` of a target.

use weir_core::{Check, WriteMode};
use weir_postgresql::{find, literal};
use weir_sql::Commits;

use crate::PostgresqlWriter;
use crate::plan::Q;
use crate::record::Rights;

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
    let found = match find::find_table(&mut session, &writer.table).await {
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
        let error = find::require_table(&mut session, &writer.table).await.err();
        let detail = error.map_or_else(|| "no such table".to_owned(), |e| e.message().to_owned());
        lines.push(Check::fault(format!("table {}", writer.table), format!("{detail}; or set createTable")));
    }
    let schema = found.as_ref().and_then(|t| t.name.schema.clone()).or_else(|| writer.table.name.schema.clone());
    let mut target = writer.table.name.clone();
    target.schema = schema;
    let ledger = common.ledger.schema.as_deref().map(|s| Q.unquote(s));
    let commits = Commits::new("", &target, ledger.as_deref()).table;
    let exactly_once = common.exactly_once.unwrap_or(true);
    let mut places = vec![(commits.clone(), if staged { "staging" } else { "the record of finished splits" })];
    if found.is_none() && commits.schema != target.schema {
        places.push((target, "the table"));
    }
    for (index, (place, purpose)) in places.iter().enumerate() {
        let name = place.schema.clone().unwrap_or_else(|| "the current schema".into());
        let what = format!("CREATE in {name}");
        let creates = staged || found.is_none();
        let rights = Rights::of(&mut session, std::slice::from_ref(place)).await;
        let rights = rights.map(|mut rights| rights.remove(&place.schema).unwrap_or_default());
        if index == 0
            && exactly_once
            && let Ok(Rights { commits: Some(granted), .. }) = &rights
        {
            let what = format!("use of {place}");
            lines.push(if *granted {
                Check::ok(what, "granted")
            } else {
                let remedy =
                    format!("GRANT SELECT, INSERT, DELETE ON {place} TO this login, or say `exactlyOnce`: false");
                Check::fault(what, format!("missing: {remedy}"))
            });
            if !creates {
                continue;
            }
        }
        lines.push(match rights {
            Err(error) => Check::fault(what, error.full()),
            Ok(rights) if !rights.schema => {
                Check::fault(what, "there is no such schema: create it, or correct the name")
            }
            Ok(rights) if rights.create => Check::ok(what, "granted"),
            Ok(_) if !creates && !exactly_once => {
                Check::warning(what, "missing, and given up: finished splits are not recorded (`exactlyOnce`: false)")
            }
            Ok(_) => Check::fault(
                what,
                format!(
                    "missing, and needed for {purpose}: GRANT CREATE ON SCHEMA {name} TO this login, or name another as \
                     `ledger`: {{\"schema\": …}}{}",
                    if creates { "" } else { ", or say `exactlyOnce`: false" }
                ),
            ),
        });
    }
    session.close().await;
    lines
}
