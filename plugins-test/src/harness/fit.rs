//! Bringing batches into the form that a writer's plan asks for, where Arrow's own exact cast can.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use weir_core::field::{extension, same_representation, type_text};
use weir_core::{Error, Result, ResultExt};

/// The batch under the names and types of `schema`. The engine's own conversions are not done here: a plain type is
/// cast as Arrow casts it, where no value is lost, and everything else is an error that says what to offer.
pub(super) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let (have, want) = (batch.num_columns(), schema.fields().len());
        return Err(Error::internal(format!("the plan has {want} columns, the batches have {have}")));
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(batch.num_columns());
    for ((column, have), want) in batch.columns().iter().zip(batch.schema_ref().fields()).zip(schema.fields()) {
        let plain = extension(have).is_none() && extension(want).is_none();
        columns.push(if same_representation(have, want) {
            column.clone()
        } else if plain {
            cast_with_options(column, want.data_type(), &exact).context("column", want.name())?
        } else {
            let (have, asked) = (type_text(have), type_text(want));
            let message = format!("the writer asks for {asked} and the test offers {have}: offer {asked}");
            return Err(Error::internal(message).with("column", want.name()));
        });
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
