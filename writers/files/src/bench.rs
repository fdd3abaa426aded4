//! What the workspace's benches measure; no part of the connector.

use arrow::array::RecordBatch;
use parquet::basic::Compression;
use weir_core::{Error, Result};

use crate::groups::Groups;

/// A file of one batch, with the default compression.
///
/// # Errors
/// Columns that Parquet does not have.
pub fn parquet(batch: &RecordBatch) -> Result<Vec<u8>> {
    let compression = Compression::ZSTD(Default::default());
    let file = Groups::new(batch.schema(), compression, Some(batch)).and_then(|mut groups| {
        groups.write(batch)?;
        groups.into_inner()
    });
    file.map_err(|e| Error::internal("no Parquet file").because(e))
}
