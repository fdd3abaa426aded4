//! Whether a version that was asked for may still come.
//!
//! A request that gets no good answer, or that nobody waits for any more, may be on its way: a store may do later what it was
//! asked to do and has not said to have done. Until it is certain that the version does not come, the files that it names must stay.
//!
//! What makes it certain is the version's place, which is taken once: [`settle`] puts a version there that changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use deltalake::kernel::transaction::TransactionError;
use deltalake::{DeltaTableError, ObjectStoreError};
use weir_core::{ConnectorContext, Error, ErrorKind, Result, WritePlan};
use weir_lakehouse::Location;

use crate::commit::{self, Fault, committed};
use crate::record;

/// How often the version is looked at when others are faster to take its place.
const ATTEMPTS: usize = 3;

/// What this process knows of one run's versions at one table, whichever of its writers has asked for them.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    may_come: AtomicBool,
    /// Whether tasks of the run were begun here: then no earlier process was done with all of them, and asked for a version.
    begun_here: AtomicBool,
}

impl Pending {
    /// The one of a run at a table.
    pub(crate) fn of(context: &ConnectorContext, location: &Location, plan: &WritePlan) -> Arc<Self> {
        context.shared.find_or_leave(&name(location, plan), Self::default)
    }

    /// Nobody will ask any more.
    pub(crate) fn forget(context: &ConnectorContext, location: &Location, plan: &WritePlan) {
        context.shared.remove(&name(location, plan));
    }

    /// A task is begun.
    pub(crate) fn begin(&self) {
        self.begun_here.store(true, Relaxed);
    }

    /// Whether a version that was asked for may still come.
    pub(crate) fn may_come(&self) -> bool {
        self.may_come.load(Relaxed)
    }

    /// The place of whatever was asked for is taken, and not by it.
    pub(crate) fn end(&self) {
        self.may_come.store(false, Relaxed);
    }

    /// Waits for the answer about a version. One that is there, whosever it is, ends the doubt about those before it as well:
    /// they were asked for at its place, or below it. `is_unclear` tells of further faults whether they may come after the
    /// request.
    pub(crate) async fn ask<T>(
        &self,
        location: &Location,
        asked: impl IntoFuture<Output = Result<T, DeltaTableError>>,
        is_unclear: fn(&DeltaTableError) -> bool,
    ) -> Result<T, Fault> {
        // As long as nobody has the answer, and for good where nobody waits for it.
        let before = self.may_come.swap(true, Relaxed);
        let answer = asked.await;
        let is_remote = location.local_path().is_none();
        let may_come = match &answer {
            Ok(_) => false,
            // A version that was read stands where this one was to go.
            Err(DeltaTableError::Transaction { source: TransactionError::CommitConflict(_) }) => false,
            // That there is a version may mean that one is on its way: a store may answer so (409) while it is at work on
            // another request for the same place, which may be our own, sent before this one. Who looks at the table knows.
            Err(error) if Fault::is_race(error) => is_remote,
            // Nothing was sent.
            Err(DeltaTableError::ObjectStore {
                source: ObjectStoreError::NotImplemented { .. } | ObjectStoreError::NotSupported { .. },
            }) => before,
            // A local disk is done with a request when it answers; a store may have been asked more than once.
            Err(error) if matches!(error, DeltaTableError::ObjectStore { .. }) || is_unclear(error) => {
                before || is_remote
            }
            Err(_) => before,
        };
        self.may_come.store(may_come, Relaxed);
        answer.map_err(Fault::of)
    }
}

fn name(location: &Location, plan: &WritePlan) -> String {
    format!("lakehouse versions {} {}", plan.run_id, location.name())
}

/// Makes certain that no version of the run will come any more which is not there now, and says whether it is there.
///
/// # Errors
/// Where that cannot be made certain: nothing that the version may name must be deleted.
pub(crate) async fn settle(location: &Location, plan: &WritePlan, pending: &Pending) -> Result<bool> {
    let may_come = pending.may_come();
    // An earlier process may have ended in the midst of it, if it had finished splits. What a local disk does it has done by then.
    let unknown = !pending.begun_here.load(Relaxed) && location.local_path().is_none();
    let asked = may_come || (unknown && record::is_any(&location.folder(), plan).await?);
    if !asked {
        return Ok(false);
    }
    let mut seen = None;
    for _ in 0..ATTEMPTS {
        let Some(table) = location.open(None).await? else {
            // There is no first version that changes nothing.
            return if may_come { Err(kept(None)) } else { Ok(false) };
        };
        if committed(&table, plan).await? {
            return Ok(true);
        }
        // What may come was asked for at the next place, or at one that is taken now.
        if table.version() > *seen.get_or_insert(table.version()) {
            return Ok(false);
        }
        match commit::occupy(&table, plan).await {
            Ok(_) => return Ok(false),
            Err(Fault::Raced(..)) => {}
            Err(Fault::Other(error)) => return Err(kept(Some(error))),
        }
    }
    Err(kept(None))
}

fn kept(fault: Option<Error>) -> Error {
    let message = "the store has not said whether it made the version that was asked for, which may still come: the files \
                   that it would name are kept. If they are of no use, a VACUUM of the table takes them away";
    match fault {
        Some(fault) => Error::new(fault.kind(), message).because(fault),
        None => Error::new(ErrorKind::Unreachable, message),
    }
}

#[cfg(test)]
mod tests {
    use deltalake::kernel::transaction::CommitConflictError;
    use deltalake::kernel::{DataType, PrimitiveType, StructField};
    use futures::FutureExt;
    use weir_core::WriteMode;
    use weir_lakehouse::LocationConfig;

    use super::*;
    use crate::config::Config;
    use crate::plan::State;
    use crate::publish::Publication;

    fn location(path: &str) -> Location {
        let context = ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: weir_core::Form::Native,
            time_zone: chrono_tz::UTC,
            shared: Default::default(),
        };
        Location::new(&LocationConfig { path: Some(path.into()), ..LocationConfig::default() }, &context).unwrap()
    }

    fn publication(location: &Location, run: &str) -> Publication {
        let field = StructField::new("id", DataType::Primitive(PrimitiveType::Long), true);
        let state = State { fields: vec![field], partition_columns: Vec::new(), partition: Default::default() };
        let plan = WritePlan {
            run_id: run.into(),
            table: "t".into(),
            mode: WriteMode::Append,
            columns: Vec::new(),
            creates: false,
            statements: Vec::new(),
            method: String::new(),
            commits_per_split: false,
            records_splits: true,
            keys: Vec::new(),
            warnings: Vec::new(),
            state: serde_json::to_value(state).unwrap(),
        };
        Publication::new(location, &plan, &Config::default(), Default::default(), &[]).unwrap()
    }

    #[tokio::test]
    async fn who_was_frozen_while_his_run_was_given_up_publishes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let location = location(folder.path().to_str().unwrap());
        assert!(commit::create(&publication(&location, "before"), Vec::new()).await.is_ok());
        let late = publication(&location, "late");
        let newest = async || location.open(None).await.unwrap().unwrap();
        // The table as it was when it was looked at last.
        let seen = newest().await;
        for number in 1..3 {
            assert!(commit::occupy(&newest().await, &late.plan).await.is_ok());
            let answer = commit::publish(&late, &seen, Vec::new()).await;
            assert!(matches!(answer, Err(Fault::Raced(..))), "{number}");
            let table = newest().await;
            assert_eq!(table.version(), Some(number));
            assert!(!committed(&table, &late.plan).await.unwrap());
        }
        // Others are not concerned.
        assert!(commit::publish(&publication(&location, "other"), &seen, Vec::new()).await.is_ok());
    }

    async fn ask(pending: &Pending, location: &Location, answer: DeltaTableError) -> Result<(), Fault> {
        pending.ask(location, async { Err(answer) }, |_| false).await
    }

    #[tokio::test]
    async fn what_nobody_has_waited_for_may_come() {
        let broken = || DeltaTableError::from(ObjectStoreError::Generic { store: "test", source: "broken".into() });
        for (path, of_broken) in [("/lake/orders", false), ("s3://bucket/orders", true)] {
            let (location, pending) = (location(path), Pending::default());
            assert!(!pending.may_come());
            // What the store does not know was not sent.
            let unknown = || ObjectStoreError::NotImplemented { operation: "put".into(), implementer: "test".into() };
            assert!(ask(&pending, &location, unknown().into()).await.is_err() && !pending.may_come(), "{path}");
            assert!(ask(&pending, &location, broken()).await.is_err());
            assert_eq!(pending.may_come(), of_broken, "{path}");
            let unheard = pending.ask(&location, std::future::pending::<Result<(), _>>(), |_| false).now_or_never();
            assert!(unheard.is_none() && pending.may_come(), "{path}");
            // What says nothing about the version does not end the doubt; a version that is there does.
            let refused = || DeltaTableError::NotInitialized;
            assert!(ask(&pending, &location, refused()).await.is_err() && pending.may_come(), "{path}");
            let there = DeltaTableError::VersionAlreadyExists(7);
            assert!(matches!(ask(&pending, &location, there).await, Err(Fault::Raced(..))), "{path}");
            // A store says that also while it is at work on it.
            assert_eq!(pending.may_come(), of_broken, "{path}");
            let conflict = TransactionError::CommitConflict(CommitConflictError::ConcurrentTransaction);
            assert!(matches!(ask(&pending, &location, conflict.into()).await, Err(Fault::Raced(..))), "{path}");
            assert!(ask(&pending, &location, refused()).await.is_err() && !pending.may_come(), "{path}");
            // The same fault before the request and after it.
            let unread = || DeltaTableError::InvalidVersion(0);
            assert!(ask(&pending, &location, unread()).await.is_err() && !pending.may_come(), "{path}");
            assert!(pending.ask(&location, async { Err::<(), _>(unread()) }, |_| true).await.is_err());
            assert_eq!(pending.may_come(), of_broken, "{path}");
        }
    }
}
