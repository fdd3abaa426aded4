//! An onlooker who reads the tables of a target all the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::place::Side;

/// Looks until it is told to stop.
pub struct Onlooker {
    stop: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<Vec<BTreeSet<String>>>,
}

impl Onlooker {
    pub fn start(tables: Vec<Side>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn({
            let stop = stop.clone();
            async move {
                let mut seen = vec![BTreeSet::new(); tables.len()];
                while !stop.load(Relaxed) {
                    for (table, seen) in tables.iter().zip(&mut seen) {
                        seen.extend(table.glance().await);
                    }
                    tokio::time::sleep(Duration::from_millis(15)).await;
                }
                seen
            }
        });
        Self { stop, looking }
    }

    /// All that was seen of each table.
    pub async fn seen(self) -> Vec<BTreeSet<String>> {
        self.stop.store(true, Relaxed);
        self.looking.await.unwrap()
    }
}
