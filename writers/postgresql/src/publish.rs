//! From staging into the target: the statements of the publishing transaction.

use sqlx::Row;
use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt, WriteMode, WritePlan};
use weir_postgresql::catalog::Table;
use weir_postgresql::error::map;
use weir_postgresql::find::{Wanted, find_table};
use weir_postgresql::keys::nulls_are_equal;
use weir_postgresql::{Session, literal};
use weir_sql::TableName;
use weir_sql::config::DuplicateKeys;
use weir_sql::order::Steps;

use crate::doubled::{all_there, refuse_doubled};
use crate::plan::{Q, State};
use crate::stage::{Layout, ROW, SPLIT};
use crate::task::overriding;
use crate::transaction::Staged;

/// What publishing a table takes.
#[derive(Default)]
pub(crate) struct Work {
    /// In the transaction.
    pub(crate) steps: Steps,
    /// At its end: looks whether the table is what the staging table was made like, and drops that.
    pub(crate) ending: String,
    /// What it comes to; `None` where the rows that change have to be counted.
    pub(crate) committed: Option<Committed>,
    /// The staged rows, where those that do not come in are skipped and counted.
    pub(crate) skips_of: Option<u64>,
}

/// What a table came to.
pub(crate) fn published(rows: u64) -> Committed {
    let description = format!("published {rows} rows in one transaction");
    Committed { description, rows: Some(rows), ..Committed::default() }
}

impl Staged<'_> {
    /// Prepares publishing the table in a transaction that has begun; `None` when it is published. A table that others refer
    /// to is locked then.
    pub(crate) async fn work(&self, session: &mut Session) -> Result<Option<Work>> {
        let Some(stage) = &self.state.stage else {
            let description = "each split committed by itself".into();
            let committed = Some(Committed { description, ..Committed::default() });
            return Ok(Some(Work { committed, ..Work::default() }));
        };
        let now = Now::ask(session, &self.state.table, stage).await?;
        if !now.staged {
            // Without records the missing staging table is the only sign.
            if self.state.records.is_none() {
                return Ok(None);
            }
            let message =
                "the staging table is gone, and nothing was published: somebody dropped it; start a fresh run";
            return Err(Error::new(ErrorKind::Conflict, message).with("table", stage));
        }
        let (steps, committed) = self.steps(session, stage, &now).await.context("table", &self.plan.table)?;
        let skips_of = (self.plan.mode == WriteMode::Ignore).then(|| self.receipts.iter().map(|r| r.rows).sum());
        let mut ending = String::new();
        if !steps.fill.is_empty() {
            // Whatever the steps have written keeps the table from being altered since.
            ending = format!("{}; ", Layout::as_staged(stage, self.plan, &self.state));
        }
        ending.push_str(&format!("DROP TABLE {}; ", stage.quoted(Q)));
        Ok(Some(Work { steps, ending, committed, skips_of }))
    }

    async fn steps(&self, session: &mut Session, stage: &TableName, now: &Now) -> Result<(Steps, Option<Committed>)> {
        let Self { plan, state, receipts } = self;
        let mut done = published(receipts.iter().map(|r| r.rows).sum());
        if plan.mode == WriteMode::Overwrite && done.rows == Some(0) {
            match state.on_empty {
                OnEmpty::Overwrite => done.warnings.push(format!("the source is empty, and so is {} now", plan.table)),
                OnEmpty::Keep => {
                    let committed = Committed {
                        description: "the source is empty: the target was kept".into(),
                        warnings: vec![format!("the source is empty: {} is kept as it was", plan.table)],
                        ..Committed::default()
                    };
                    return Ok((Steps::default(), Some(committed)));
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
            return Ok((replace(plan, state, stage, (receipts, now)), Some(done)));
        }
        if !now.there {
            return Err(target_is_gone());
        }
        if matches!(plan.mode, WriteMode::Append | WriteMode::Ignore) {
            let skip = if plan.mode == WriteMode::Ignore { " ON CONFLICT DO NOTHING" } else { "" };
            let fill = vec![insert(plan, state, stage, receipts) + skip];
            return Ok((Steps { fill, ..Steps::default() }, (plan.mode == WriteMode::Append).then_some(done)));
        }
        if plan.mode != WriteMode::Overwrite {
            let fill = vec![upsert(session, plan, state, stage, receipts).await?];
            return Ok((Steps { fill, ..Steps::default() }, None));
        }
        let steps = overwrite(session, plan, state, stage, (receipts, now)).await?;
        Ok((steps, Some(done)))
    }
}

fn target_is_gone() -> Error {
    Error::new(ErrorKind::NotFound, "the target table is gone: somebody dropped it during the run")
}

/// What must be known of this moment, whatever the plan says: in one question, within the publishing transaction.
struct Now {
    /// Whether the staging table is there.
    staged: bool,
    /// Whether the target is there.
    there: bool,
    /// Whether it is a table that has its rows itself: the rows of tables that inherit from it are not its own.
    ordinary: bool,
    /// Whether tables have foreign keys to it, whose rows would go with its own or keep them.
    referenced: bool,
}

impl Now {
    async fn ask(session: &mut Session, table: &TableName, stage: &TableName) -> Result<Self> {
        let rows = session
            .answers(&format!(
                "SELECT s.oid IS NOT NULL AS staged, t.oid IS NOT NULL, \
                 EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = t.oid AND relkind = 'r'), \
                 EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = t.oid) \
                 FROM (SELECT to_regclass({})::oid AS oid) s, (SELECT to_regclass({})::oid AS oid) t",
                literal(&stage.quoted(Q)),
                literal(&table.quoted(Q))
            ))
            .await?;
        let row = rows.first().ok_or_else(|| Error::internal("a catalogue query gave no row"))?;
        Ok(Self {
            staged: row.try_get(0).map_err(map)?,
            there: row.try_get(1).map_err(map)?,
            ordinary: row.try_get(2).map_err(map)?,
            referenced: row.try_get(3).map_err(map)?,
        })
    }

    /// The table, without those that inherit from it.
    fn own(&self, table: &str) -> String {
        if self.ordinary { format!("ONLY {table}") } else { table.to_owned() }
    }
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
    (receipts, now): (&[Receipt], &Now),
) -> Result<Steps> {
    let (table, from) = (state.table.quoted(Q), stage.quoted(Q));
    let names: Vec<String> = plan.columns.iter().map(|c| Q.quote(&c.name)).collect();
    let list = names.join(", ");
    let rows = of_receipts(receipts);
    let written = |name: &String| plan.columns.iter().any(|c| c.name == *name);
    if !plan.keys.is_empty() {
        refuse_doubled(session, &plan.keys, &from, &all_there(&plan.keys, &rows)).await?;
    }
    if !now.referenced {
        return Ok(replace(plan, state, stage, (receipts, now)));
    }
    let found = &find_table(session, &Wanted::exactly(&state.table)).await?.ok_or_else(target_is_gone)?;
    let key: Vec<String> = found.key().iter().map(|c| c.name.clone()).collect();
    if key.is_empty() || !key.iter().all(written) {
        return Ok(replace(plan, state, stage, (receipts, now)));
    }
    let own = now.own(&table);
    session.execute(&lock(&own)).await?;
    let insert = format!("INSERT INTO {table} ({list}){} SELECT {list} FROM {from} s", overriding(state));
    // Rows that others refer to must not vanish for a moment: keys that stay are updated in place.
    session.execute(&format!("ANALYZE {from}")).await?;
    let same: Vec<_> = key.iter().map(|k| format!("t.{0} = s.{0}", Q.quote(k))).collect();
    let same = same.join(" AND ");
    let clear = format!("DELETE FROM {own} t WHERE NOT EXISTS (SELECT FROM {from} s WHERE s.{rows} AND {same})");
    let matched = format!("s.{rows} AND {same}");
    let update = update_matched(session, plan, found, &key, (&own, &from), &matched).await?;
    let insert = format!("{insert} WHERE s.{rows} AND NOT EXISTS (SELECT FROM {own} t WHERE {same})");
    let fill = update.into_iter().chain([insert]).collect();
    Ok(Steps { clear: Some(clear), by_key: true, fill, ..Steps::default() })
}

/// Writers wait, readers see the old rows until the commit.
fn lock(table: &str) -> String {
    format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
}

/// Deletes all rows and inserts the staged ones.
fn replace(plan: &WritePlan, state: &State, stage: &TableName, (receipts, now): (&[Receipt], &Now)) -> Steps {
    let own = now.own(&state.table.quoted(Q));
    let clear = format!("{}; DELETE FROM {own}", lock(&own));
    let fill = vec![insert(plan, state, stage, receipts)];
    Steps { clear: Some(clear), fill, ..Steps::default() }
}

/// Inserts the staged rows, in the order in which they came.
fn insert(plan: &WritePlan, state: &State, stage: &TableName, receipts: &[Receipt]) -> String {
    let (table, from) = (state.table.quoted(Q), stage.quoted(Q));
    let list = Q.quote_all(plan.columns.iter().map(|c| &c.name));
    format!(
        "INSERT INTO {table} ({list}){} SELECT {list} FROM {from} s WHERE s.{} ORDER BY {SPLIT}, {ROW}",
        overriding(state),
        of_receipts(receipts)
    )
}

/// Brings the rows whose key stays to what deleting and inserting them would have left.
async fn update_matched(
    session: &mut Session,
    plan: &WritePlan,
    found: &Table,
    key: &[String],
    (table, from): (&str, &str),
    matched: &str,
) -> Result<Option<String>> {
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
        return Ok(None);
    }
    // Whether an unlisted column differs from its default cannot be asked: then every row is written. The comparison is
    // one of texts, for some types (json, point) have no equality.
    let changed = if found.columns.iter().any(|c| !c.generated && !written(&c.name)) {
        String::new()
    } else {
        format!(" AND ROW({})::text IS DISTINCT FROM ROW({})::text", mine.join(", "), theirs.join(", "))
    };
    Ok(Some(format!("UPDATE {table} t SET {} FROM {from} s WHERE {matched}{changed}", set.join(", "))))
}

async fn upsert(
    session: &mut Session,
    plan: &WritePlan,
    state: &State,
    stage: &TableName,
    receipts: &[Receipt],
) -> Result<String> {
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
    let equal = match state.nullable_keys.is_empty() {
        true => true,
        false => {
            let found = find_table(session, &Wanted::exactly(&state.table)).await?.ok_or_else(target_is_gone)?;
            nulls_are_equal(session, &found, &plan.keys).await?
        }
    };
    if !equal {
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
    Ok(format!(
        "INSERT INTO {table} ({list}){} SELECT DISTINCT ON ({distinct}) {list} FROM {from} WHERE {rows} \
         ORDER BY {distinct}, {SPLIT} DESC, {ROW} DESC ON CONFLICT ({keys}) {action}",
        overriding(state)
    ))
}
