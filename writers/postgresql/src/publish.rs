//! From staging into the target, in one transaction that also drops the staging table: where it is gone, the rows were
//! published.

use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt, WriteMode, WritePlan};
use weir_postgresql::Session;
use weir_postgresql::catalog::{find_table, is_referenced};
use weir_sql::TableName;

use crate::plan::{Q, State};
use crate::stage::{ROW, SPLIT, exists};
use crate::task::overriding;

/// Publishes the splits that have a receipt.
pub async fn publish(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<Committed> {
    let staged: u64 = receipts.iter().map(|r| r.rows).sum();
    if !exists(session, stage).await? {
        return Ok(Committed { description: "published already".into(), ..Committed::default() });
    }
    let mut warnings = Vec::new();
    if plan.mode == WriteMode::Overwrite && staged == 0 {
        match state.on_empty {
            OnEmpty::Overwrite => warnings.push(format!("the source is empty, and so is {} now", plan.table)),
            OnEmpty::Keep => {
                warnings.push(format!("the source is empty: {} is kept as it was", plan.table));
                session.execute(&format!("DROP TABLE {}", stage.quoted(Q))).await?;
                return Ok(Committed {
                    description: "the source is empty: the target was kept".into(),
                    rows: None,
                    warnings,
                    failures: Vec::new(),
                });
            }
            OnEmpty::Error => {
                return Err(Error::new(
                    ErrorKind::Data,
                    "the source is empty, and `onEmpty` is error: nothing was overwritten; allow it with onEmpty overwrite or keep",
                )
                .with("table", &plan.table));
            }
        }
    }
    let rows = match plan.mode {
        WriteMode::Overwrite => overwrite(session, plan, state, stage, receipts).await,
        _ => upsert(session, plan, state, stage, receipts).await,
    };
    let rows = rows.context("table", &plan.table)?;
    warnings.retain(|w: &String| !w.is_empty());
    Ok(Committed {
        rows: Some(rows),
        description: format!("published {rows} rows in one transaction"),
        warnings,
        failures: Vec::new(),
    })
}

fn of_receipts(receipts: &[Receipt]) -> String {
    let splits: Vec<_> = receipts.iter().map(|r| r.split.to_string()).collect();
    format!("{SPLIT} = ANY (ARRAY[{}]::int4[])", splits.join(","))
}

async fn overwrite(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<u64> {
    let (table, from) = (state.table.quoted(Q), stage.quoted(Q));
    let names: Vec<String> = plan.columns.iter().map(|c| Q.quote(&c.name)).collect();
    let list = names.join(", ");
    let rows = of_receipts(receipts);
    let found = find_table(session, &state.table)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "the target table is gone").with("table", &state.table))?;
    let key: Vec<String> = found.key().iter().map(|c| c.name.clone()).collect();
    let written = |name: &String| plan.columns.iter().any(|c| c.name == *name);
    let by_key = !key.is_empty() && key.iter().all(written) && is_referenced(session, &found).await?;
    session.execute("BEGIN").await?;
    // Writers wait, readers see the old rows until the commit.
    session.execute(&format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")).await?;
    let insert = format!("INSERT INTO {table} ({list}){} SELECT {list} FROM {from} s", overriding(state));
    if by_key {
        // Rows that others refer to must not vanish for a moment: keys that stay are updated in place.
        session.execute(&format!("ANALYZE {from}")).await?;
        let same: Vec<_> = key.iter().map(|k| format!("t.{0} = s.{0}", Q.quote(k))).collect();
        let same = same.join(" AND ");
        session
            .execute(&format!(
                "DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM {from} s WHERE s.{rows} AND {same})"
            ))
            .await?;
        let others: Vec<_> =
            plan.columns.iter().filter(|c| !key.contains(&c.name) && !state.identities.contains(&c.name)).collect();
        if !others.is_empty() {
            let quoted: Vec<_> = others.iter().map(|c| Q.quote(&c.name)).collect();
            let set: Vec<_> = quoted.iter().map(|c| format!("{c} = s.{c}")).collect();
            let (mine, theirs): (Vec<_>, Vec<_>) = quoted.iter().map(|c| (format!("t.{c}"), format!("s.{c}"))).unzip();
            // As text, for some types (json, point) have no equality.
            session
                .execute(&format!(
                    "UPDATE {table} t SET {} FROM {from} s WHERE s.{rows} AND {same} \
                     AND ROW({})::text IS DISTINCT FROM ROW({})::text",
                    set.join(", "),
                    mine.join(", "),
                    theirs.join(", ")
                ))
                .await?;
        }
        session
            .execute(&format!("{insert} WHERE s.{rows} AND NOT EXISTS (SELECT FROM {table} t WHERE {same})"))
            .await?;
    } else {
        session.execute(&format!("DELETE FROM {table}")).await?;
        session.execute(&format!("{insert} WHERE s.{rows} ORDER BY {SPLIT}, {ROW}")).await?;
    }
    session.execute(&format!("DROP TABLE {from}")).await?;
    session.execute("COMMIT").await?;
    Ok(receipts.iter().map(|r| r.rows).sum())
}

async fn upsert(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
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
    if !state.nullable_keys.is_empty() {
        let null: Vec<_> = state.nullable_keys.iter().map(|k| format!("{} IS NULL", Q.quote(k))).collect();
        let null = null.join(" OR ");
        distinct.push_str(&format!(", CASE WHEN {null} THEN {SPLIT} END, CASE WHEN {null} THEN {ROW} END"));
    }
    session.execute("BEGIN").await?;
    let rows = session
        .execute(&format!(
            "INSERT INTO {table} ({list}){} SELECT DISTINCT ON ({distinct}) {list} FROM {from} WHERE {} \
             ORDER BY {distinct}, {SPLIT} DESC, {ROW} DESC ON CONFLICT ({keys}) {action}",
            overriding(state),
            of_receipts(receipts)
        ))
        .await?;
    session.execute(&format!("DROP TABLE {from}")).await?;
    session.execute("COMMIT").await?;
    Ok(rows)
}
