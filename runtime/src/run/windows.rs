//! What this run reads of incremental sources: decided once, before the source's snapshot, and kept for a resume.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::{FutureExt, StreamExt};
use tokio::sync::OnceCell;
use weir_core::{ConnectorContext, Error, ErrorKind, Result, Window};

use super::Run;
use super::waiting::{SOON, aloud};
use crate::database::{DatabaseJob, look_at_sources};
use crate::entry::PlannedEntry;
use crate::incremental::{asked, found, known, of_entry, ordinal, told_apart};
use crate::job::Entry;
use crate::ledger::WatermarkRecord;

/// By what windows are decided, and what was found of them ahead.
#[derive(Default)]
pub(super) struct WindowBook {
    /// Where the job's runs have ended; this one moves none before its own end.
    watermarks: OnceCell<Vec<WatermarkRecord>>,
    /// What the readers of entries have found before the snapshots began.
    early: Mutex<HashMap<usize, Result<Vec<Window>>>>,
}

impl WindowBook {
    /// What was found of an entry. A fault is told once: nobody asks again behind a snapshot that has begun.
    fn early(&self, index: usize) -> Result<Option<Vec<Window>>> {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        match early.get(&index) {
            Some(Ok(windows)) => Ok(Some(windows.clone())),
            Some(Err(_)) => early.remove(&index).transpose().map_err(|error| error.retryable(false)),
            None => Ok(None),
        }
    }
}

impl Run {
    /// Asks the readers of a whole database's tables for their windows, before the snapshots begin that all tables share: what
    /// lies below a high end must be in them. What goes wrong is told when the table has its turn, and so is what its target
    /// makes of it.
    ///
    /// # Errors
    /// Those of looking at the sources.
    pub(super) async fn find_windows(&self, database: &DatabaseJob, context: &ConnectorContext) -> Result<()> {
        let mut windowed = Vec::new();
        for (index, entry) in self.job.entries.iter().enumerate() {
            let by_window = entry.table.as_ref().is_some_and(|table| table.incremental.is_some());
            if by_window && shares_snapshot(entry, context) && self.decided(index).await?.is_empty() {
                windowed.push(index);
            }
        }
        if windowed.is_empty() {
            return Ok(());
        }
        let look = || look_at_sources(&self.job, database, context);
        let _held = self.asking(&self.cancel, "looking at the source's tables", look).await?;
        let asking = windowed.into_iter().map(|index| {
            async move {
                let context = ConnectorContext { cancel: self.stop(index), ..context.clone() };
                let what = format!("asking for the window of {}", self.table_name(index).unwrap_or_default());
                let long = format!("{what}, which reads all of it where its column has no index,");
                let ask = || async {
                    let _connection = self.connection(index).await?;
                    let find = self.find_window(index, &context);
                    aloud(self.options.observer.as_ref(), &long, SOON, find).await
                };
                (index, self.asking(&context.cancel, &what, ask).await)
            }
            .boxed()
        });
        let asking: Vec<_> = asking.collect();
        let group = &database.config.group;
        let at_once = group.max_source_connections.saturating_mul(group.concurrent_groups).max(1);
        let early: HashMap<_, _> = futures::stream::iter(asking).buffer_unordered(at_once).collect().await;
        *self.windows.early.lock().unwrap_or_else(PoisonError::into_inner) = early;
        Ok(())
    }

    /// What the run has decided of an entry before.
    async fn decided(&self, index: usize) -> Result<Vec<Window>> {
        match &self.ledger {
            Some(ledger) => ledger.windows(&self.run_id, index as u32).await,
            None => Ok(Vec::new()),
        }
    }

    /// What the reader of an entry finds.
    async fn find_window(&self, index: usize, context: &ConnectorContext) -> Result<Vec<Window>> {
        let entry = &self.job.entries[index];
        let reader = entry.reader.open_reader(&ConnectorContext { form: entry.reader.form, ..context.clone() })?;
        let watermarks = self.watermarks(index).await?;
        found(&self.job, entry, reader.as_ref(), &watermarks, context).await
    }

    /// Decides the windows of an entry, or takes those that the run has decided before: its high ends are those of its
    /// beginning, however often it is taken up.
    pub(super) async fn set_windows(
        &self,
        index: usize,
        planned: &mut PlannedEntry,
        context: &ConnectorContext,
    ) -> Result<()> {
        let entry = &self.job.entries[index];
        if asked(planned.reader.as_ref(), entry)?.is_none() {
            return Ok(());
        }
        planned.windows = self.decided(index).await?;
        if !planned.windows.is_empty() {
            return Ok(());
        }
        let watermarks = self.watermarks(index).await?;
        let early = self.windows.early(index)?;
        let again = planned.decide_windows(&self.job, entry, context, watermarks, early).await?;
        if again && self.options.limit.is_some() {
            let text = "the target is gone since the last run: a try of a few rows would make it again, and the next run would go \
                 on at its watermark as if nothing were missing. Run the job without a limit";
            return Err(Error::new(ErrorKind::Schema, text).with("target", &planned.plan.table));
        }
        Ok(())
    }

    /// Where an entry's window begins.
    async fn watermarks(&self, index: usize) -> Result<Vec<&WatermarkRecord>> {
        told_apart(&self.job)?;
        let records = self.windows.watermarks.get_or_try_init(|| async {
            match &self.ledger {
                Some(ledger) => ledger.watermarks(Some(&self.job.name)).await,
                // A try of a few rows moves no watermark, but begins at it.
                None if self.options.limit.is_some() => known(&self.job, self.options.state_dir.as_deref()).await,
                None => {
                    let text = "an incremental job keeps its watermark in the state folder, and this run has none: name one \
                         with --state-dir";
                    Err(Error::config(text))
                }
            }
        });
        let records = records.await?;
        Ok(match self.options.full {
            true => Vec::new(),
            false => of_entry(records, ordinal(&self.job, index)),
        })
    }
}

/// Whether a table may be read from a snapshot that begins before its turn. What is wrong with its reader is told then.
fn shares_snapshot(entry: &Entry, context: &ConnectorContext) -> bool {
    let reader = entry.reader.open_reader(&ConnectorContext { form: entry.reader.form, ..context.clone() });
    reader.is_ok_and(|reader| reader.snapshot().is_some())
}
