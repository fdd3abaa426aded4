//! The foreign keys that a run has dropped, for those who have read of them before.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_core::KeyDefinition;

/// Keys by their tables and their names. `T` is what tells a server's tables apart.
#[derive(Debug)]
pub struct DroppedKeys<T>(Mutex<HashSet<(T, String)>>);

impl<T> Default for DroppedKeys<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Eq + Hash> DroppedKeys<T> {
    fn all(&self) -> MutexGuard<'_, HashSet<(T, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys of a table are dropped.
    pub fn add(&self, table: &T, keys: &[KeyDefinition]) {
        self.all().extend(keys.iter().map(|one| (table.clone(), one.key.name.clone())));
    }

    /// A key is back.
    pub fn remove(&self, table: &T, key: &KeyDefinition) {
        self.all().remove(&(table.clone(), key.key.name.clone()));
    }

    /// Whether the key of this name is dropped.
    pub fn contains(&self, table: &T, key: &str) -> bool {
        self.all().contains(&(table.clone(), key.to_owned()))
    }
}
