//! Publishing what an entry staged, taking it back, and forgetting it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;
use weir_core::{Committed, ConnectorContext, Error, ErrorKind, Receipt, Result, Revocable, WritePlan};

use super::abandon::writer_of_run;
use super::begin::fingerprint;
use super::entry::{Done, Moved};
use super::split::PUBLISHING;
use super::{CLEAN_UP, GIVEN_UP, Run};
use crate::entry::PlannedEntry;
use crate::job::Endpoint;
use crate::ledger::{Ledger, SplitRecord};
use crate::observer::Event;

/// How long a target may take to forget one entry of many.
const FORGET: std::time::Duration = std::time::Duration::from_millis(50);

/// How long a courtesy to a target waits before it is tried once more.
const ONCE_MORE: std::time::Duration = std::time::Duration::from_millis(200);

/// How many entries targets forget at once.
const FORGET_AT_ONCE: usize = 8;

/// Whether a commit may have happened although it failed. Where an answer was lost, only a commit that succeeds says more: an
/// attempt that fails later, for a password that has changed or a server that is away, knows nothing of those before it.
#[derive(Default)]
struct Doubt(AtomicBool);

impl Doubt {
    /// After an attempt that succeeded, or of which nobody knows.
    fn after(&self, succeeded: bool, unknown: bool) {
        match succeeded {
            true => self.0.store(false, Relaxed),
            false => drop(self.0.fetch_or(unknown, Relaxed)),
        }
    }
}

/// What became of a table for another one's fault.
pub(super) fn not_alone() -> Error {
    Error::new(ErrorKind::Conflict, "not published, for another table failed and publish is `all`")
}

impl Run {
    /// Publishes. A commit that its writer cannot take back any more is let finish, within bounds, even when the run is stopped
    /// meanwhile: dropped in mid-air it might happen or not, and nobody would know. So its writer is opened anew, with a
    /// token of its own.
    ///
    /// `together` is what the entry came to when it was published together with others; then postSql is left.
    pub(super) async fn commit(
        &self,
        index: usize,
        entry: &PlannedEntry,
        context: &ConnectorContext,
        receipts: &[Receipt],
        together: Option<Committed>,
        in_doubt: &mut bool,
    ) -> Result<Committed> {
        // What is published is to be on record here as well, whoever wants the run to end.
        if together.is_none() && self.stop(index).is_cancelled() {
            return Err(Error::cancelled());
        }
        let guarded: &[usize] = if together.is_none() { &[index] } else { &[] };
        let table = [(&entry.plan, receipts)];
        let alone = self.commit_tables(index, context, self.stop(index), &table, guarded, in_doubt).await;
        let alone = alone.and_then(|mut all| all.pop().ok_or_else(|| Error::internal("a table has no publication")));
        let mut committed = match (together, alone) {
            (None, alone) => alone?,
            (Some(together), Ok(alone)) => Committed { failures: alone.failures, ..together },
            (Some(mut together), Err(error)) => {
                *in_doubt = false;
                together.failures.push(format!("postSql may not have run, the rows are published: {}", error.full()));
                together
            }
        };
        let (target, description) = (&entry.plan.table, &committed.description);
        self.options.observer.event(&Event::Committed { target, description });
        for warning in &committed.warnings {
            self.warn(warning);
        }
        // While postSql has failed, a resume has something left to do.
        if committed.failures.is_empty()
            && let Err(error) = self.write_down(index, entry, &committed).await
        {
            // No fault of the publication: taken back, or taken for not published, its rows would come twice.
            committed
                .failures
                .push(format!("published, but the ledger could not say so (--resume finds out): {}", error.full()));
        }
        Ok(committed)
    }

    /// Writes down that an entry is published.
    async fn write_down(&self, index: usize, entry: &PlannedEntry, committed: &Committed) -> Result<()> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        // In this order: what is published by the ledger's word is not looked at again.
        self.remember(index, entry).await?;
        ledger.publish(&self.run_id, index as u32, committed, entry.plan.records_splits).await
    }

    /// Publishes a table, or several tables of one target at one moment; tries again while that may help. `index` is the
    /// first one's, `told` ends it, and `guarded` are those of which none may be published without its lease. `in_doubt`:
    /// whether it may have happened although it failed.
    async fn commit_tables(
        &self,
        index: usize,
        context: &ConnectorContext,
        told: CancellationToken,
        tables: &[(&WritePlan, &[Receipt])],
        guarded: &[usize],
        in_doubt: &mut bool,
    ) -> Result<Vec<Committed>> {
        let Some((first, _)) = tables.first() else { return Ok(Vec::new()) };
        let doubt = Doubt::default();
        let once = || async {
            for index in guarded {
                self.still_leased(*index, &told).await?;
            }
            let (result, unknown) = self.commit_once(index, context, &told, tables).await;
            doubt.after(result.is_ok(), unknown);
            result
        };
        let committed = self.again(index, first, once, PUBLISHING).await;
        *in_doubt = doubt.0.into_inner();
        committed
    }

    /// Publishes all tables that wait for it at one moment, where the target can. They know then what they came to; when it
    /// failed, all of them have failed.
    pub(super) async fn publish_together(&self, moved: &mut [Moved], context: &ConnectorContext) {
        let mut waiting: Vec<&mut Moved> =
            moved.iter_mut().filter(|one| matches!(one.moved, Ok(Done::Moved))).collect();
        let Some(index) = waiting.first().map(|one| one.end.index).filter(|_| waiting.len() > 1) else { return };
        let can = self.job.entries[index].writer.open_writer(context);
        if !can.is_ok_and(|writer| writer.publishes_together().is_some()) {
            return;
        }
        let mut in_doubt = false;
        let result = {
            let tables: Vec<_> = waiting.iter().map(|one| (&one.entry.plan, one.end.receipts.as_slice())).collect();
            let guarded: Vec<_> = waiting.iter().map(|one| one.end.index).collect();
            self.commit_tables(index, context, self.cancel.clone(), &tables, &guarded, &mut in_doubt).await
        };
        match result {
            Ok(committed) => waiting.iter_mut().zip(committed).for_each(|(one, came)| one.together = Some(came)),
            Err(error) => {
                let named = error.context().iter().find(|(key, _)| *key == "target").map(|(_, name)| name.clone());
                for one in waiting {
                    one.in_doubt = in_doubt;
                    // A fault that is no table's own is every table's.
                    let others = !in_doubt && named.as_ref().is_some_and(|name| *name != one.entry.plan.table);
                    let same = || Error::new(error.kind(), error.full()).retryable(error.is_retryable());
                    one.moved = Err(if others { not_alone() } else { same() });
                }
            }
        }
    }

    /// One attempt, and whether it may have happened although it failed.
    async fn commit_once(
        &self,
        index: usize,
        context: &ConnectorContext,
        told: &CancellationToken,
        tables: &[(&WritePlan, &[Receipt])],
    ) -> (Result<Vec<Committed>>, bool) {
        let endpoint = &self.job.entries[index].writer;
        let (stop, revocable) = (CancellationToken::new(), Revocable::default());
        let shared = context.shared.telling(revocable.clone());
        let context = ConnectorContext { cancel: stop.clone(), form: endpoint.form, shared, ..context.clone() };
        let writer = match endpoint.open_writer(&context) {
            Ok(writer) => writer,
            Err(error) => return (Err(error), false),
        };
        let commit = async {
            match (tables, writer.publishes_together()) {
                ([(plan, receipts)], _) => Ok(vec![writer.commit(plan, receipts).await?]),
                (_, Some(together)) => together.publish_together(tables).await,
                (_, None) => Err(Error::internal("tables are published together where that cannot be done")),
            }
        };
        tokio::pin!(commit);
        let result = tokio::select! {
            biased;
            result = &mut commit => result,
            () = self.late(told, &revocable) => {
                stop.cancel();
                tokio::select! {
                    result = &mut commit => result,
                    () = self.clock.since_stop(GIVEN_UP) => Err(Error::cancelled()),
                    () = tokio::time::sleep(CLEAN_UP) => Err(Error::cancelled()),
                }
            }
        };
        // A connection that broke, or a wait that ended, says nothing about what the target did.
        let asked = result.as_ref().is_err_and(|error| error.is_retryable() || stop.is_cancelled());
        (result, asked && !revocable.get())
    }

    /// Waits until there is no more time for what `told`, the token of the run or of one table, has stopped: none where it can
    /// be taken back.
    async fn late(&self, told: &CancellationToken, revocable: &Revocable) {
        told.cancelled().await;
        tokio::select! {
            () = revocable.wait() => {}
            () = self.clock.since_stop(self.clean_up()) => {}
            () = tokio::time::sleep(CLEAN_UP) => {}
        }
    }

    /// Takes back what is not published. The writer is opened anew, for the one of the run has been told to stop.
    pub(super) async fn abort(
        &self,
        index: usize,
        entry: &PlannedEntry,
        context: &ConnectorContext,
        receipts: &[Receipt],
    ) {
        let endpoint = &self.job.entries[index].writer;
        let stop = CancellationToken::new();
        let fresh = ConnectorContext { cancel: stop.clone(), form: endpoint.form, ..context.clone() };
        let clean_up = async {
            let writer = endpoint.open_writer(&fresh)?;
            writer.abort(&entry.plan, receipts).await?;
            match &self.ledger {
                Some(ledger) => ledger.forget_entry(&self.run_id, index as u32).await,
                None => Ok(()),
            }
        };
        tokio::pin!(clean_up);
        let in_time = tokio::select! {
            result = &mut clean_up => Some(result),
            // Whoever stops the run, before or now, does not wait for it.
            () = self.clock.since_stop(self.clean_up()) => None,
            () = tokio::time::sleep(CLEAN_UP * 20) => None,
        };
        let result = match in_time {
            Some(result) => Some(result),
            None => {
                stop.cancel();
                // The server is told, for else its statement would wait on, and do later what nobody wants any more.
                let told = tokio::time::timeout(GIVEN_UP - CLEAN_UP, &mut clean_up).await;
                told.ok().filter(Result::is_ok)
            }
        };
        if let Some(text) = match result {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.full()),
            None => Some("no answer in time".into()),
        } {
            let table = &entry.plan.table;
            self.warn(&format!("staging of {table} is left behind: {text}"));
        }
    }

    /// Whether the target holds splits for good that nobody here has a receipt of; yes where it does not tell. Of one that keeps no
    /// records the ledger says which splits are in doubt.
    pub(super) async fn may_have_landed(&self, index: usize, entry: &PlannedEntry, context: &ConnectorContext) -> bool {
        if !entry.plan.records_splits {
            let Some(ledger) = &self.ledger else { return false };
            let splits = ledger.splits(&self.run_id, index as u32).await;
            return splits.map_or(true, |splits| splits.iter().any(SplitRecord::is_in_doubt));
        }
        let endpoint = &self.job.entries[index].writer;
        let stop = CancellationToken::new();
        let fresh = ConnectorContext { cancel: stop.clone(), form: endpoint.form, ..context.clone() };
        let asking = async { endpoint.open_writer(&fresh)?.recorded(&entry.plan).await };
        let recorded = tokio::select! {
            recorded = asking => recorded.ok(),
            () = self.clock.since_stop(self.clean_up()) => None,
            () = tokio::time::sleep(CLEAN_UP) => None,
        };
        stop.cancel();
        recorded.is_none_or(|recorded| !recorded.receipts.is_empty())
    }

    /// Lets the targets drop their records of the run, which are needed no more. What fails leaves a few rows of litter there,
    /// and nothing that a user must know: a later run of the job tidies up.
    pub(super) async fn forget(&self, plans: Vec<(usize, WritePlan)>) {
        let of = |(index, plan): (usize, WritePlan)| (self.job.entries[index].writer.clone(), plan);
        let forgotten = self.forget_at(plans.into_iter().map(of).collect()).await;
        let Some(ledger) = &self.ledger else { return };
        let tidied = async {
            if forgotten {
                ledger.forgotten(&self.run_id).await?;
            }
            self.forget_earlier(ledger).await
        };
        if let Err(error) = tidied.await {
            tracing::debug!(%error, "what the targets have forgotten is not in the ledger");
        }
    }

    /// As [`forget`](Self::forget), of runs that succeeded before this one and could not have it done: their process died, or
    /// the target did not answer.
    async fn forget_earlier(&self, ledger: &Ledger) -> Result<()> {
        let current = fingerprint(&self.job);
        for run in ledger.litter(&self.job.name, &self.run_id).await? {
            let expansion = ledger.expansion(&run.run_id).await?;
            let tables = expansion.map(|(expansion, _)| expansion.tables).unwrap_or_default();
            let plans = ledger.entries(&run.run_id).await?.into_iter().filter_map(|entry| {
                let index = entry.entry as usize;
                // What the job writes to no more it cannot tidy up either.
                let writer = writer_of_run(&run, &self.job, &current, tables.get(index), index).ok()?;
                Some((writer, entry.spec.plan))
            });
            if self.forget_at(plans.collect()).await {
                ledger.forgotten(&run.run_id).await?;
            }
        }
        Ok(())
    }

    /// Lets targets drop their records; whether all have.
    async fn forget_at(&self, plans: Vec<(Endpoint, WritePlan)>) -> bool {
        let stop = CancellationToken::new();
        let mut context = crate::plan::context(&self.job, &self.options, tokio::runtime::Handle::current());
        context.cancel = stop.clone();
        context.shared = context.shared.on(Some(self.kept.clone()));
        let forgetting = plans.iter().filter(|(_, plan)| plan.records_splits).map(|(endpoint, plan)| {
            let context = ConnectorContext { form: endpoint.form, ..context.clone() };
            async move {
                let forget = || async { endpoint.open_writer(&context)?.forget(plan).await };
                twice(forget).await
            }
            .boxed()
        });
        let forgetting: Vec<_> = forgetting.collect();
        // A few at a time: a whole database has thousands.
        let patience = CLEAN_UP * 4 + FORGET * forgetting.len() as u32;
        let all = futures::stream::iter(forgetting).buffer_unordered(FORGET_AT_ONCE).collect::<Vec<_>>();
        let forgotten = tokio::select! {
            all = all => all.iter().all(Result::is_ok),
            () = self.clock.since_stop(GIVEN_UP) => false,
            () = tokio::time::sleep(patience) => false,
        };
        stop.cancel();
        forgotten
    }
}

/// Does what nobody waits for once more when it fails, in case that a connection was lost.
pub(super) async fn twice<F: Future<Output = Result<()>>>(mut once: impl FnMut() -> F) -> Result<()> {
    if once().await.is_ok() {
        return Ok(());
    }
    tokio::time::sleep(ONCE_MORE).await;
    once().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_is_in_doubt_until_a_commit_succeeds() {
        let doubt = Doubt::default();
        let after = |succeeded, unknown| {
            doubt.after(succeeded, unknown);
            doubt.0.load(Relaxed)
        };
        assert!(!after(false, false));
        assert!(after(false, true));
        assert!(after(false, false), "a wrong password says nothing of the attempt before it");
        assert!(!after(true, false));
    }
}
