//! How much memory the row groups of Parquet files may take that a run gathers at once.
//!
//! A row group is in memory until it is complete, twice for the moment in which it is put together, and each channel has
//! one. So they share what a run may use, whatever the number of channels: few channels make large row groups, many make
//! smaller ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// For all that are open.
const ALL: usize = 64 << 20;
/// For one alone.
const MOST: usize = 32 << 20;
/// Smaller ones are not worth reading.
const LEAST: usize = 8 << 20;

/// Counts the row groups that are open in a run.
#[derive(Debug, Default)]
pub(crate) struct RowGroups(AtomicUsize);

/// One that is open.
#[derive(Debug)]
pub(crate) struct Share(Arc<RowGroups>);

impl Share {
    pub(crate) fn new(all: &Arc<RowGroups>) -> Self {
        all.0.fetch_add(1, Relaxed);
        Self(all.clone())
    }

    /// The bytes at which it has to be ended.
    pub(crate) fn most(&self) -> usize {
        (ALL / self.0.0.load(Relaxed).max(1)).clamp(LEAST, MOST)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_share_what_one_may_not_have_alone() {
        let all = Arc::default();
        let one = Share::new(&all);
        assert_eq!(one.most(), MOST);
        let others: Vec<_> = (0..3).map(|_| Share::new(&all)).collect();
        assert_eq!(one.most(), ALL / 4);
        drop(others);
        assert_eq!(one.most(), MOST);
    }
}
