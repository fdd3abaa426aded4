//! The evolution of tables between the runs of a whole-database job.
//!
//! ```text
//!   what the last run knew ─┐
//!   the source now ─────────┼─▶ decide ─▶ changes to the target, columns left out, columns of NULLs, or a refusal
//!   the live target ────────┘      └────▶ records: ledger, report, `weir changes`
//! ```
//!
//! It is decided while an entry is planned, after both ends were looked at and before columns are mapped; that changes
//! nothing, and `weir plan` shows it. A run then [`apply`]s it, once it has the lease on the target, and plans the entry
//! again where the target has become another one.

mod by_memory;
mod decide;
mod finish;
mod known;
mod parts;
mod record;
mod tables;

use chrono::{SecondsFormat, Utc};
use serde_json::Value;
use weir_core::{
    Error, ErrorKind, Fit, PresentColumn, Relation, Result, ResultExt, SourceSchema, TableChange, TargetSchema,
    WriteMode, WriteRequest, Writer,
};

pub use finish::{Published, Stage, complete};
pub use known::{KnownColumn, KnownTable};
pub use record::{ChangeKind, ChangeOutcome, TableChangeRecord};
pub use tables::{ChangedTable, selection, settle};

use self::decide::{Decision, Seen, decide};
use super::config::ColumnAdded;
use super::references::present;
use super::table::TableJob;
use crate::job::UNNAMED;
use crate::ledger::{Ledger, MadeKey, RecordedChange};
use crate::mapping::{MappingPair, spelled};

/// How evolution takes part in planning an entry.
#[derive(Clone, Copy, Default)]
pub struct Evolving<'a> {
    /// What the last run that published the table knew.
    pub known: Option<&'a KnownTable>,
    /// Where refusals are written down.
    pub journal: Option<Journal<'a>>,
    /// What was decided and is applied already.
    pub applied: Option<&'a Evolution>,
    /// Where a target is only compared with its source: what the run that wrote it knew. Columns that it left out are to be
    /// told from those that it should have written, which files alone do not tell.
    pub written: Option<&'a KnownTable>,
    /// Keys that runs have made at the target and that the source has no more, where they are there still: a run drops them
    /// before.
    pub gone: &'a [MadeKey],
    /// Whether a run writes one partition of the table and leaves the others as they are.
    pub in_parts: bool,
}

/// Where changes are written down.
#[derive(Clone, Copy)]
pub struct Journal<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The run.
    pub run_id: &'a str,
    /// The job.
    pub job: &'a str,
}

impl<'a> Journal<'a> {
    /// The journal of a run; `None` for a job without a name of its own, which no later run could be told to be one of.
    pub fn of(ledger: &'a Ledger, run_id: &'a str, job: &'a str) -> Option<Self> {
        (job != UNNAMED).then_some(Self { ledger, run_id, job })
    }

    /// Writes changes of a table down; `synced` as in [`Ledger::record_changes`].
    ///
    /// # Errors
    /// The ledger's.
    pub(crate) async fn write(
        &self,
        source: &str,
        target: &str,
        changes: &[TableChangeRecord],
        synced: bool,
    ) -> Result<Vec<i64>> {
        let records: Vec<_> = changes.iter().map(|change| self.record(source, target, change)).collect();
        self.ledger.record_changes(&records, synced).await
    }

    /// A change as the ledger takes it. What is to be done has only begun: it is done once the target has changed, or the
    /// table is published.
    fn record(&self, source: &str, target: &str, change: &TableChangeRecord) -> RecordedChange {
        let mut change = change.clone();
        if change.outcome == ChangeOutcome::Done {
            change.outcome = ChangeOutcome::Begun;
        }
        RecordedChange {
            run_id: self.run_id.to_owned(),
            job: self.job.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            change,
        }
    }
}

/// What becomes of a table's target.
#[derive(Debug, Clone, Default)]
pub struct Evolution {
    /// What was seen and is done about it.
    pub records: Vec<TableChangeRecord>,
    /// What is known of the source now, to be remembered once the table is published.
    pub known: KnownTable,
    /// What the target is to get before the rows.
    pub changes: Vec<TableChange>,
    /// The changes as statements, for a person to read.
    pub statements: Vec<String>,
    /// Columns of the source, by their names at the target, that the rules leave out.
    pub left_out: Vec<String>,
    /// Columns of the target that get NULL in every row.
    pub nulls: Vec<String>,
}

/// Decides how a table's target becomes what its source is now. `request` has all columns of the source as they would be
/// written to a new table. Nothing is changed.
///
/// # Errors
/// What the target does not follow.
pub async fn evolve(
    writer: &dyn Writer,
    request: &WriteRequest,
    target: &TargetSchema,
    table: &TableJob,
    evolving: Evolving<'_>,
) -> Result<Evolution> {
    let place = table.target.to_string();
    let of_target = |names: &[String]| names.iter().map(|name| spelled(name, target)).collect::<Vec<_>>();
    let key = of_target(&table.key);
    let unique = match table.is_merge() {
        true => Vec::new(),
        false => table.described.unique.iter().map(|one| of_target(&one.columns)).collect(),
    };
    let known = KnownTable { unique, ..KnownTable::after(&request.columns, &key, evolving.known) };
    let mut evolution = Evolution { known, ..Evolution::default() };
    let able = writer.evolve();
    let in_files = able.is_none() && target.columns.is_empty();
    // Of a folder of partitions the one to be written is looked at: where that is not there yet, the others are.
    let is_part = evolving.in_parts && in_files && evolving.known.is_some();
    if !target.exists && !is_part {
        let record = TableChangeRecord::of_table(ChangeKind::TableAdded, ChangeOutcome::Done, "made by this run");
        // A table that is made anew has none of the columns that are gone.
        evolution.known.gone.clear();
        evolution.records.push(record);
        return Ok(evolution);
    }
    if let Some(written) = evolving.written.filter(|_| target.columns.is_empty()) {
        let ignored =
            |name: &&String| table.rules.column_added == ColumnAdded::Ignore && written.column(name).is_none();
        evolution.left_out = request.columns.iter().map(|column| &column.name).filter(ignored).cloned().collect();
        return Ok(evolution);
    }
    let fits = match able {
        _ if target.columns.is_empty() => Vec::new(),
        Some(able) => able.compare(request).await.context("table", &place)?,
        None => by_name(request, target),
    };
    let target_unique = match able.filter(|_| evolving.known.is_some_and(|known| !known.unique.is_empty())) {
        Some(able) => able.unique_keys().await.context("table", &place)?,
        None => Vec::new(),
    };
    let keeps = (evolving.in_parts || table.mode == WriteMode::Append) && writer.has_types();
    let seen = Seen {
        unique: &evolution.known.unique,
        target_unique: &target_unique,
        known: evolving.known,
        columns: &request.columns,
        fits: &fits,
        target: &target.columns,
        key: &key,
        rules: &table.rules,
        described: request.described.as_ref(),
        keeps,
    };
    let Decision { changes, left_out, nulls, mut records } = refused(&seen, &table.source(), &place, evolving).await?;
    if target.columns.is_empty() {
        // What was left out is not there to be seen, and what is gone cannot come back but to where files of before stay.
        let known = &mut evolution.known;
        known.columns.retain(|column| !left_out.contains(&column.name));
        known.held = evolving.known.filter(|_| keeps).map(|before| known.held_of(before)).unwrap_or_default();
        (known.gone, known.left_out) = (Vec::new(), left_out.clone());
    }
    if !changes.is_empty() {
        let able = able.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this target's tables cannot be changed: change the table yourself")
                .with("table", &place)
        })?;
        evolution.statements = able.alterations(&changes).await.context("table", &place)?;
    }
    if let Some(able) = able.filter(|_| !evolving.gone.is_empty()) {
        let keys = present(able, evolving.gone).await.context("table", &place)?;
        records.extend(keys.iter().map(TableChangeRecord::of_key));
    }
    Ok(Evolution { records, changes, left_out, nulls, ..evolution })
}

/// Does what was decided about a table, and writes it down; whether the target is another one now.
///
/// # Errors
/// Those of the target; then none of the changes was made, where it can take them together.
pub async fn apply(
    writer: &dyn Writer,
    table: &TableJob,
    evolution: &Evolution,
    journal: Option<Journal<'_>>,
) -> Result<bool> {
    let (place, changes) = (table.target.to_string(), &evolution.changes);
    // Written down before it is done: a crash between the two must not hide a change. Whoever decides the same again after
    // it takes the record up.
    let numbers = match journal {
        Some(journal) => journal.write(&table.source(), &place, &evolution.records, !changes.is_empty()).await?,
        None => Vec::new(),
    };
    let Some(able) = writer.evolve().filter(|_| !changes.is_empty()) else { return Ok(false) };
    let altered = able.alter(changes).await.context("table", &place);
    if let Some(journal) = journal {
        match &altered {
            Ok(_) => {
                let made = evolution.records.iter().zip(&numbers).filter(|(record, _)| record.changes_target());
                journal.ledger.changes_done(&made.map(|(_, number)| *number).collect::<Vec<_>>()).await?;
            }
            // Of one whose answer was lost nobody knows: it has begun.
            Err(error) if error.is_retryable() => {}
            Err(error) => journal.ledger.changes_failed(&numbers, &error.full()).await?,
        }
    }
    let statements = altered?;
    tracing::info!(table = place, ?statements, "altered");
    Ok(true)
}

/// Decides; a refusal is written down and an error.
async fn refused(seen: &Seen<'_>, source: &str, place: &str, evolving: Evolving<'_>) -> Result<Decision> {
    let decision = decide(seen);
    let Some(error) = decision.refusal() else { return Ok(decision) };
    if let Some(journal) = evolving.journal {
        journal.write(source, place, &decision.records, false).await?;
    }
    Err(error.with("table", place))
}

/// For a target that cannot compare types: columns are there or not.
fn by_name(request: &WriteRequest, target: &TargetSchema) -> Vec<Fit> {
    let present = |name: &str| target.columns.iter().find(|column| column.name == name);
    let of = |column: &weir_core::MappedColumn| Fit {
        wanted: column.source_type.clone(),
        present: present(&column.name)
            .map(|found| PresentColumn { native_type: found.native_type.clone(), relation: Relation::Same }),
    };
    request.columns.iter().map(of).collect()
}

/// The pairs of a table's columns after its evolution: those of the job, or all columns under their own names; without what
/// is left out or not there yet and what the target computes itself, and with NULLs for what the source has no more.
pub fn pairs(
    pairs: &[MappingPair],
    source: &SourceSchema,
    target: &TargetSchema,
    evolution: &Evolution,
) -> Vec<MappingPair> {
    let mut all = all_pairs(pairs, source, target);
    let generated = |name: &str| target.columns.iter().any(|column| column.name == name && column.generated);
    let is_new = |change: &TableChange, name: &str| match change {
        TableChange::AddColumn { column, .. } => column.name == name,
        _ => false,
    };
    let missing = |name: &str| evolution.changes.iter().any(|change| is_new(change, name));
    all.retain(|pair| !evolution.left_out.contains(&pair.to) && !missing(&pair.to) && !generated(&pair.to));
    let null = |name: &String| MappingPair { from: None, value: Some(Value::Null), to: name.clone() };
    all.extend(evolution.nulls.iter().map(null));
    all
}

/// The pairs of the job, or all columns under their own names, as the target spells them where it has them.
pub fn all_pairs(pairs: &[MappingPair], source: &SourceSchema, target: &TargetSchema) -> Vec<MappingPair> {
    let of = |column: &weir_core::SourceColumn| MappingPair {
        from: Some(column.name.clone()),
        value: None,
        to: column.name.clone(),
    };
    let mut all = if pairs.is_empty() { source.columns.iter().map(of).collect() } else { pairs.to_vec() };
    for pair in &mut all {
        pair.to = spelled(&pair.to, target);
    }
    all
}
