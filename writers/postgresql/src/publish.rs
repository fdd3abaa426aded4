//! From staging into the target, in one transaction that also drops the staging table and says that the run is published.
//!
//! The record comes first: whoever publishes a second time waits at it until the first has ended, and then finds it.

use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt, WriteMode, WritePlan};
use weir_postgresql::Session;
use weir_postgresql::catalog::{Table, find_table, is_referenced, nulls_are_equal};
use weir_sql::TableName;
use weir_sql::commits::PUBLISHED;
use weir_sql::config::DuplicateKeys;

use crate::doubled::{all_there, refuse_doubled};
use crate::plan::{Q, State};
use crate::record::{self, PUBLISHER, exists};
use crate::stage::{ROW, SPLIT};
use crate::task::overriding;

/// Publishes the splits that have a receipt, if that has not happened yet.
pub async fn publish(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    receipts: &[Receipt],
) -> Result<Committed> {
    match &state.records {
        Some(commits) => {
            let done = record::begin(session, commits, &plan.table, PUBLISHER, PUBLISHED, "").await?;
            if done || !record::write(session, commits, PUBLISHED, &plan.table, None, ("", false)).await? {
                session.execute("ROLLBACK").await?;
                return Ok(already());
            }
        }
        None => session.execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map(drop)?,
    }
    let Some((committed, drop_stage)) = in_transaction(session, plan, state, receipts).await? else {
        session.execute("ROLLBACK").await?;
        return Ok(already());
    };
    session.execute(&format!("{drop_stage}COMMIT")).await.context("table", &plan.table)?;
    Ok(committed)
}

/// Publishes several tables in one transaction, each if that has not happened yet.
pub async fn publish_together(
    session: &mut Session,
    tables: &[(&WritePlan, State, &[Receipt])],
) -> Result<Vec<Committed>> {
    session.execute(record::BEGIN).await?;
    let (mut all, mut drop_stages) = (Vec::with_capacity(tables.len()), String::new());
    for (plan, state, receipts) in tables {
        let one = join(session, plan, state, receipts).await.context("target", &plan.table)?;
        all.push(one.map_or_else(already, |(committed, drop_stage)| {
            drop_stages.push_str(&drop_stage);
            committed
        }));
    }
    session.execute(&format!("{drop_stages}COMMIT")).await?;
    Ok(all)
}

/// Adds a table to a transaction that has begun; `None` for one that is published.
async fn join(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    receipts: &[Receipt],
) -> Result<Option<(Committed, String)>> {
    if let Some(commits) = &state.records {
        if record::join(session, commits, &plan.table, PUBLISHER, PUBLISHED).await? {
            return Ok(None);
        }
        if !record::write(session, commits, PUBLISHED, &plan.table, None, ("", false)).await? {
            let message = "another process published the table just now";
            return Err(Error::new(ErrorKind::Conflict, message).retryable(true));
        }
    }
    in_transaction(session, plan, state, receipts).await
}

fn already() -> Committed {
    Committed { description: "published already".into(), ..Committed::default() }
}

/// Brings the staged rows into the target, and gives the statement that drops the staging table; `None` for a table that is
/// published. An error leaves the transaction to the end of the session.
async fn in_transaction(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    receipts: &[Receipt],
) -> Result<Option<(Committed, String)>> {
    let Some(stage) = &state.stage else {
        let description = "each split committed by itself".into();
        return Ok(Some((Committed { description, ..Committed::default() }, String::new())));
    };
    if !exists(session, stage).await? {
        // Without records the missing staging table is the only sign.
        if state.records.is_none() {
            return Ok(None);
        }
        let message = "the staging table is gone, and nothing was published: somebody dropped it; start a fresh run";
        return Err(Error::new(ErrorKind::Conflict, message).with("table", stage));
    }
    let committed = from_stage(session, plan, state, stage, receipts).await.context("table", &plan.table)?;
    Ok(Some((committed, format!("DROP TABLE {}; ", stage.quoted(Q)))))
}

async fn from_stage(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<Committed> {
    let staged: u64 = receipts.iter().map(|r| r.rows).sum();
    let mut warnings = Vec::new();
    if plan.mode == WriteMode::Overwrite && staged == 0 {
        match state.on_empty {
            OnEmpty::Overwrite => warnings.push(format!("the source is empty, and so is {} now", plan.table)),
            OnEmpty::Keep => {
                return Ok(Committed {
                    description: "the source is empty: the target was kept".into(),
                    rows: None,
                    warnings: vec![format!("the source is empty: {} is kept as it was", plan.table)],
                    failures: Vec::new(),
                });
            }
            OnEmpty::Error => {
                return Err(Error::new(
                    ErrorKind::Data,
                    "the source is empty, and `onEmpty` is error: nothing was overwritten; allow it with onEmpty overwrite or keep",
                ));
            }
        }
    }
    if state.create.is_some() && plan.mode == WriteMode::Overwrite {
        // Made by this run: its key is known, and no other table refers to it, or has rows to refer to.
        let rows = replace(session, plan, state, stage, receipts).await?;
        let description = format!("published {rows} rows in one transaction");
        return Ok(Committed { rows: Some(rows), description, warnings, failures: Vec::new() });
    }
    let found = find_table(session, &state.table).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the target table is gone: somebody dropped it during the run")
    })?;
    let rows = match plan.mode {
        WriteMode::Overwrite => overwrite(session, plan, state, &found, stage, receipts).await?,
        _ => upsert(session, plan, state, &found, stage, receipts).await?,
    };
    let description = format!("published {rows} rows in one transaction");
    Ok(Committed { rows: Some(rows), description, warnings, failures: Vec::new() })
}

fn of_receipts(receipts: &[Receipt]) -> String {
    let splits: Vec<_> = receipts.iter().map(|r| r.split.to_string()).collect();
    format!("{SPLIT} = ANY (ARRAY[{}]::int4[])", splits.join(","))
}

async fn overwrite(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    found: &Table,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<u64> {
    let (table, from) = (state.table.quoted(Q), stage.quoted(Q));
    let names: Vec<String> = plan.columns.iter().map(|c| Q.quote(&c.name)).collect();
    let list = names.join(", ");
    let rows = of_receipts(receipts);
    let key: Vec<String> = found.key().iter().map(|c| c.name.clone()).collect();
    let written = |name: &String| plan.columns.iter().any(|c| c.name == *name);
    if !plan.keys.is_empty() {
        refuse_doubled(session, &plan.keys, &from, &all_there(&plan.keys, &rows)).await?;
    }
    let by_key = !key.is_empty() && key.iter().all(written) && is_referenced(session, found).await?;
    if !by_key {
        return replace(session, plan, state, stage, receipts).await;
    }
    session.execute(&lock(&table)).await?;
    let insert = format!("INSERT INTO {table} ({list}){} SELECT {list} FROM {from} s", overriding(state));
    // Rows that others refer to must not vanish for a moment: keys that stay are updated in place.
    session.execute(&format!("ANALYZE {from}")).await?;
    let same: Vec<_> = key.iter().map(|k| format!("t.{0} = s.{0}", Q.quote(k))).collect();
    let same = same.join(" AND ");
    session
        .execute(&format!("DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM {from} s WHERE s.{rows} AND {same})"))
        .await?;
    update_matched(session, plan, found, &key, (&table, &from), &format!("s.{rows} AND {same}")).await?;
    session.execute(&format!("{insert} WHERE s.{rows} AND NOT EXISTS (SELECT FROM {table} t WHERE {same})")).await?;
    Ok(receipts.iter().map(|r| r.rows).sum())
}

/// Writers wait, readers see the old rows until the commit.
fn lock(table: &str) -> String {
    format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
}

/// Deletes all rows and inserts the staged ones.
async fn replace(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<u64> {
    let (table, from) = (state.table.quoted(Q), stage.quoted(Q));
    let list = Q.quote_all(plan.columns.iter().map(|c| &c.name));
    let sql = format!(
        "{}; DELETE FROM {table}; INSERT INTO {table} ({list}){} SELECT {list} FROM {from} s WHERE s.{} ORDER BY {SPLIT}, {ROW}",
        lock(&table),
        overriding(state),
        of_receipts(receipts)
    );
    session.execute(&sql).await?;
    Ok(receipts.iter().map(|r| r.rows).sum())
}

/// Brings the rows whose key stays to what deleting and inserting them would have left.
async fn update_matched(
    session: &mut Session,
    plan: &WritePlan,
    found: &Table,
    key: &[String],
    (table, from): (&str, &str),
    matched: &str,
) -> Result<()> {
    let written = |name: &String| plan.columns.iter().any(|c| c.name == *name);
    let mut set = Vec::new();
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for column in found.columns.iter().filter(|c| !c.generated && !key.contains(&c.name)) {
        let name = Q.quote(&column.name);
        if !written(&column.name) {
            set.push(format!("{name} = DEFAULT"));
            continue;
        }
        mine.push(format!("t.{name}"));
        theirs.push(format!("s.{name}"));
        if column.identity_always {
            // No UPDATE can write it.
            let sql =
                format!("SELECT EXISTS (SELECT FROM {table} t, {from} s WHERE {matched} AND t.{name} <> s.{name})");
            if session.value(&sql).await? {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "rows that other tables refer to would change an identity that is generated always: leave the column \
                     out, or ALTER it to GENERATED BY DEFAULT",
                )
                .with("column", &column.name));
            }
        } else {
            set.push(format!("{name} = s.{name}"));
        }
    }
    if set.is_empty() {
        return Ok(());
    }
    // Whether an unlisted column differs from its default cannot be asked: then every row is written. The comparison is
    // one of texts, for some types (json, point) have no equality.
    let changed = if found.columns.iter().any(|c| !c.generated && !written(&c.name)) {
        String::new()
    } else {
        format!(" AND ROW({})::text IS DISTINCT FROM ROW({})::text", mine.join(", "), theirs.join(", "))
    };
    session.execute(&format!("UPDATE {table} t SET {} FROM {from} s WHERE {matched}{changed}", set.join(", "))).await?;
    Ok(())
}

async fn upsert(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    found: &Table,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<u64> {
    let (table, from) = (state.table.quoted(Q), stage.quoted(Q));
    let list = Q.quote_all(plan.columns.iter().map(|c| &c.name));
    let keys = Q.quote_all(&plan.keys);
    let set: Vec<_> = plan
        .columns
        .iter()
        .filter(|c| !plan.keys.contains(&c.name) && !state.identities.contains(&c.name))
        .map(|c| format!("{0} = EXCLUDED.{0}", Q.quote(&c.name)))
        .collect();
    let action = if set.is_empty() { "DO NOTHING".to_owned() } else { format!("DO UPDATE SET {}", set.join(", ")) };
    // Of rows with equal keys the last one counts; rows with a NULL in the key are equal to none.
    let mut distinct = keys.clone();
    let mut null = Vec::new();
    if !state.nullable_keys.is_empty() && !nulls_are_equal(session, found, &plan.keys).await? {
        null.extend(state.nullable_keys.iter().map(|k| format!("{} IS NULL", Q.quote(k))));
    }
    let null = null.join(" OR ");
    if !null.is_empty() {
        distinct.push_str(&format!(", CASE WHEN {null} THEN {SPLIT} END, CASE WHEN {null} THEN {ROW} END"));
    }
    let rows = of_receipts(receipts);
    if state.duplicate_keys == DuplicateKeys::Error {
        let among = if null.is_empty() { rows.clone() } else { format!("{rows} AND NOT ({null})") };
        refuse_doubled(session, &plan.keys, &from, &among).await?;
    }
    session
        .execute(&format!(
            "INSERT INTO {table} ({list}){} SELECT DISTINCT ON ({distinct}) {list} FROM {from} WHERE {rows} \
             ORDER BY {distinct}, {SPLIT} DESC, {ROW} DESC ON CONFLICT ({keys}) {action}",
            overriding(state)
        ))
        .await
}
