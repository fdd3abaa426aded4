//! Parquet and Arrow IPC files.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use weir_core::{BatchSender, Error, ErrorKind, MAX_BATCH_BYTES, MAX_BATCH_ROWS, ReadRequest, Result, batch_bytes};
use weir_files::{ColumnarReader, arrow_error};

use crate::canonical::{canonical, convert};

/// Reads the columns of `request` from an opened file. `names` are the columns' names in files like this one.
pub(crate) async fn read(
    reader: ColumnarReader,
    file: &str,
    groups: Option<(usize, usize)>,
    names: &[&str],
    request: &ReadRequest,
    output: &mut dyn BatchSender,
) -> Result<()> {
    let schema = reader.schema().clone();
    let mut indexes = Vec::new();
    for (name, wanted) in names.iter().zip(&request.columns) {
        let differs = |message: String| Error::new(ErrorKind::Schema, message).with("column", name).with("file", file);
        let index =
            schema.index_of(name).map_err(|_| differs("the file lacks this column, which others have".into()))?;
        let here = canonical(schema.field(index));
        if here.data_type() != wanted.field.data_type() {
            let (here, there) = (here.data_type(), wanted.field.data_type());
            return Err(differs(format!(
                "the column is {here} in this file and {there} in the first: read them apart"
            )));
        }
        indexes.push(index);
    }
    let mut wanted = indexes.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let positions: Vec<usize> = indexes.iter().filter_map(|i| wanted.binary_search(i).ok()).collect();
    // Rows are fetched by the number that is likely to fill a batch, so that none has to be cut into slivers.
    let per_row = reader.groups().and_then(|groups| {
        let (rows, bytes) = groups.iter().fold((0, 0), |(r, b), (rows, bytes)| (r + rows, b + bytes));
        bytes.checked_div(rows)
    });
    let rows = (MAX_BATCH_BYTES as u64 / 2 / per_row.unwrap_or(128).max(1)).clamp(1, MAX_BATCH_ROWS as u64 / 2);
    let groups = groups.map(|(from, to)| (from..to).collect());
    let mut reader = reader.start(groups, &wanted, rows as usize).await?;
    let target = request.arrow_schema();
    let mut sent = 0;
    while let Some(batch) = reader.next().await? {
        let columns = positions.iter().zip(&indexes).zip(target.fields()).map(|((at, index), to)| {
            convert(batch.column(*at), schema.field(*index), to)
                .map_err(|e| arrow_error(e, file).with("column", schema.field(*index).name()))
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&target), columns, &options)?;
        sent += batch.num_rows() as u64;
        for piece in within_bounds(batch) {
            output.send(piece).await?;
        }
        if request.limit.is_some_and(|limit| sent >= limit) {
            break;
        }
    }
    Ok(())
}

/// Halves a batch until each piece is within the bounds of the contract; a row alone may be larger.
fn within_bounds(batch: RecordBatch) -> Vec<RecordBatch> {
    let mut pieces = Vec::new();
    let mut waiting = vec![batch];
    while let Some(batch) = waiting.pop() {
        let rows = batch.num_rows();
        if rows > 1 && (rows > MAX_BATCH_ROWS || batch_bytes(&batch) > MAX_BATCH_BYTES) {
            waiting.push(batch.slice(rows / 2, rows - rows / 2));
            waiting.push(batch.slice(0, rows / 2));
        } else if rows > 0 {
            pieces.push(batch);
        }
    }
    pieces
}
