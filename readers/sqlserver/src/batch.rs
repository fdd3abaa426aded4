//! Rows of the server become batches, and those that cannot be decoded are set aside.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};
use tiberius::{ColumnData, Row};
use weir_core::{DirtyRow, Error, ErrorKind, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Result};

use crate::decode::{Decoder, FOREIGN, length, shown};

#[cold]
fn foreign(column: &str) -> Error {
    let message = format!("{FOREIGN}: the table was altered after the run had looked at it; run the job again");
    Error::new(ErrorKind::Schema, message).with("column", column)
}

/// A batch that grows row by row.
pub(crate) struct Building {
    schema: SchemaRef,
    decoders: Vec<Decoder>,
    width: usize,
    rows: usize,
    bytes: usize,
    /// Rows that were rejected and must not be sent.
    rejected: Vec<usize>,
}

impl Building {
    pub(crate) fn new(schema: SchemaRef, decoders: Vec<Decoder>) -> Self {
        let width = decoders.iter().map(Decoder::width).sum();
        Self { schema, decoders, width, rows: 0, bytes: 0, rejected: Vec::new() }
    }

    pub(crate) fn bytes_of(&self, row: &Row) -> usize {
        self.width + row.cells().map(|(_, cell)| length(cell)).sum::<usize>()
    }

    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.rows > 0 && (self.rows >= MAX_BATCH_ROWS || self.bytes + more > MAX_BATCH_BYTES)
    }

    /// Appends a row of as many cells as there are decoders; a statement that stands for itself has all its columns, in the
    /// order of `places`.
    pub(crate) fn append(&mut self, row: &Row, places: &[usize], bytes: usize) -> Result<Option<DirtyRow>> {
        let mut cells = row.cells().map(|(_, cell)| cell);
        let mut bad = None;
        let in_order = places.iter().enumerate().all(|(i, place)| i == *place);
        let all: Vec<&ColumnData<'static>> = if in_order { Vec::new() } else { cells.by_ref().collect() };
        for (i, (decoder, place)) in self.decoders.iter_mut().zip(places).enumerate() {
            let cell = if in_order { cells.next() } else { all.get(*place).copied() };
            let cell = cell.ok_or_else(|| Error::internal("the server sent fewer columns than it had described"))?;
            match decoder.append(cell) {
                // It would be so in every row.
                Err(FOREIGN) => return Err(foreign(self.schema.field(i).name())),
                Err(reason) => drop(bad.get_or_insert((i, reason))),
                Ok(()) => {}
            }
        }
        self.rows += 1;
        self.bytes += bytes;
        let Some((at, reason)) = bad else { return Ok(None) };
        self.rejected.push(self.rows - 1);
        let cells: Vec<_> = row.cells().map(|(_, cell)| cell).collect();
        let mut values = Map::new();
        for (field, place) in self.schema.fields().iter().zip(places) {
            values.insert(field.name().clone(), cells.get(*place).map_or(Value::Null, |cell| shown(cell)));
        }
        let column = self.schema.field(at).name().clone();
        let value = values.get(&column).and_then(Value::as_str).unwrap_or_default();
        let short: String = value.chars().take(100).collect();
        Ok(Some(DirtyRow { reason: format!("`{short}`: {reason}"), values, column: Some(column) }))
    }

    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = self.decoders.iter_mut().map(Decoder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let mut batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        if !self.rejected.is_empty() {
            let mut keep = vec![true; self.rows];
            self.rejected.drain(..).for_each(|row| keep[row] = false);
            batch = filter_record_batch(&batch, &BooleanArray::from(keep))?;
        }
        (self.rows, self.bytes) = (0, 0);
        Ok(Some(batch).filter(|b| b.num_rows() > 0))
    }
}
