//! Doing a step again while what failed may pass.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result};

use crate::job::Retry;

/// The waits between attempts: each twice as long as the one before, up to a longest, less a part that is left to chance.
pub struct Retries {
    left: u32,
    wait: Duration,
    longest: Duration,
}

impl Retries {
    /// At the first attempt.
    pub fn new(retry: Retry) -> Self {
        Self { left: retry.times, wait: retry.interval.min(retry.max_interval), longest: retry.max_interval }
    }

    /// How long to wait before the next attempt, if there is one.
    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.wait;
        self.wait = (wait * 2).min(self.longest);
        Some(spread(wait))
    }

    /// Waits for the next attempt, after saying that `what` (`split 3 is tried again`) comes and why; `stop` ends the wait.
    /// Whether there is another attempt.
    pub async fn wait(&mut self, what: &str, error: &Error, stop: &CancellationToken, tell: impl Fn(&str)) -> bool {
        let Some(wait) = self.next() else { return false };
        tell(&format!("{what} in {} s: {}", wait.as_secs_f64(), error.full()));
        let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        true
    }

    /// Does `work` until it succeeds, or fails for good: with a fault that by `passes` stays, after `stop`, or at the last
    /// attempt. `what` names it (`planning orders`).
    ///
    /// # Errors
    /// Those of the last attempt.
    pub async fn step<T, F>(
        &mut self,
        what: &str,
        stop: &CancellationToken,
        tell: impl Fn(&str),
        passes: impl Fn(&Error) -> bool,
        mut work: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let what = format!("{what} is tried again");
        loop {
            let error = match work().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if stop.is_cancelled() || !passes(&error) || !self.wait(&what, &error, stop, &tell).await {
                return Err(error);
            }
        }
    }
}

/// Up to a quarter less: splits that failed together, for want of connections, are not to come back together.
fn spread(wait: Duration) -> Duration {
    let most = u64::try_from(wait.as_millis() / 4).unwrap_or(u64::MAX);
    wait - Duration::from_millis(rand::random_range(0..=most))
}

/// Which faults pass in a step with which a run may be the first to ask a server for something: those of the way to it
/// only once it is known to be there, by `reached` or by a fault of another kind.
pub fn once_reached(reached: bool) -> impl Fn(&Error) -> bool {
    let reached = AtomicBool::new(reached);
    move |error| {
        // Whoever could not connect names the server.
        let there = error.context().iter().all(|(key, _)| *key != "server");
        (reached.fetch_or(there, Relaxed) || there) && error.is_retryable()
    }
}

/// The fault of a run that has reached nothing yet: where no server answers the address is wrong as a rule, and to run again
/// no help. One that answers gives a code.
pub fn unreached(error: Error) -> Error {
    let has = |names: &[&str]| error.context().iter().any(|(key, _)| names.contains(key));
    let silent = error.kind() == ErrorKind::Unreachable && has(&["server"]) && !has(&["sqlstate", "code"]);
    if silent { error.retryable(false) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(times: u32, interval: Duration) -> Retries {
        Retries::new(Retry { times, interval, max_interval: interval * 3 })
    }

    fn lost() -> Error {
        Error::new(ErrorKind::Unreachable, "the connection broke")
    }

    #[test]
    fn waits_grow_to_the_longest_and_end() {
        let seconds = Duration::from_secs;
        let mut retries = retry(4, seconds(1));
        let waits: Vec<_> = std::iter::from_fn(|| retries.next()).collect();
        assert_eq!(waits.len(), 4);
        for (wait, full) in waits.into_iter().zip([1, 2, 3, 3].map(seconds)) {
            assert!((full * 3 / 4..=full).contains(&wait), "{wait:?} of {full:?}");
        }
    }

    #[test]
    fn waits_that_begin_together_end_apart() {
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| retry(1, Duration::from_secs(30)).next()).collect();
        assert!(waits.len() > 1, "{waits:?}");
    }

    #[test]
    fn a_server_is_reached_once_a_fault_is_not_of_the_way_to_it() {
        let away = || lost().with("server", "nowhere:5432");
        let passes = once_reached(false);
        assert_eq!([away(), away(), lost(), away()].map(|error| passes(&error)), [false, false, true, true]);
        assert!(!passes(&lost().retryable(false)));
        assert!(once_reached(true)(&away()));
    }

    #[test]
    fn to_run_again_is_no_help_where_no_server_ever_answered() {
        let away = || lost().with("server", "nowhere:5432");
        assert!(!unreached(away()).is_retryable());
        assert!(unreached(away().with("sqlstate", "53300")).is_retryable(), "it has no free connection");
        assert!(unreached(lost()).is_retryable(), "it was connected");
    }

    #[tokio::test]
    async fn a_step_is_done_again_while_its_fault_passes() {
        let tries = |results: Vec<Result<u8>>| {
            let mut results = results.into_iter();
            move || std::future::ready(results.next().unwrap())
        };
        let stop = CancellationToken::new();
        let said = std::sync::Mutex::new(Vec::new());
        let tell = |text: &str| said.lock().unwrap().push(text.to_owned());
        let step = async |results| {
            retry(2, Duration::from_millis(1)).step("asking", &stop, tell, Error::is_retryable, tries(results)).await
        };
        assert_eq!(step(vec![Err(lost()), Err(lost()), Ok(1)]).await.unwrap(), 1);
        assert_eq!(
            *said.lock().unwrap(),
            [1, 2].map(|n| format!("asking is tried again in 0.00{n} s: the connection broke"))
        );
        assert_eq!(step(vec![Err(lost()), Err(lost()), Err(lost())]).await.unwrap_err().kind(), ErrorKind::Unreachable);
        assert_eq!(step(vec![Err(Error::config("no"))]).await.unwrap_err().kind(), ErrorKind::Config);
        stop.cancel();
        assert_eq!(step(vec![Err(lost())]).await.unwrap_err().kind(), ErrorKind::Unreachable);
    }
}
