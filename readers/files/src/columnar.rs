//! Parquet and Arrow IPC files.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use weir_core::{BatchSender, Error, ErrorKind, Gather, ReadRequest, Result, within_bounds};
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
    let groups = groups.map(|(from, to)| (from..to).collect());
    let mut reader = reader.start(groups, &wanted, true).await?;
    let target = request.arrow_schema();
    let (mut gather, mut sent) = (Gather::default(), 0);
    'all: while let Some(batch) = reader.next().await? {
        // Cut before it is converted: what a dictionary holds once stands in every row afterwards.
        for batch in within_bounds(batch) {
            let columns = positions.iter().zip(target.fields()).map(|(at, to)| {
                let from = batch.schema_ref().field(*at);
                convert(batch.column(*at), from, to).map_err(|e| arrow_error(e, file).with("column", from.name()))
            });
            let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&target), columns, &options)?;
            sent += batch.num_rows() as u64;
            for piece in within_bounds(batch) {
                if let Some(full) = gather.push(piece)? {
                    output.send(full).await?;
                }
            }
            if request.limit.is_some_and(|limit| sent >= limit) {
                break 'all;
            }
        }
    }
    if let Some(last) = gather.finish()? {
        output.send(last).await?;
    }
    Ok(())
}
