//! What the workspace's benches measure; no part of the connector.

use arrow::array::RecordBatch;
use weir_core::Result;
use weir_mysql::Kind;

use crate::encode::{Encoder, Style};

/// The lines of LOAD DATA for a batch of one column.
///
/// # Errors
/// A column that MySQL does not take.
pub fn load_lines(batch: &RecordBatch, type_text: &str) -> Result<Vec<u8>> {
    let kinds = [Kind::parse(type_text)];
    let encoder = Encoder::new(batch, &kinds, false)?;
    let mut lines = Vec::with_capacity(weir_core::batch_bytes(batch) * 5 / 4 + batch.num_rows() * 16);
    (0..batch.num_rows()).for_each(|row| encoder.row(row, Style::Load, &[], &mut lines));
    Ok(lines)
}
