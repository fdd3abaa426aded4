//! How long a run may believe that its leases are still its own.
//!
//! A machine that slept, or a process that was stopped, goes on where it was and knows nothing of the time between. So before
//! anything lands for good the clock on the wall is looked at: whoever was away for longer than a lease lasts waits until
//! his leases are renewed, or he learns that they are another run's.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// How long a lease outlives its run.
pub(crate) const SECONDS: u64 = 60;

/// When the leases were last known to be the run's.
#[derive(Default)]
pub(crate) struct Trust {
    /// `None` while it has none.
    seen: watch::Sender<Option<SystemTime>>,
}

impl Trust {
    /// They were the run's at that moment.
    pub(crate) fn renew(&self, at: SystemTime) {
        self.seen.send_replace(Some(at));
    }

    /// Returns when they are the run's, as far as one can know; whoever learns that they are not stops the run.
    pub(crate) async fn wait(&self) {
        let lasts = |at: SystemTime| at.elapsed().is_ok_and(|since| since < Duration::from_secs(SECONDS));
        // The sender is here: it does not end.
        let _ = self.seen.subscribe().wait_for(|seen| seen.is_none_or(lasts)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn whoever_was_away_for_long_waits_until_the_leases_are_renewed() {
        let trust = Trust::default();
        let goes_on = || trust.wait().now_or_never().is_some();
        assert!(goes_on(), "without leases");
        trust.renew(SystemTime::now() - Duration::from_secs(30));
        assert!(goes_on());
        trust.renew(SystemTime::now() - Duration::from_secs(61));
        let mut waiting = Box::pin(trust.wait());
        assert!((&mut waiting).now_or_never().is_none());
        trust.renew(SystemTime::now());
        assert!(waiting.now_or_never().is_some());
    }
}
