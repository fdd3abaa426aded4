//! Once a job: DDL before the first task, publishing after the last one.

use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt, WriteMode, WritePlan};
use weir_mysql::{QUOTING, Session, escape, from_async};
use weir_sql::statements::with_table;
use weir_sql::{TableName, WriterConfig};

use crate::state::{ROW, SPLIT, State};

/// Creates what has to be there before the first task. Safe to call again.
pub(crate) async fn prepare(
    session: &mut Session,
    config: &WriterConfig,
    plan: &WritePlan,
    state: &State,
) -> Result<()> {
    if let Some(create) = &state.create {
        session.run(create).await.context("statement", "CREATE TABLE")?;
        tracing::info!(table = %plan.table, "created");
    }
    let again = match &state.marker {
        Some(marker) => exists(session, marker).await?,
        None => false,
    };
    if !again {
        for sql in with_table(config.pre_sql.as_slice(), &state.table, QUOTING) {
            session.run(&sql).await.context("preSql", &sql)?;
        }
    }
    for sql in &state.stage {
        match session.raw(sql).await? {
            // The column is there from the first call.
            Err(mysql_async::Error::Server(e)) if e.code == 1060 => {}
            other => other.map_err(from_async).context("statement", "staging")?,
        }
    }
    if let Some(marker) = &state.marker {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (published TINYINT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
            marker.quoted(QUOTING)
        );
        session.run(&sql).await.context("statement", "staging")?;
    }
    Ok(())
}

/// Publishes and tidies up. Safe to call again: the marker tells how far an earlier call came.
pub(crate) async fn commit(
    session: &mut Session,
    config: &WriterConfig,
    plan: &WritePlan,
    state: &State,
    receipts: &[Receipt],
) -> Result<Committed> {
    let rows: u64 = receipts.iter().map(|r| r.rows).sum();
    let mut done = Committed { description: format!("{rows} rows in {} splits", receipts.len()), ..Default::default() };
    let Some(marker) = &state.marker else { return Ok(done) };
    if !exists(session, marker).await? {
        done.description = "committed before".into();
        return Ok(done);
    }
    if let Some(staging) = &state.staging {
        let published: Option<u8> = session.row(&format!("SELECT published FROM {}", marker.quoted(QUOTING))).await?;
        if published.is_none() {
            (done.description, done.warnings) =
                publish(session, config, plan, state, marker, staging, receipts).await?;
        }
    }
    for sql in with_table(config.post_sql.as_slice(), &state.table, QUOTING) {
        if let Err(error) = session.run(&sql).await {
            if error.kind() == ErrorKind::Cancelled {
                return Err(error);
            }
            done.failures.push(format!("postSql failed: {}", error.full()));
            break;
        }
    }
    drop_own(session, state).await?;
    Ok(done)
}

async fn publish(
    session: &mut Session,
    config: &WriterConfig,
    plan: &WritePlan,
    state: &State,
    marker: &TableName,
    staging: &TableName,
    receipts: &[Receipt],
) -> Result<(String, Vec<String>)> {
    let mut warnings = Vec::new();
    let (target, source) = (state.table.quoted(QUOTING), staging.quoted(QUOTING));
    let rows: u64 = receipts.iter().map(|r| r.rows).sum();
    let names: Vec<&str> = plan.columns.iter().map(|c| c.name.as_str()).collect();
    let columns = QUOTING.quote_all(&names);
    let values = names.iter().map(|n| format!("s.{}", QUOTING.quote(n))).collect::<Vec<_>>().join(", ");
    let mut splits: Vec<u32> = receipts.iter().map(|r| r.split).collect();
    splits.sort_unstable();
    let chosen = if splits.is_empty() {
        "1 = 0".into()
    } else {
        format!("s.{SPLIT} IN ({})", splits.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
    };
    let mut description = format!("published {rows} rows in one transaction");
    session.run("START TRANSACTION").await?;
    session.run(&format!("INSERT INTO {} VALUES (1)", marker.quoted(QUOTING))).await?;
    match plan.mode {
        WriteMode::Overwrite => {
            let mut replace = true;
            if rows == 0 {
                match config.on_empty {
                    OnEmpty::Overwrite => {
                        warnings.push(format!("the source is empty, and so is {} now", plan.table));
                        description = "the source is empty: the target was emptied".into();
                    }
                    OnEmpty::Keep => {
                        warnings.push(format!("the source is empty: {} is kept as it was", plan.table));
                        description = "the source is empty: the target stays as it was".into();
                        replace = false;
                    }
                    OnEmpty::Error => {
                        session.run("ROLLBACK").await?;
                        return Err(Error::new(
                            ErrorKind::Conflict,
                            "the source is empty, and `onEmpty` is `error`: nothing was changed",
                        ));
                    }
                }
            }
            if replace {
                session.run(&format!("DELETE FROM {target}")).await?;
                session
                    .run(&format!("INSERT INTO {target} ({columns}) SELECT {values} FROM {source} s WHERE {chosen}"))
                    .await?;
            }
        }
        _ => {
            let mut sets: Vec<String> = names
                .iter()
                .filter(|n| !plan.keys.iter().any(|k| k == *n))
                .map(|n| format!("{0} = s.{0}", QUOTING.quote(n)))
                .collect();
            if sets.is_empty() {
                let key = QUOTING.quote(&state.same);
                sets.push(format!("{key} = {target}.{key}"));
            }
            session
                .run(&format!(
                    "INSERT INTO {target} ({columns}) SELECT {values} FROM {source} s WHERE {chosen} \
                     ORDER BY s.{SPLIT}, s.{ROW} ON DUPLICATE KEY UPDATE {}",
                    sets.join(", ")
                ))
                .await?;
        }
    }
    session.run("COMMIT").await?;
    Ok((description, warnings))
}

/// Takes back what is not published.
pub(crate) async fn abort(session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
    drop_own(session, state).await?;
    if plan.creates && exists(session, &state.table).await? {
        let row: Option<u8> = session.row(&format!("SELECT 1 FROM {} LIMIT 1", state.table.quoted(QUOTING))).await?;
        if row.is_none() {
            session.run(&format!("DROP TABLE {}", state.table.quoted(QUOTING))).await?;
        }
    }
    Ok(())
}

/// The marker goes last: while it is there, a second call knows that it has to tidy up.
async fn drop_own(session: &mut Session, state: &State) -> Result<()> {
    for own in state.staging.iter().chain(&state.marker) {
        session.run(&format!("DROP TABLE IF EXISTS {}", own.quoted(QUOTING))).await?;
    }
    Ok(())
}

async fn exists(session: &mut Session, table: &TableName) -> Result<bool> {
    let found: Option<u8> = session
        .row(&format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            escape(table.schema.as_deref().unwrap_or_default()),
            escape(&table.name)
        ))
        .await?;
    Ok(found.is_some())
}
