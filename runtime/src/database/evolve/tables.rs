//! Tables that the source has more, or has no more, than in the last run.

use weir_core::{ErrorKind, Result};

use super::super::config::{TableAdded, TableDeleted};
use super::super::expand::Expansion;
use super::super::table::{FailedTable, TableJob};
use super::{ChangeKind, ChangeOutcome, Journal, TableChangeRecord};
use crate::database::config::RulesConfig;

/// Applies the rules for whole tables to what a job has selected, and remembers what it has met. `all` says whether the run is
/// one of all tables of the job.
///
/// Tables that the first run meets are not new: it initialises everything that it selects.
///
/// # Errors
/// The ledger's.
pub async fn settle(journal: Journal<'_>, rules: &RulesConfig, expansion: &mut Expansion, all: bool) -> Result<()> {
    let known = journal.ledger.known_tables(journal.job).await?;
    let target = |table: &TableJob| table.target.to_string();
    let mut met = Vec::new();
    let mut left_out = Vec::new();
    for table in &expansion.tables {
        let before = known.iter().find(|row| row.target == target(table));
        let is_new = !known.is_empty() && before.is_none_or(|row| row.ignored);
        let ignored = is_new && rules.table_added == TableAdded::Ignore;
        if ignored {
            left_out.push(target(table));
            if before.is_none() {
                let record = TableChangeRecord::of_table(
                    ChangeKind::TableAdded,
                    ChangeOutcome::Ignored,
                    "rules.tableAdded is ignore",
                );
                journal.write(&table.source(), &target(table), &[record], false).await?;
            }
        }
        if before.is_none_or(|row| row.ignored != ignored) {
            met.push((target(table), table.source(), ignored));
        }
    }
    expansion.tables.retain(|table| !left_out.contains(&target(table)));
    let mut gone = Vec::new();
    for row in known.iter().filter(|_| all) {
        let selected = expansion.tables.iter().any(|table| target(table) == row.target);
        let failed = expansion.failed.iter().any(|table| table.target == row.target);
        if selected || failed || left_out.contains(&row.target) {
            continue;
        }
        if expansion.present.contains(&row.source) || row.ignored {
            // The job selects it no more.
            gone.push(row.target.clone());
            continue;
        }
        let detail = "the source has the table no more";
        match rules.table_deleted {
            TableDeleted::Ignore => {
                gone.push(row.target.clone());
                let record = TableChangeRecord::of_table(
                    ChangeKind::TableDeleted,
                    ChangeOutcome::Ignored,
                    format!("{detail}; the target keeps its own as it is"),
                );
                journal.write(&row.source, &row.target, &[record], false).await?;
            }
            TableDeleted::Error => {
                let reason = format!("{detail}, and rules.tableDeleted is error");
                let record =
                    TableChangeRecord::of_table(ChangeKind::TableDeleted, ChangeOutcome::Refused, reason.clone());
                journal.write(&row.source, &row.target, &[record], false).await?;
                if !expansion.failed.iter().any(|table| table.source == row.source) {
                    expansion.failed.push(FailedTable {
                        source: row.source.clone(),
                        target: row.target.clone(),
                        kind: ErrorKind::NotFound,
                        reason,
                    });
                }
            }
        }
    }
    journal.ledger.meet_tables(journal.job, &met, &gone).await
}
