//! How much a writer sends at once: the job's `batchSize` and `batchByteSize`, which are ceilings.

use arrow::array::RecordBatch;
use weir_core::{batch_bytes, slice_rows};

use crate::config::WriterConfig;

/// The most rows and bytes that go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// The most rows.
    rows: usize,
    /// The most bytes.
    bytes: usize,
}

impl Ceilings {
    /// Those of a job; none where it says nothing.
    pub fn of(config: &WriterConfig) -> Self {
        let most = |size: Option<u64>| size.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX).max(1);
        Self { rows: most(config.batch_size), bytes: most(config.batch_byte_size) }
    }

    /// Cuts a batch into slices below both; its bytes are taken as shared out evenly. No value is copied.
    pub fn cut<'a>(&self, batch: &'a RecordBatch) -> impl Iterator<Item = RecordBatch> + 'a {
        slice_rows(batch, self.slice(batch.num_rows(), batch_bytes(batch)))
    }

    fn slice(&self, rows: usize, bytes: usize) -> usize {
        rows.div_ceil(bytes.div_ceil(self.bytes).max(1)).min(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_kept() {
        let slice = |rows, bytes| {
            let config = WriterConfig { batch_size: rows, batch_byte_size: bytes, ..WriterConfig::default() };
            Ceilings::of(&config).slice(1000, 10_000)
        };
        assert_eq!(slice(None, None), 1000);
        assert_eq!(slice(Some(300), None), 300);
        assert_eq!(slice(Some(300), Some(2000)), 200);
        assert_eq!(slice(None, Some(1)), 1);
        assert_eq!(Ceilings::of(&WriterConfig::default()).slice(0, 0), 0);
    }
}
