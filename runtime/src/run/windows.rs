//! What this run reads of incremental sources: decided once, and kept for a resume.

use weir_core::{ConnectorContext, Error, ErrorKind, Result};

use super::Run;
use crate::entry::PlannedEntry;
use crate::incremental::{asked, known, of_entry, ordinal, told_apart};

impl Run {
    /// Decides the windows of an entry, or takes those that the run has decided before: its high ends are those of its
    /// beginning, however often it is taken up.
    pub(super) async fn set_windows(
        &self,
        index: usize,
        planned: &mut PlannedEntry,
        context: &ConnectorContext,
    ) -> Result<()> {
        if asked(planned.reader.as_ref(), &self.job.entries[index])?.is_none() {
            return Ok(());
        }
        told_apart(&self.job)?;
        let records = match &self.ledger {
            Some(ledger) => {
                planned.windows = ledger.windows(&self.run_id, index as u32).await?;
                if !planned.windows.is_empty() {
                    return Ok(());
                }
                ledger.watermarks(Some(&self.job.name)).await?
            }
            // A try of a few rows moves no watermark, but begins at it.
            None if self.options.limit.is_some() => known(&self.job, self.options.state_dir.as_deref()).await?,
            None => {
                let text = "an incremental job keeps its watermark in the state folder, and this run has none: name one with \
                     --state-dir";
                return Err(Error::config(text));
            }
        };
        let watermarks = match self.options.full {
            true => Vec::new(),
            false => of_entry(&records, ordinal(&self.job, index)),
        };
        let again = planned.decide_windows(&self.job, &self.job.entries[index], context, watermarks).await?;
        if again && self.options.limit.is_some() {
            let text = "the target is gone since the last run: a try of a few rows would make it again, and the next run would go \
                 on at its watermark as if nothing were missing. Run the job without a limit";
            return Err(Error::new(ErrorKind::Schema, text).with("target", &planned.plan.table));
        }
        Ok(())
    }
}
