//! Transformers: what DataX jobs do to rows on their way, column by column and in order.
//!
//! | name | paras | does | NULL |
//! |-|-|-|-|
//! | `dx_substr` | start, length | keeps `length` characters from `start` | stays NULL |
//! | `dx_pad` | `l` or `r`, length, text | fills up to `length` characters, or cuts off what is beyond | counts as empty |
//! | `dx_replace` | start, length, text | puts `text` for `length` characters from `start` | stays NULL |
//! | `dx_filter` | operator, value | drops the rows that match | see below |
//! | `dx_digest` | `md5` or `sha1`, `toUpperCase` or `toLowerCase` | the digest in hexadecimal digits | counts as empty |
//!
//! `columnIndex` counts the reader's columns from 0. Positions and lengths count characters; where a position lies
//! beyond the end of a value, its row is a dirty one. A touched column becomes text; one that a filter only looks at
//! stays as it is.
//!
//! `dx_filter` drops the rows that match: `like` and `not like` take a regular expression that is to match from start to
//! end; `>`, `>=`, `<`, `<=` keep NULL; `=` and `==` drop NULL only for the value `null`, `not like` always, and `!=` for
//! every other value.

mod digest;
mod filter;
mod parameters;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::config::nearest;
use weir_core::convert::{ConvertOptions, to_text};
use weir_core::{DirtyRow, Faults, Result};

use filter::Filter;
use parameters::Parameters;
use text::TextFunction;

/// One transformer as the job names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerSpec {
    /// Its name: `dx_replace`.
    pub name: String,
    /// Its parameters as they stand: `{"columnIndex": 0, "paras": ["1", "3"]}`.
    pub parameter: Value,
    /// Where it stands in the file.
    pub pointer: String,
}

/// The names of all transformers.
pub const NAMES: [&str; 5] = ["dx_substr", "dx_pad", "dx_replace", "dx_filter", "dx_digest"];

/// A compiled list of transformers.
#[derive(Debug)]
pub struct Transformers {
    steps: Vec<Step>,
    fields: Vec<Field>,
    touched: Vec<bool>,
    options: ConvertOptions,
}

#[derive(Debug)]
struct Step {
    column: usize,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Text(TextFunction),
    Filter(Filter),
}

/// What became of a batch.
#[derive(Debug)]
pub struct Transformed {
    /// The rows that go on.
    pub batch: RecordBatch,
    /// The rows that a transformer could not work on, with their values as they came.
    pub dirty: Vec<DirtyRow>,
    /// How many rows a filter dropped.
    pub filtered: u64,
}

impl Transformers {
    /// Compiles a job's transformers for the reader's columns, with its zone and formats for the texts of dates, times and bytes.
    ///
    /// # Errors
    /// All that is wrong with any of them, each with its place in the file.
    pub fn plan(specs: &[TransformerSpec], columns: &[Field], options: &ConvertOptions) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut planned = Self {
            steps: Vec::with_capacity(specs.len()),
            fields: columns.to_vec(),
            touched: vec![false; columns.len()],
            options: options.clone(),
        };
        for spec in specs {
            let parameters = Parameters::read(spec, columns, &mut faults);
            let action = match spec.name.to_ascii_lowercase().as_str() {
                "dx_groovy" => {
                    let message = "`dx_groovy` runs Groovy code, which is not supported: use an expression in the reader's \
                                   `column` list or a `querySql`, or the other transformers";
                    faults.add(format!("{}/name", spec.pointer), message);
                    continue;
                }
                "dx_substr" => parameters.and_then(|p| TextFunction::substr(&p, &mut faults)).map(Action::Text),
                "dx_pad" => parameters.and_then(|p| TextFunction::pad(&p, &mut faults)).map(Action::Text),
                "dx_replace" => parameters.and_then(|p| TextFunction::replace(&p, &mut faults)).map(Action::Text),
                "dx_digest" => parameters.and_then(|p| TextFunction::digest(&p, &mut faults)).map(Action::Text),
                // The field as it is at this point: an earlier transformer may have made a text of it.
                "dx_filter" => parameters
                    .and_then(|p| Filter::plan(&p, &planned.fields[p.column], options, &mut faults))
                    .map(Action::Filter),
                _ => {
                    let hint = match nearest(&spec.name, NAMES) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are: {}", NAMES.join(", ")),
                    };
                    faults
                        .add(format!("{}/name", spec.pointer), format!("no such transformer: `{}`; {hint}", spec.name));
                    continue;
                }
            };
            let Some(action) = action else { continue };
            let column = Parameters::column(spec);
            if let Action::Text(_) = action {
                planned.touched[column] = true;
                // Neither the extension nor the source's own type is true of the result.
                planned.fields[column] = Field::new(columns[column].name(), DataType::Utf8, true);
            }
            planned.steps.push(Step { column, action });
        }
        faults.or(planned)
    }

    /// The columns after the last transformer.
    pub fn output_fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether a transformer alters the column at `index`, or looks at it: then it must not come in a native form.
    pub fn touches(&self, index: usize) -> bool {
        self.steps.iter().any(|step| step.column == index)
    }

    /// Whether a transformer alters the column at `index`.
    pub fn alters(&self, index: usize) -> bool {
        self.touched.get(index).copied().unwrap_or(false)
    }

    /// Runs a batch through all transformers in order.
    ///
    /// # Errors
    /// Only for a batch of other columns than were planned for: what is wrong with a row makes it dirty.
    pub fn apply(&self, batch: &RecordBatch) -> Result<Transformed> {
        let mut columns = batch.columns().to_vec();
        let mut rows = Rows::new(batch.num_rows());
        for step in &self.steps {
            let input_field = batch.schema_ref().field(step.column);
            match &step.action {
                Action::Text(function) => {
                    let texts = self.texts(&columns[step.column], input_field, &mut rows)?;
                    let result = function.apply(&texts, |row, reason| rows.fault(row, input_field.name(), reason));
                    columns[step.column] = Arc::new(result);
                }
                Action::Filter(filter) => {
                    let column = &columns[step.column];
                    let texts = match filter.needs_text() {
                        true => Some(self.texts(column, input_field, &mut rows)?),
                        false => None,
                    };
                    filter.apply(column, texts.as_ref(), &mut rows)?;
                }
            }
        }
        let dirty = rows.dirty(batch);
        let fields: Vec<FieldRef> = batch
            .schema_ref()
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| if self.alters(i) { Arc::new(self.fields[i].clone()) } else { f.clone() })
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, batch.schema_ref().metadata().clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let mut result = RecordBatch::try_new_with_options(schema, columns, &options)?;
        if rows.left < batch.num_rows() {
            result = filter_record_batch(&result, &BooleanArray::from(rows.keep))?;
        }
        Ok(Transformed { batch: result, dirty, filtered: rows.filtered })
    }

    /// The column as texts; a row whose value has no text (bytes in another encoding) becomes dirty.
    fn texts(&self, column: &ArrayRef, field: &Field, rows: &mut Rows) -> Result<StringArray> {
        // After the first transformer the column is a text, whatever the reader's field says.
        if column.data_type() == &DataType::Utf8 {
            return Ok(column.as_string::<i32>().clone());
        }
        let converted = to_text(column, field, &self.options)?;
        for fault in converted.faults {
            rows.fault(fault.row, field.name(), fault.reason);
        }
        Ok(converted.column.as_string::<i32>().clone())
    }
}

/// Which rows of a batch are still under way. Transformers work on all of them, and what they find in a row that is out
/// already does not count.
struct Rows {
    keep: Vec<bool>,
    left: usize,
    filtered: u64,
    faults: Vec<(usize, String, String)>,
}

impl Rows {
    fn new(rows: usize) -> Self {
        Self { keep: vec![true; rows], left: rows, filtered: 0, faults: Vec::new() }
    }

    fn out(&mut self, row: usize) -> bool {
        let was_in = std::mem::replace(&mut self.keep[row], false);
        self.left -= usize::from(was_in);
        was_in
    }

    fn fault(&mut self, row: usize, column: &str, reason: String) {
        if self.out(row) {
            self.faults.push((row, column.to_owned(), reason));
        }
    }

    fn filter(&mut self, row: usize) {
        if self.out(row) {
            self.filtered += 1;
        }
    }

    fn dirty(&mut self, batch: &RecordBatch) -> Vec<DirtyRow> {
        self.faults.sort_by_key(|(row, ..)| *row);
        let faults = std::mem::take(&mut self.faults);
        faults.into_iter().map(|(row, column, reason)| DirtyRow::of_batch(batch, row, Some(column), reason)).collect()
    }
}
