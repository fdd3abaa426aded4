//! Whether a version that was asked for may still come.
//!
//! A request that gets no good answer, or that nobody waits for any more, may be on its way: a store may do later what it was
//! asked to do and has not said to have done. Until it is certain that the version does not come, the files that it names must stay.
//!
//! What makes it certain is the version's place, which is taken once: [`settle`] puts a version there that changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use deltalake::DeltaTableError;
use weir_core::{ConnectorContext, Error, ErrorKind, Result, WritePlan};
use weir_lakehouse::Location;

use crate::commit::{self, Fault, committed};
use crate::record;

/// How often the version is looked at when others are faster to take its place.
const ATTEMPTS: usize = 3;

/// What this process knows of one run's versions at one table, whichever of its writers has asked for them.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    may_come: AtomicBool,
    /// Whether tasks of the run were begun here: then no earlier process was done with all of them, and asked for a version.
    begun_here: AtomicBool,
}

impl Doubt {
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

    /// Waits for the answer about a version. One that is there, whosever it is, ends the doubt about those before it as well:
    /// they were asked for at its place, or below it.
    pub(crate) async fn ask<T>(
        &self,
        location: &Location,
        asked: impl IntoFuture<Output = Result<T, DeltaTableError>>,
    ) -> Result<T, Fault> {
        // As long as nobody has the answer, and for good where nobody waits for it.
        let before = self.may_come.swap(true, Relaxed);
        let answer = asked.await;
        let may_come = match &answer {
            Ok(_) => false,
            // A local disk is done with a request when it answers; a store may have been asked more than once.
            Err(DeltaTableError::ObjectStore { .. }) => before || location.local_path().is_none(),
            Err(error) => before && !Fault::is_race(error),
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
pub(crate) async fn settle(location: &Location, plan: &WritePlan, doubt: &Doubt) -> Result<bool> {
    let may_come = doubt.may_come();
    // An earlier process may have ended in the midst of it, if it had finished splits. What a local disk does it has done by then.
    let unknown = !doubt.begun_here.load(Relaxed) && location.local_path().is_none();
    if !may_come && !(unknown && record::is_any(&location.folder(), plan).await?) {
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
                   that it would name are kept. The job's next run looks at the table again, and takes them away if they are of no \
                   use; later a VACUUM of the table does that too";
    match fault {
        Some(fault) => Error::new(fault.kind(), message).because(fault),
        None => Error::new(ErrorKind::Unreachable, message),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use weir_lakehouse::LocationConfig;

    use super::*;

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

    #[tokio::test]
    async fn what_nobody_has_waited_for_may_come() {
        let broken = || {
            DeltaTableError::from(deltalake::ObjectStoreError::NotImplemented {
                operation: "put".into(),
                implementer: "test".into(),
            })
        };
        for (path, of_broken) in [("/lake/orders", false), ("s3://bucket/orders", true)] {
            let (location, doubt) = (location(path), Doubt::default());
            assert!(!doubt.may_come());
            assert!(doubt.ask(&location, async { Err::<(), _>(broken()) }).await.is_err());
            assert_eq!(doubt.may_come(), of_broken, "{path}");
            let unheard = doubt.ask(&location, std::future::pending::<Result<(), _>>()).now_or_never();
            assert!(unheard.is_none() && doubt.may_come(), "{path}");
            // What says nothing about the version does not end the doubt; a version that is there does.
            let refused = || Err::<(), _>(DeltaTableError::NotInitialized);
            assert!(doubt.ask(&location, async { refused() }).await.is_err() && doubt.may_come(), "{path}");
            let there = async { Err::<(), _>(DeltaTableError::VersionAlreadyExists(7)) };
            assert!(matches!(doubt.ask(&location, there).await, Err(Fault::Raced(..))), "{path}");
            assert!(doubt.ask(&location, async { refused() }).await.is_err() && !doubt.may_come(), "{path}");
        }
    }
}
