//! Stopping one table of a run, while the others go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// A handle on the tables of a run: the caller keeps a clone of what it puts into
/// [`RunOptions::tables`](crate::RunOptions::tables).
#[derive(Debug, Clone, Default)]
pub struct TableStops(Arc<Mutex<BTreeMap<String, CancellationToken>>>);

impl TableStops {
    /// Stops a table, by the name that its target has in plan and report (`shop.orders`). What it has staged is taken back,
    /// and it is reported as stopped. `false` when the run has no such table (yet), or it is published. With
    /// `publish: all`, a table that waits for the others keeps them back; once their publication has begun, none is stopped.
    pub fn stop(&self, table: &str) -> bool {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).get(table) {
            Some(token) => {
                token.cancel();
                true
            }
            None => false,
        }
    }

    /// The tables that can be stopped.
    pub fn tables(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) fn add(&self, table: String, token: CancellationToken) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table, token);
    }

    pub(crate) fn remove(&self, table: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
    }
}
