//! What a whole-database run does about tables that have changed, and what it leaves for the next one.

use weir_core::{ConnectorContext, Result};

use super::Run;
use crate::database::evolve::{ChangedTable, Evolving, Journal, apply};
use crate::entry::{PlannedEntry, plan_evolving};
use crate::ledger::RecordedChange;
use crate::report::Report;

/// The most changes that a report tells of.
const MOST: u32 = 100_000;

impl Run {
    /// Plans an entry; the target of a whole-database job's table is brought to what its source is now.
    pub(super) async fn plan_anew(&self, index: usize, context: &ConnectorContext) -> Result<PlannedEntry> {
        let entry = &self.job.entries[index];
        let journal = self.ledger.as_ref().and_then(|ledger| Journal::of(ledger, &self.run_id, &self.job.name));
        let known = match (journal, &entry.table) {
            (Some(journal), Some(table)) => journal.ledger.known_table(journal.job, &table.target.to_string()).await?,
            _ => None,
        };
        let id = self.entry_id(index);
        let evolving = Evolving { known: known.as_ref(), journal, ..Evolving::default() };
        let planned = plan_evolving(&self.job, entry, &id, context, evolving).await?;
        let (Some(table), Some(evolution)) = (&entry.table, &planned.evolution) else { return Ok(planned) };
        // A run that another one keeps out changes nothing at the target.
        self.take_lease(index, &planned, context).await?;
        let applying = apply(planned.writer.as_ref(), table, evolution, journal);
        if !context.until_cancelled(applying).await? {
            return Ok(planned);
        }
        let evolving = Evolving { applied: Some(evolution), ..evolving };
        plan_evolving(&self.job, entry, &id, context, evolving).await
    }

    /// An entry is published: the next run compares its source with what it is now.
    pub(super) async fn remember(&self, index: usize, entry: &PlannedEntry) -> Result<()> {
        let journal = self.ledger.as_ref().and_then(|ledger| Journal::of(ledger, &self.run_id, &self.job.name));
        let (Some(journal), Some(evolution)) = (journal, &entry.evolution) else { return Ok(()) };
        let Some(table) = &self.job.entries[index].table else { return Ok(()) };
        journal.ledger.know_table(journal.job, &table.target.to_string(), &table.source(), &evolution.known).await
    }

    /// Puts the changes that the run has seen into its report, beside its tables where it has them.
    pub(super) async fn add_changes(&self, report: &mut Report) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.job.database.is_some()) else { return };
        match ledger.changes(None, Some(&self.run_id), MOST).await {
            // They come newest first.
            Ok(changes) => {
                for RecordedChange { source, target, change, .. } in changes.into_iter().rev() {
                    match report.tables.iter_mut().find(|table| table.name.as_ref() == Some(&target)) {
                        Some(table) => table.changes.push(change),
                        None => report.changes.push(ChangedTable { source, target, change }),
                    }
                }
            }
            Err(error) => {
                report.warnings.push(format!("the changes of tables are not in the report: {}", error.full()))
            }
        }
    }
}
