//! Tables that the source has more, or has no more, than in the last run.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use weir_core::{ErrorKind, Result};

use super::super::config::{TableAdded, TableDeleted};
use super::super::expand::Expansion;
use super::super::references::forget;
use super::super::table::FailedTable;
use super::{ChangeKind, ChangeOutcome, Journal, TableChangeRecord};
use crate::database::config::RulesConfig;
use crate::ledger::KnownRow;

/// A change of a job's set of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedTable {
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// What it is, and what is done about it.
    #[serde(flatten)]
    pub change: TableChangeRecord,
}

/// What the rules for whole tables make of a job's selection.
#[derive(Debug, Default)]
pub struct Settled {
    /// New tables that are moved: the run that makes one at the target writes that down.
    pub added: Vec<ChangedTable>,
    /// What is left out, kept or refused, and is to be written down.
    pub others: Vec<ChangedTable>,
    /// Tables that are met for the first time or in another way, as (target, source, left out by rule).
    met: Vec<(String, String, bool)>,
    /// Targets that are the job's no more.
    gone: Vec<String>,
}

/// Applies the rules for whole tables to what a job has selected, and remembers what it has met. `all` says whether the run is
/// one of all tables of the job.
///
/// # Errors
/// The ledger's.
pub async fn settle(journal: Journal<'_>, rules: &RulesConfig, expansion: &mut Expansion, all: bool) -> Result<()> {
    let known = journal.ledger.known_tables(journal.job).await?;
    let settled = selection(&known, rules, expansion, all);
    let records: Vec<_> =
        settled.others.iter().map(|table| journal.record(&table.source, &table.target, &table.change)).collect();
    journal.ledger.meet_tables(journal.job, &settled.met, &settled.gone, &records).await
}

/// Applies the rules: takes tables out of the selection, or to those that fail, and says what has changed against what the
/// job knew.
///
/// Tables that the first run meets are not new: it initialises everything that it selects.
pub fn selection(known: &[KnownRow], rules: &RulesConfig, expansion: &mut Expansion, all: bool) -> Settled {
    let mut settled = Settled::default();
    let before: HashMap<&str, &KnownRow> = known.iter().map(|row| (row.target.as_str(), row)).collect();
    let mut here: HashSet<String> = HashSet::new();
    let mut left_out = HashSet::new();
    expansion.tables.retain(|table| {
        let (source, target) = (table.source(), table.target.to_string());
        let before = before.get(target.as_str());
        let is_new = !known.is_empty() && before.is_none_or(|row| row.ignored);
        let ignored = is_new && rules.table_added == TableAdded::Ignore;
        let of = |outcome, detail: &str| ChangedTable {
            source: source.clone(),
            target: target.clone(),
            change: TableChangeRecord::of_table(ChangeKind::TableAdded, outcome, detail),
        };
        if ignored && before.is_none() {
            // Said once, and not with every run.
            settled.others.push(of(ChangeOutcome::Ignored, "rules.tableAdded is ignore"));
        } else if is_new && !ignored {
            settled.added.push(of(ChangeOutcome::Done, "no earlier run had it"));
        }
        if before.is_none_or(|row| row.ignored != ignored) {
            settled.met.push((target.clone(), source, ignored));
        }
        here.insert(target);
        if ignored {
            left_out.insert(table.target.clone());
        }
        !ignored
    });
    forget(&mut expansion.tables, &left_out);
    here.extend(expansion.failed.iter().map(|table| table.target.clone()));
    for row in known.iter().filter(|row| all && !here.contains(&row.target)) {
        if expansion.present.contains(&row.source) || row.ignored {
            // The job selects it no more.
            settled.gone.push(row.target.clone());
            continue;
        }
        let detail = "the source has the table no more";
        let (outcome, detail) = match rules.table_deleted {
            TableDeleted::Ignore => {
                settled.gone.push(row.target.clone());
                (ChangeOutcome::Ignored, format!("{detail}; the target keeps its own as it is"))
            }
            TableDeleted::Error => {
                let reason = format!("{detail}, and rules.tableDeleted is error");
                if !expansion.failed.iter().any(|table| table.source == row.source) {
                    expansion.failed.push(FailedTable {
                        source: row.source.clone(),
                        target: row.target.clone(),
                        kind: ErrorKind::NotFound,
                        reason: reason.clone(),
                        sources: Vec::new(),
                    });
                }
                (ChangeOutcome::Refused, reason)
            }
        };
        settled.others.push(ChangedTable {
            source: row.source.clone(),
            target: row.target.clone(),
            change: TableChangeRecord::of_table(ChangeKind::TableDeleted, outcome, detail),
        });
    }
    settled
}
