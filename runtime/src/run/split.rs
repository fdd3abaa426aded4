//! One split of a run: tried until it landed, or until trying again is of no use.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Receipt, Result, Split, WritePlan};

use super::Run;
use super::abandon::stays;
use super::waiting::{LATER, SOON, aloud};
use crate::entry::PlannedEntry;
use crate::observer::Event;
use crate::retry::Retries;
use crate::task::{TaskContext, TaskSpec, run_task};

/// What [`Run::again`] says of a commit, which may rightly take its time.
pub(super) const PUBLISHING: &str = "publishing";

impl Run {
    /// Moves one split, exactly once. It has landed also where the ledger has no room to say so: what came of that stands beside
    /// the receipt.
    pub(super) async fn run_split(
        &self,
        spec: &Arc<TaskSpec>,
        split: &Split,
        entry: &PlannedEntry,
        context: &TaskContext,
        kept: Option<&Semaphore>,
    ) -> Result<(Receipt, Result<()>)> {
        let observer = &self.options.observer;
        let _connection = self.connection_or(spec.entry, kept).await?;
        let _channel = self.channels.acquire().await.map_err(|_| Error::cancelled())?;
        let mut retries = Retries::new(self.job.setting.retry);
        // Where the target keeps no record, the ledger's word of what may have landed is all there is.
        let recorded = spec.plan.records_splits || !stays(&spec.plan, &spec.writer);
        let mut attempt = 1;
        loop {
            if context.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            observer.event(&Event::SplitStarted { split, attempt });
            if let Some(ledger) = &self.ledger {
                ledger.attempt(&self.run_id, spec.entry as u32, split.id, attempt, recorded).await?;
            }
            let counters = self.progress.begin(spec.entry, &split.table, split.id);
            let fault = match run_task(spec, split, attempt, context, counters.clone()).await {
                Ok(outcome) => {
                    self.progress.finish(spec.entry, &split.table, split.id);
                    return Ok(self.landed(spec, split, outcome.receipt).await);
                }
                Err(fault) => fault,
            };
            if let Some(ledger) = self.ledger.as_ref().filter(|_| !recorded && !fault.in_doubt) {
                // Not written down the split stays in doubt, which is the safe side; the fault is what counts.
                if let Err(error) = ledger.attempt(&self.run_id, spec.entry as u32, split.id, 0, recorded).await {
                    tracing::debug!(%error, "an attempt that came to nothing is not written down");
                }
            }
            let error = fault.error;
            let overtaken = error.kind() == ErrorKind::Conflict;
            let again = error.is_retryable() && (spec.plan.records_splits || !fault.in_doubt);
            if spec.plan.records_splits && (fault.in_doubt || overtaken) {
                // Whether this attempt, or one before it, has landed after all: only the target knows.
                if let Some(receipt) = self.find_receipt(spec, split, entry, context, &mut retries).await? {
                    let account = &receipt.account;
                    self.progress.replace(spec.entry, &split.table, split.id, account.counts);
                    self.dirty.keep(spec.entry, split.id, account.counts, account.quarantine.as_deref());
                    return Ok(self.landed(spec, split, receipt).await);
                }
            }
            let what = format!("split {} is tried again", split.id);
            if !again || !retries.wait(&what, &error, &context.cancel, |text| self.warn(text)).await {
                self.progress.finish(spec.entry, &split.table, split.id);
                return Err(match fault.in_doubt && !spec.plan.records_splits {
                    true => error.with("in doubt", "whether the target took this split is not known"),
                    false => error,
                });
            }
            if let Some(left) = &context.left {
                // The rows of this attempt do not count: the next one may read them again.
                left.fetch_add(counters.counts().rows_read as i64, Relaxed);
            }
            attempt += 1;
        }
    }

    async fn landed(&self, spec: &TaskSpec, split: &Split, receipt: Receipt) -> (Receipt, Result<()>) {
        let written = match &self.ledger {
            Some(ledger) => ledger.finish_split(&self.run_id, spec.entry as u32, &receipt).await,
            None => Ok(()),
        };
        self.options.observer.event(&Event::SplitFinished { split, rows: receipt.rows });
        (receipt, written)
    }

    /// The target's record of a split, asked for until the target answers.
    async fn find_receipt(
        &self,
        spec: &TaskSpec,
        split: &Split,
        entry: &PlannedEntry,
        context: &TaskContext,
        retries: &mut Retries,
    ) -> Result<Option<Receipt>> {
        let recorded = || async {
            let asked = context.cancel.run_until_cancelled(entry.writer.recorded(&spec.plan)).await;
            asked.unwrap_or_else(|| Err(Error::cancelled()))
        };
        let what = format!("asking the target for split {}", split.id);
        let recorded =
            retries.step(&what, &context.cancel, |text| self.warn(text), Error::is_retryable, recorded).await?;
        let Some(receipt) = recorded.receipts.into_iter().find(|receipt| receipt.split == split.id) else {
            return Ok(None);
        };
        // An attempt of a process that died may land late. Its rows are this split's only if it read them from the same
        // moment, or if the split means the same rows at any moment and none has to fit the other ones.
        let same = receipt.account.epoch == spec.epoch || (split.stable && spec.plan.commits_per_split);
        if same {
            return Ok(Some(receipt));
        }
        let text = format!(
            "split {} is at the target with rows of another moment of the source, by a process that was believed dead: look \
             at the target before this run goes on",
            split.id
        );
        Err(Error::new(ErrorKind::Conflict, text))
    }

    /// Does what may be repeated at a target that keeps records, again while the fault may pass.
    pub(super) async fn again<T, F>(
        &self,
        index: usize,
        plan: &WritePlan,
        mut work: impl FnMut() -> F,
        what: &str,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let patience = if what == PUBLISHING { LATER } else { SOON };
        let what = format!("{what} {}", plan.table);
        let once = || aloud(self.options.observer.as_ref(), &what, patience, work());
        let passes = |error: &Error| error.is_retryable() && plan.records_splits;
        self.step(&what, &self.stop(index), passes, once).await
    }

    /// Asks the systems of an entry for something that changes nothing there, or nothing that a second time would change
    /// again, once more while the fault may pass.
    ///
    /// Until the run has reached both of them, a server that cannot be reached is more likely a wrong address than one that
    /// restarts, and its user is told at once.
    pub(super) async fn asking<T, F>(&self, stop: &CancellationToken, what: &str, work: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        // What was cut from a snapshot that is lost is cut from another one.
        let passes = |error: &Error| {
            (error.is_retryable() || error.kind() == ErrorKind::SnapshotLost) && self.reached.load(Relaxed)
        };
        let done = self.step(what, stop, passes, work).await;
        if let Err(error) = &done
            && error.kind() == ErrorKind::Unreachable
            && error.is_retryable()
            && !stop.is_cancelled()
        {
            // A thousand tables that wait their turn need not each find out for themselves.
            self.reached.store(false, Relaxed);
        }
        done
    }

    /// Does a step of the run again while its fault passes.
    pub(super) async fn step<T, F>(
        &self,
        what: &str,
        stop: &CancellationToken,
        passes: impl Fn(&Error) -> bool,
        work: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        Retries::new(self.job.setting.retry).step(what, stop, |text| self.warn(text), passes, work).await
    }
}
