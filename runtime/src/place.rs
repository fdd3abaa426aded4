//! A place that a run writes to, with the run's lease there, and how long the run may believe that the lease is still its own.
//!
//! A machine that slept, or a process that was stopped, goes on where it was and knows nothing of the time between. So before
//! anything is changed or lands for good the clock on the wall is looked at: where the target's last word is older than a
//! lease lasts it is asked for another one, and nothing but its word counts.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_core::{ConnectorContext, Error, ErrorKind, Lease, Renewal, Result, Standing, WritePlan, Writer};

use crate::job::Endpoint;

/// How long a lease outlives its run.
pub(crate) const SECONDS: u64 = 60;

/// How often it is renewed, and how long that may take.
pub(crate) const RENEWAL: Duration = Duration::from_secs(20);

/// A place that the run writes to.
pub(crate) struct Place {
    /// What the writer calls it.
    pub name: String,
    /// The writer of the first entry that writes there, and its plan.
    pub endpoint: Endpoint,
    pub plan: WritePlan,
    pub lease: Lease,
    /// Whose lease holds there, if it is not the run's.
    pub refused: Option<Standing>,
    /// The job's multi-thread runtime, and its time zone.
    pub io: Handle,
    pub time_zone: chrono_tz::Tz,
    pub seen: Seen,
    pub taken_over: Arc<TakenOver>,
}

impl Place {
    /// Returns when the run may change something here: at once, unless the target's last word is too old.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when another run has taken the job over, which stops this one; else why the target
    /// did not tell, or that `stop` came first.
    pub async fn still_held(&self, stop: &CancellationToken) -> Result<()> {
        if self.seen.is_fresh() {
            return Ok(());
        }
        let looked = stop.run_until_cancelled(self.learn(self.seen.look(|| self.ask()))).await;
        looked.unwrap_or_else(|| Err(Error::cancelled()))
    }

    /// Renews the lease, whatever is known of it.
    ///
    /// # Errors
    /// As [`still_held`](Self::still_held).
    pub async fn renew(&self) -> Result<()> {
        self.learn(self.seen.renew(|| self.ask())).await
    }

    async fn ask(&self) -> Result<Renewal> {
        let (writer, _stop) = self.writer()?;
        match writer.leases() {
            Some(leases) => leases.renew(&self.plan, &self.lease).await,
            None => Ok(Renewal::Held),
        }
    }

    async fn learn(&self, asking: impl Future<Output = Result<Renewal>>) -> Result<()> {
        let silent = |_: tokio::time::error::Elapsed| {
            let text = format!("the run's lease at the target was not renewed within {} s", RENEWAL.as_secs());
            Error::new(ErrorKind::Timeout, text).retryable(true)
        };
        let renewed = tokio::time::timeout(RENEWAL, asking).await.unwrap_or_else(|elapsed| Err(silent(elapsed)));
        match renewed.map_err(|error| error.with("lease", &self.plan.table))? {
            Renewal::Held => Ok(()),
            Renewal::Lost(by) => {
                self.taken_over.say(lost(by.as_ref()).with("target", &self.plan.table));
                Err(lost(by.as_ref()))
            }
        }
    }

    /// A writer with a token of its own, which stops it when it is dropped: the run's may have been told to stop.
    pub fn writer(&self) -> Result<(Arc<dyn Writer>, DropGuard)> {
        let stop = CancellationToken::new();
        let context = ConnectorContext {
            cancel: stop.clone(),
            io: self.io.clone(),
            form: self.endpoint.form,
            time_zone: self.time_zone,
            shared: weir_core::Shared::default(),
        };
        Ok((self.endpoint.open_writer(&context)?, stop.drop_guard()))
    }
}

/// When the target last said that a lease is the run's.
pub(crate) struct Seen {
    at: Mutex<SystemTime>,
    /// Held while it is asked, so that whoever else wants to know hears the same answer.
    asking: tokio::sync::Mutex<()>,
}

impl Seen {
    /// It was asked at that moment.
    pub fn at(asked: SystemTime) -> Self {
        Self { at: Mutex::new(asked), asking: tokio::sync::Mutex::default() }
    }

    /// Whether the lease cannot have ended since. A clock that was put back tells nothing.
    pub fn is_fresh(&self) -> bool {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.elapsed().is_ok_and(|since| since < Duration::from_secs(SECONDS))
    }

    /// Asks the target, unless its last word is fresh by then.
    async fn look<F: Future<Output = Result<Renewal>>>(&self, ask: impl Fn() -> F) -> Result<Renewal> {
        let _asking = self.asking.lock().await;
        // Whoever was frozen while the answer was under way asks again.
        while !self.is_fresh() {
            let renewal = self.hear(ask()).await?;
            if renewal != Renewal::Held {
                return Ok(renewal);
            }
        }
        Ok(Renewal::Held)
    }

    /// Asks the target.
    async fn renew<F: Future<Output = Result<Renewal>>>(&self, ask: impl Fn() -> F) -> Result<Renewal> {
        let _asking = self.asking.lock().await;
        self.hear(ask()).await
    }

    async fn hear(&self, asking: impl Future<Output = Result<Renewal>>) -> Result<Renewal> {
        let asked = SystemTime::now();
        let renewal = asking.await?;
        if renewal == Renewal::Held {
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        }
        Ok(renewal)
    }
}

/// That another run has taken the job over, which ends this one.
pub(crate) struct TakenOver {
    stop: CancellationToken,
    error: Mutex<Option<Error>>,
}

impl TakenOver {
    /// `stop` ends the run.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, error: Mutex::default() }
    }

    fn say(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.cancel();
    }

    /// Whether a run on another machine is at work in this one's place.
    pub fn is(&self) -> bool {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Why the run ended, if that is why.
    pub fn take(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What to tell the user whose run has lost its lease, to whom if it is known.
fn lost(by: Option<&Lease>) -> Error {
    let text = match by {
        Some(Lease { run_id, machine, .. }) => format!(
            "run {run_id} on machine {machine} has taken the job over, for this run was not seen for more than {SECONDS} s: \
             this one has stopped"
        ),
        None => format!(
            "another run has taken the job over and ended, for this run was not seen for more than {SECONDS} s, or somebody \
             has removed its lease from the target: this one has stopped; see what the other one has written before you go \
             on with it (--resume)"
        ),
    };
    Error::new(ErrorKind::Conflict, text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn seen(seconds_ago: u64) -> Seen {
        Seen::at(SystemTime::now() - Duration::from_secs(seconds_ago))
    }

    #[tokio::test]
    async fn a_fresh_word_is_believed_without_a_question() {
        let asked = || async { Err(Error::internal("asked")) };
        assert_eq!(seen(30).look(asked).await.unwrap(), Renewal::Held);
    }

    #[tokio::test]
    async fn of_several_who_were_away_one_asks() {
        let (seen, asked) = (seen(61), AtomicUsize::new(0));
        assert!(!seen.is_fresh());
        let ask = || async {
            asked.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            Ok(Renewal::Held)
        };
        let (one, other) = tokio::join!(seen.look(ask), seen.look(ask));
        assert_eq!((one.unwrap(), other.unwrap()), (Renewal::Held, Renewal::Held));
        assert_eq!(asked.into_inner(), 1);
        assert!(seen.is_fresh());
    }

    #[tokio::test]
    async fn a_clock_that_was_put_back_tells_nothing() {
        let (seen, asked) = (Seen::at(SystemTime::now() + Duration::from_secs(3600)), AtomicUsize::new(0));
        let ask = || async {
            asked.fetch_add(1, Relaxed);
            Ok(Renewal::Held)
        };
        assert_eq!(seen.look(ask).await.unwrap(), Renewal::Held);
        assert_eq!(asked.into_inner(), 1);
    }

    #[tokio::test]
    async fn what_is_lost_or_unknown_is_not_believed() {
        let seen = seen(61);
        let away = || async { Err(Error::new(ErrorKind::Unreachable, "away").retryable(true)) };
        for _ in 0..2 {
            assert!(seen.look(away).await.unwrap_err().is_retryable());
            assert!(seen.renew(away).await.is_err());
            assert!(!seen.is_fresh());
        }
        let lost = || async { Ok(Renewal::Lost(None)) };
        assert_eq!(seen.look(lost).await.unwrap(), Renewal::Lost(None));
        assert!(!seen.is_fresh());
    }

    #[test]
    fn a_run_whose_job_was_taken_over_is_stopped() {
        let taken_over = TakenOver::new(CancellationToken::new());
        assert!(!taken_over.is());
        taken_over.say(lost(None));
        taken_over.say(Error::cancelled());
        assert!(taken_over.is() && taken_over.stop.is_cancelled());
        assert_eq!(taken_over.take().unwrap().kind(), ErrorKind::Conflict, "the first word counts");
    }
}
