//! The clock of a run: `setting.timeout`, which begins before anything else does, and the time since it was told to stop.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind};

/// Ends a run that takes too long, and knows how long ago it was stopped.
pub(super) struct Clock {
    seconds: Option<u64>,
    passed: Arc<AtomicBool>,
    stop: CancellationToken,
    stopped: Arc<OnceLock<Instant>>,
    ticking: Vec<JoinHandle<()>>,
}

impl Clock {
    /// Fires `stop` when so many seconds have passed.
    pub fn start(seconds: Option<u64>, stop: &CancellationToken) -> Self {
        let (passed, stopped) = (Arc::<AtomicBool>::default(), Arc::<OnceLock<_>>::default());
        let timeout = seconds.map(|seconds| {
            let (passed, stop) = (passed.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                passed.store(true, Relaxed);
                stop.cancel();
            })
        });
        let watch = tokio::spawn({
            let (stopped, stop) = (stopped.clone(), stop.clone());
            async move {
                stop.cancelled().await;
                stopped.get_or_init(Instant::now);
            }
        });
        let ticking = timeout.into_iter().chain([watch]).collect();
        Self { seconds, passed, stop: stop.clone(), stopped, ticking }
    }

    /// Waits until so much time has passed since the run was stopped, from outside or by its timeout: for ever, if it is not.
    pub async fn since_stop(&self, time: Duration) {
        self.stop.cancelled().await;
        tokio::time::sleep_until(*self.stopped.get_or_init(Instant::now) + time).await;
    }

    /// Where the moment of the stop stands, once there was one.
    pub fn stopped(&self) -> Arc<OnceLock<Instant>> {
        self.stopped.clone()
    }

    /// The run has done its work in time.
    pub fn stop(&self) {
        self.ticking.iter().for_each(JoinHandle::abort);
    }

    /// What to say of a run that was stopped for it.
    pub fn fault(&self) -> Option<Error> {
        let seconds = self.seconds.filter(|_| self.passed.load(Relaxed))?;
        let text = format!("the run took longer than setting.timeout, {seconds} s, and was stopped");
        Some(Error::new(ErrorKind::Timeout, text))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_is_counted_from_the_stop_on_whoever_asks_how_late() {
        let stop = CancellationToken::new();
        let clock = Clock::start(None, &stop);
        let short = Duration::from_millis(400);
        assert!(tokio::time::timeout(short, clock.since_stop(Duration::ZERO)).await.is_err(), "nobody has stopped it");
        stop.cancel();
        tokio::time::sleep(short * 2).await;
        let asked = Instant::now();
        clock.since_stop(short).await;
        assert!(asked.elapsed() < short, "{:?}", asked.elapsed());
    }
}
