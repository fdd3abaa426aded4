//! Bringing batches into the form that a writer's plan asks for, by the engine's own exact conversions.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use weir_core::convert::{Conversion, ConvertOptions};
use weir_core::{Error, ErrorKind, Result, ResultExt};

/// The batch under the names and types of `schema`. A value that does not fit is an error here, not a dirty row: the
/// rows that a test gives are meant to fit.
pub(super) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let (have, want) = (batch.num_columns(), schema.fields().len());
        return Err(Error::internal(format!("the plan has {want} columns, the batches have {have}")));
    }
    let options = ConvertOptions::default();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for ((column, have), want) in batch.columns().iter().zip(batch.schema_ref().fields()).zip(schema.fields()) {
        let conversion = Conversion::plan(have, want, &options).context("column", want.name())?;
        let converted = conversion.apply(column).context("column", want.name())?;
        if let Some(fault) = converted.faults.first() {
            let message = format!("row {} does not fit: {}", fault.row, fault.reason);
            return Err(Error::new(ErrorKind::Data, message).with("column", want.name()));
        }
        columns.push(converted.column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
