//! Rows of the server become batches, and those that cannot be decoded are set aside.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::mysql::MySqlRow;
use weir_core::{DirtyRow, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Result};
use weir_mysql::from_sqlx;

use crate::decode::Decoder;
use crate::numbers::Bad;

fn cell(row: &MySqlRow, place: usize) -> Result<Option<&[u8]>> {
    row.try_get_unchecked::<Option<&[u8]>, _>(place).map_err(from_sqlx)
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

    pub(crate) fn bytes_of(&self, row: &MySqlRow, places: &[usize]) -> usize {
        let variable = self.decoders.iter().zip(places).filter(|(d, _)| d.is_variable());
        self.width + variable.map(|(_, place)| cell(row, *place).ok().flatten().map_or(0, <[u8]>::len)).sum::<usize>()
    }

    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.rows > 0 && (self.rows >= MAX_BATCH_ROWS || self.bytes + more > MAX_BATCH_BYTES)
    }

    pub(crate) fn append(&mut self, row: &MySqlRow, places: &[usize], bytes: usize) -> Result<Option<DirtyRow>> {
        let mut bad = None;
        for (i, (decoder, place)) in self.decoders.iter_mut().zip(places).enumerate() {
            if let Err(reason) = decoder.append(cell(row, *place)?) {
                bad.get_or_insert((i, reason));
            }
        }
        self.rows += 1;
        self.bytes += bytes;
        let Some((at, reason)) = bad else { return Ok(None) };
        self.rejected.push(self.rows - 1);
        let mut values = Map::new();
        for (field, place) in self.schema.fields().iter().zip(places) {
            values.insert(field.name().clone(), cell(row, *place)?.map_or(Value::Null, shown));
        }
        let column = self.schema.field(at).name().clone();
        let reason = match reason {
            Bad::ZeroDate => "no calendar has this date; `zeroDate: null` reads such dates as NULL",
            Bad::Value(reason) => reason,
        };
        let value = values.get(&column).and_then(Value::as_str).unwrap_or_default();
        let short: String = value.chars().take(100).collect();
        let reason = format!("`{short}`: {reason}");
        Ok(Some(DirtyRow { values, column: Some(column), reason }))
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

/// A cell as the quarantine keeps it: text, or bytes in hexadecimal.
fn shown(cell: &[u8]) -> Value {
    match std::str::from_utf8(cell) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => Value::String(cell.iter().map(|b| format!("{b:02x}")).collect()),
    }
}
