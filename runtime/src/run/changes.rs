//! What a whole-database run does about tables that have changed, and what it leaves for the next one.

use weir_core::{ConnectorContext, Result};

use super::Run;
use crate::database::evolve::{ChangeOutcome, ChangedTable, Evolving, Journal, apply};
use crate::entry::{PlannedEntry, plan_evolving};
use crate::ledger::{Ledger, RecordedChange};
use crate::report::Report;

/// The most changes that a report tells of.
const MOST: u32 = 100_000;

/// Where a run writes down the changes of its job's tables: in its ledger, or in the one that ends with it.
pub(super) fn journal<'a>(
    (ledger, passing): (Option<&'a Ledger>, Option<&'a Ledger>),
    run_id: &'a str,
    job: &'a str,
) -> Option<Journal<'a>> {
    match ledger {
        Some(ledger) => Journal::of(ledger, run_id, job),
        None => passing.map(|ledger| Journal { ledger, run_id, job }),
    }
}

impl Run {
    pub(super) fn journal(&self) -> Option<Journal<'_>> {
        journal((self.ledger.as_ref(), self.passing.as_ref()), &self.run_id, &self.job.name)
    }

    /// Plans an entry; the target of a whole-database job's table is brought to what its source is now.
    pub(super) async fn plan_anew(&self, index: usize, context: &ConnectorContext) -> Result<PlannedEntry> {
        let entry = &self.job.entries[index];
        let journal = self.journal();
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
        self.still_leased(index, &context.cancel).await?;
        let applying = apply(planned.writer.as_ref(), table, evolution, journal);
        if !context.until_cancelled(applying).await? {
            return Ok(planned);
        }
        let evolving = Evolving { applied: Some(evolution), ..evolving };
        plan_evolving(&self.job, entry, &id, context, evolving).await
    }

    /// An entry is published: the next run compares its source with what it is now.
    pub(super) async fn remember(&self, index: usize, entry: &PlannedEntry) -> Result<()> {
        let (Some(journal), Some(evolution)) = (self.journal(), &entry.evolution) else { return Ok(()) };
        let Some(table) = &self.job.entries[index].table else { return Ok(()) };
        journal.ledger.know_table(journal.job, &table.target.to_string(), &table.source(), &evolution.known).await
    }

    /// Puts the changes that the run has seen into its report, beside its tables where it has them.
    pub(super) async fn add_changes(&self, report: &mut Report) {
        let ledger = self.ledger.as_ref().or(self.passing.as_ref());
        let Some(ledger) = ledger.filter(|_| self.job.database.is_some()) else { return };
        match ledger.changes(None, Some(&self.run_id), MOST).await {
            // They come newest first.
            Ok(mut changes) => {
                changes.reverse();
                if let Err(error) = self.keep_passing(&changes).await {
                    report.warnings.push(format!("the changes of tables are not on record: {}", error.full()));
                }
                for RecordedChange { source, target, change, .. } in changes {
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

    /// What a try of a few rows has changed for good is on record in the state folder that it looked into.
    async fn keep_passing(&self, changes: &[RecordedChange]) -> Result<()> {
        let done: Vec<_> = changes.iter().filter(|one| one.change.outcome == ChangeOutcome::Done).cloned().collect();
        let Some(folder) = self.options.state_dir.as_ref().filter(|_| self.passing.is_some() && !done.is_empty())
        else {
            return Ok(());
        };
        let Some(ledger) = Ledger::find_in(folder).await? else { return Ok(()) };
        match Journal::of(&ledger, &self.run_id, &self.job.name) {
            Some(journal) => journal.ledger.record_changes(&done, true).await.map(drop),
            None => Ok(()),
        }
    }
}
