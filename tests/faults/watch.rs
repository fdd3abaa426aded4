//! An onlooker who reads the target all the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::place::Side;

/// Looks until it is told to stop.
pub struct Onlooker {
    stop: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<BTreeSet<String>>,
}

impl Onlooker {
    pub fn start(side: Arc<Side>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn({
            let stop = stop.clone();
            async move {
                let mut seen = BTreeSet::new();
                while !stop.load(Relaxed) {
                    seen.extend(side.glance().await);
                    tokio::time::sleep(Duration::from_millis(15)).await;
                }
                seen
            }
        });
        Self { stop, looking }
    }

    /// All that was seen.
    pub async fn seen(self) -> BTreeSet<String> {
        self.stop.store(true, Relaxed);
        self.looking.await.unwrap()
    }
}
