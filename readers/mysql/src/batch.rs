//! Rows of the server become batches, and those that cannot be decoded are set aside.
//!
//! Rows are gathered where they lie in the connection's buffer, as places of cells, and then decoded a column at a time:
//! so a column's type is looked at once for some hundred cells.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};
use weir_core::{DirtyRow, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Result};
use weir_mysql::wire::Span;

use crate::decode::{Cells, Decoder};
use crate::numbers::Bad;

/// Cells that are gathered before they are decoded: their places then still lie in the nearest cache.
const GATHER: usize = 4096;

/// A batch that grows by some rows at a time.
pub(crate) struct Building {
    schema: SchemaRef,
    decoders: Vec<Decoder>,
    /// Where each decoder's cell stands in a row of the server's.
    places: Vec<usize>,
    /// How often each cell's bytes count.
    weights: Vec<u32>,
    width: usize,
    /// The places of the cells of gathered rows; those of a row that has no say yet stand at the end.
    pub(crate) cells: Vec<Span>,
    /// Gathered rows.
    gathered: usize,
    /// Decoded rows.
    rows: usize,
    bytes: usize,
    /// Rows that were rejected and must not be sent.
    rejected: Vec<usize>,
}

impl Building {
    pub(crate) fn new(schema: SchemaRef, decoders: Vec<Decoder>, places: Vec<usize>) -> Self {
        let width = decoders.iter().map(Decoder::width).sum();
        Self {
            schema,
            decoders,
            places,
            weights: Vec::new(),
            width,
            cells: Vec::new(),
            gathered: 0,
            rows: 0,
            bytes: 0,
            rejected: Vec::new(),
        }
    }

    /// Says how many cells a row of the server's has.
    ///
    /// # Errors
    /// `false`: fewer than are wanted.
    pub(crate) fn columns(&mut self, columns: usize) -> bool {
        self.weights = vec![0; columns];
        for (decoder, place) in self.decoders.iter().zip(&self.places) {
            let Some(weight) = self.weights.get_mut(*place) else { return false };
            *weight += u32::from(decoder.is_variable());
        }
        true
    }

    /// The bytes that the last row of `cells` will have in the batch.
    #[inline]
    pub(crate) fn bytes_of_last(&self) -> usize {
        let row = &self.cells[self.cells.len() - self.weights.len()..];
        let length = |(cell, weight): (&Span, &u32)| {
            if *cell == weir_mysql::wire::NULL { 0 } else { cell.length as usize * *weight as usize }
        };
        self.width + row.iter().zip(&self.weights).map(length).sum::<usize>()
    }

    /// Whether the batch cannot take the last row of `cells` as well.
    #[inline]
    pub(crate) fn is_full(&self, more: usize) -> bool {
        let rows = self.rows + self.gathered;
        rows > 0 && (rows >= MAX_BATCH_ROWS || self.bytes + more > MAX_BATCH_BYTES)
    }

    /// The last row of `cells` belongs to the batch. Says whether it is time to decode.
    #[inline]
    pub(crate) fn take_last(&mut self, bytes: usize) -> bool {
        self.gathered += 1;
        self.bytes += bytes;
        self.cells.len() >= GATHER
    }

    /// Decodes the gathered rows, whose cells lie in `bytes`; gives those that cannot be decoded.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Vec<DirtyRow> {
        let rows = std::mem::take(&mut self.gathered);
        let width = self.weights.len();
        let spans = &self.cells[..rows * width];
        let mut bad: Vec<(usize, usize, Bad)> = Vec::new();
        for (column, (decoder, place)) in self.decoders.iter_mut().zip(&self.places).enumerate() {
            let cells = Cells { bytes, spans, width, place: *place };
            decoder.append(cells, &mut |row, reason| bad.push((row, column, reason)));
        }
        bad.sort_by_key(|(row, column, _)| (*row, *column));
        bad.dedup_by_key(|(row, ..)| *row);
        let mut dirty = Vec::with_capacity(bad.len());
        for (row, column, reason) in bad {
            dirty.push(self.dirty(&spans[row * width..(row + 1) * width], bytes, column, reason));
            self.rejected.push(self.rows + row);
        }
        self.rows += rows;
        self.cells.drain(..rows * width);
        dirty
    }

    fn dirty(&self, row: &[Span], bytes: &[u8], column: usize, reason: Bad) -> DirtyRow {
        let mut values = Map::new();
        for (field, place) in self.schema.fields().iter().zip(&self.places) {
            values.insert(field.name().clone(), row[*place].of(bytes).map_or(Value::Null, shown));
        }
        let column = self.schema.field(column).name().clone();
        let reason = match reason {
            Bad::ZeroDate => "no calendar has this date; `zeroDate: null` reads such dates as NULL",
            Bad::Value(reason) => reason,
        };
        let value = values.get(&column).and_then(Value::as_str).unwrap_or_default();
        let short: String = value.chars().take(100).collect();
        let reason = format!("`{short}`: {reason}");
        DirtyRow { values, column: Some(column), reason }
    }

    /// The batch of the decoded rows, if there are any.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = self.decoders.iter_mut().map(Decoder::finish).collect::<Result<_>>()?;
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
