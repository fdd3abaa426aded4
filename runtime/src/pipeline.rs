//! What happens to a batch between the reader and the channel: transformers, then one conversion a column.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use serde::{Deserialize, Serialize};
use weir_core::convert::{Conversion, ConvertOptions};
use weir_core::{
    DirtyRow, Error, ErrorKind, MAX_BATCH_BYTES, MAX_BATCH_ROWS, ReadRequest, Result, ResultExt, WritePlan,
};

use crate::convert::ConvertSpec;
use crate::dirty::Side;
use crate::transform::{TransformerSpec, Transformers};

/// The most rows that transformers see at once: `dx_pad` may make a row many times wider.
const TRANSFORMED_ROWS: usize = 4096;

/// The serialisable recipe of a [`Pipeline`], fixed when the entry is planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineSpec {
    /// What the reader delivers.
    pub read: ReadRequest,
    /// Applied to the reader's columns, in order.
    pub transformers: Vec<TransformerSpec>,
    /// Where each of the writer's columns comes from.
    pub columns: Vec<From>,
    /// How values are converted.
    pub convert: ConvertSpec,
}

/// Where one of the writer's columns comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// A column of the (transformed) batch, by index.
    Column(usize),
    /// The same text in every row.
    Constant(String),
    /// The same text in every row of one source table, as (table, text).
    PerTable(Vec<(String, String)>),
    /// NULL in every row.
    Null,
}

/// Turns the reader's batches into the writer's.
pub struct Pipeline {
    transformers: Option<Transformers>,
    columns: Vec<Source>,
    schema: SchemaRef,
}

enum Source {
    Column(usize, Conversion),
    /// One converted value, repeated for each batch.
    Constant(ArrayRef),
}

/// What became of a batch.
pub struct Moved {
    /// The rows that go on, with the writer's columns.
    pub batch: RecordBatch,
    /// Rows that a filter dropped.
    pub filtered: u64,
}

impl Pipeline {
    /// Compiles a recipe for a writer, for the rows of one source table; any of them will do where nothing is to flow.
    ///
    /// # Errors
    /// A conversion that is impossible: planning has already found those, so here they mean a changed plan.
    pub fn new(spec: &PipelineSpec, plan: &WritePlan, table: Option<&str>) -> Result<Self> {
        let options = spec.convert.options()?;
        let read: Vec<Field> = spec.read.columns.iter().map(|c| c.field.clone()).collect();
        let transformers = match spec.transformers.is_empty() {
            true => None,
            false => Some(Transformers::plan(&spec.transformers, &read, &options)?),
        };
        let fields = transformers.as_ref().map_or(read.as_slice(), |t| t.output_fields());
        let columns = spec
            .columns
            .iter()
            .zip(&plan.columns)
            .map(|(from, planned)| match from {
                From::Column(index) => {
                    let field = fields.get(*index).ok_or_else(|| Error::internal("a plan names a column too many"))?;
                    let conversion = Conversion::plan(field, &planned.input, &options);
                    Ok(Source::Column(*index, conversion.context("column", &planned.name)?))
                }
                From::Constant(text) => {
                    constant(text, &planned.input, &options).context("column", &planned.name).map(Source::Constant)
                }
                From::Null => Ok(Source::Constant(new_null_array(planned.input.data_type(), 1))),
                From::PerTable(texts) => {
                    let own = texts.iter().find(|(of, _)| table.is_none_or(|table| table == of));
                    let (_, text) = own.ok_or_else(|| Error::internal("a column has no value for this table"))?;
                    constant(text, &planned.input, &options).context("column", &planned.name).map(Source::Constant)
                }
            })
            .collect::<Result<_>>()?;
        Ok(Self { transformers, columns, schema: plan.input_schema() })
    }

    /// The most rows to apply at once, so that what transformers and constants add keeps a batch within its bounds.
    pub fn max_rows(&self) -> usize {
        let widest = self.columns.iter().map(|source| match source {
            Source::Column(..) => 0,
            Source::Constant(value) => value.get_buffer_memory_size(),
        });
        let by_constants = MAX_BATCH_BYTES / widest.sum::<usize>().max(1);
        by_constants.clamp(1, if self.transformers.is_some() { TRANSFORMED_ROWS } else { MAX_BATCH_ROWS })
    }

    /// Turns one batch into the writer's form; rows that do not go on are given to `dirty` one by one, with who refused them.
    ///
    /// # Errors
    /// Those of `dirty`, after which it is given no more; else faults of Weir only: what is wrong with a row makes it dirty.
    pub fn apply(&self, batch: RecordBatch, mut dirty: impl FnMut(Side, DirtyRow) -> Result<()>) -> Result<Moved> {
        let mut filtered = 0;
        let batch = match &self.transformers {
            None => batch,
            Some(transformers) => {
                let transformed = transformers.apply(&batch)?;
                transformed.dirty.into_iter().try_for_each(|row| dirty(Side::Transform, row))?;
                filtered = transformed.filtered;
                transformed.batch
            }
        };
        let mut faults: BTreeMap<usize, (String, String)> = BTreeMap::new();
        let mut columns = Vec::with_capacity(self.columns.len());
        for source in &self.columns {
            columns.push(match source {
                Source::Constant(value) => repeat(value, batch.num_rows())?,
                Source::Column(index, conversion) => {
                    let converted = conversion.apply(batch.column(*index))?;
                    for fault in converted.faults {
                        // Named as the source names it, for so the row's values are.
                        let name = || batch.schema_ref().field(*index).name().clone();
                        faults.entry(fault.row).or_insert_with(|| (name(), fault.reason));
                    }
                    converted.column
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let mut moved = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        if !faults.is_empty() {
            let keep: BooleanArray = (0..batch.num_rows()).map(|row| Some(!faults.contains_key(&row))).collect();
            moved = filter_record_batch(&moved, &keep)?;
            for (row, (column, reason)) in faults {
                // The values as the source gave them: what did not fit is what one wants to see.
                dirty(Side::Convert, DirtyRow::of_batch(&batch, row, Some(column), reason))?;
            }
        }
        Ok(Moved { batch: moved, filtered })
    }
}

/// A constant of a mapping as one value of the writer's type.
fn constant(text: &str, input: &Field, options: &ConvertOptions) -> Result<ArrayRef> {
    let field = Field::new(input.name(), DataType::Utf8, true);
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let converted = Conversion::plan(&field, input, options)?.apply(&column)?;
    match converted.faults.into_iter().next() {
        Some(fault) => {
            Err(Error::new(ErrorKind::Schema, format!("the constant `{text}` does not fit: {}", fault.reason)))
        }
        None => Ok(converted.column),
    }
}

fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    if value.is_null(0) {
        return Ok(arrow::array::new_null_array(value.data_type(), rows));
    }
    let indices = arrow::array::UInt32Array::from(vec![0u32; rows]);
    Ok(arrow::compute::take(value, &indices, None)?)
}

/// The one text that a mapping's constant is offered to the writer as.
pub fn constant_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}
