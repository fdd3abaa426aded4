//! Entries that earlier processes have moved, or begun to, and that this one did not come to: their rows are the run's too.

use weir_core::{Error, Receipt, Result};

use super::Run;
use super::outcome::{Ended, EntryEnd};
use super::resume::tables_of;
use crate::ledger::Ledger;
use crate::observer::TableProgress;

impl Run {
    /// Counts what the ledger knows of entries that were not taken up, for a resume may be refused or stopped before that.
    pub(super) async fn count_untouched(&self, ended: &mut Ended) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| !ended.succeeded()) else { return };
        if let Err(error) = self.add_untouched(ledger, ended).await {
            self.warn(&format!("what this call did not come to is not counted: {}", error.full()));
        }
    }

    async fn add_untouched(&self, ledger: &Ledger, ended: &mut Ended) -> Result<()> {
        let touched = self.progress.entries_with_splits();
        for record in ledger.entries(&self.run_id).await? {
            let index = record.entry as usize;
            let done = |end: &EntryEnd| end.index == index && end.result.is_ok();
            if touched.contains(&index) || ended.entries.iter().any(done) {
                continue;
            }
            let (mut splits, mut receipts) = (Vec::new(), Vec::<Receipt>::new());
            for one in ledger.splits(&self.run_id, record.entry).await? {
                splits.push(one.split);
                receipts.extend(one.receipt);
            }
            if receipts.is_empty() && record.committed.is_none() {
                continue;
            }
            let (plan, source) = (record.spec.plan, tables_of(&splits));
            // What waited for its turn has a place there.
            self.progress.forget(index);
            for table in &source.tables {
                let shown = TableProgress {
                    source: table.name.clone(),
                    target: plan.table.clone(),
                    splits: splits.iter().filter(|split| split.table == table.name).count(),
                    ..TableProgress::default()
                };
                self.progress.add_table(index, shown);
            }
            self.count_kept(index, &splits, &receipts);
            let stays = plan.commits_per_split || record.committed.is_some();
            if let Some(end) = ended.entries.iter_mut().find(|end| end.index == index) {
                (end.receipts, end.stays) = (receipts, stays);
                continue;
            }
            let fault = || match &ended.error {
                Some(error) => Error::new(error.kind(), error.full()).retryable(error.is_retryable()),
                None => Error::cancelled(),
            };
            let names: Vec<_> = source.tables.into_iter().map(|table| table.name).collect();
            let end = EntryEnd::unplanned(index, names.join(", "), plan.table.clone(), fault());
            let result = record.committed.map_or(end.result, Ok);
            ended.entries.push(EntryEnd { receipts, stays, result, windows: record.windows, plan: Some(plan), ..end });
        }
        ended.entries.sort_by_key(|end| end.index);
        Ok(())
    }
}
