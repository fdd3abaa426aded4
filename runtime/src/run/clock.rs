//! `setting.timeout`: the clock of a run, which starts before anything else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind};

/// Ends a run that takes too long.
pub(super) struct Clock {
    seconds: Option<u64>,
    passed: Arc<AtomicBool>,
    ticking: Option<JoinHandle<()>>,
}

impl Clock {
    /// Fires `stop` when so many seconds have passed.
    pub fn start(seconds: Option<u64>, stop: &CancellationToken) -> Self {
        let passed = Arc::new(AtomicBool::new(false));
        let ticking = seconds.map(|seconds| {
            let (passed, stop) = (passed.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                passed.store(true, Relaxed);
                stop.cancel();
            })
        });
        Self { seconds, passed, ticking }
    }

    /// The run has done its work in time.
    pub fn stop(&self) {
        if let Some(ticking) = &self.ticking {
            ticking.abort();
        }
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
