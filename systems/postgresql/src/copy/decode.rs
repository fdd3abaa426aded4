//! COPY binary → Arrow.
//!
//! Constraints: a cell costs no allocation, and its column's kind is looked at once for some hundred of them; a row that
//! cannot be decoded must not disturb the rows around it. So rows are gathered where they lie, as places of cells, and then
//! decoded a column at a time. A cell that fails becomes NULL and its row is noted; when the batch is closed, noted rows are
//! taken out. Text is checked as UTF-8 once a column, not once a cell.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use serde_json::Value;
use weir_core::{DirtyRow, Error, ErrorKind, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Result};

use super::HEADER;
use super::column::{Column, Failure};
use crate::types::PgType;

/// Cells that are gathered before they are decoded: their places then still lie in the nearest cache.
const GATHER: usize = 4096;

/// A closed batch and the rows that are not in it.
pub struct Decoded {
    /// The rows that could be decoded.
    pub batch: RecordBatch,
    /// The others.
    pub dirty: Vec<DirtyRow>,
}

/// Where a cell lies, in whatever bytes its row came: its first byte, and its length, which is below zero for NULL.
#[derive(Clone, Copy)]
struct Cell {
    start: u32,
    length: i32,
}

impl Cell {
    #[inline]
    fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        let length = usize::try_from(self.length).ok()?;
        bytes.get(self.start as usize..self.start as usize + length)
    }
}

/// Takes the stream of `COPY … TO STDOUT (FORMAT binary)` in pieces of any size and gives batches.
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Where the cells of gathered rows lie; those of a row whose end has not come yet are never there.
    cells: Vec<Cell>,
    /// How many cells are gathered at most, but for those of one row.
    gather: usize,
    /// The start of a tuple whose end has not come yet.
    carry: Vec<u8>,
    header_seen: bool,
    ended: bool,
    /// Rows of the batch, with those that are gathered.
    rows: usize,
    /// Those of them that are decoded.
    decoded: usize,
    bytes: usize,
    fixed: usize,
    dirty: BTreeMap<usize, Vec<(usize, Failure)>>,
    ready: Vec<Decoded>,
}

impl Decoder {
    /// A decoder for columns of these types in the chosen forms, which are fields of `schema`.
    ///
    /// # Errors
    /// A form that the type does not have.
    pub fn new(schema: SchemaRef, types: &[PgType]) -> Result<Self> {
        let columns = schema.fields().iter().zip(types).map(|(f, t)| Column::new(f, t)).collect::<Result<Vec<_>>>()?;
        let fixed = columns.iter().map(|c| c.fixed_bytes()).sum();
        // Where a value may be much longer than it is on the wire, a batch's bytes are counted row by row.
        let gather = if columns.iter().any(|c| c.grows()) { 0 } else { GATHER };
        Ok(Self {
            cells: Vec::with_capacity(gather),
            gather,
            schema,
            columns,
            carry: Vec::new(),
            header_seen: false,
            ended: false,
            rows: 0,
            decoded: 0,
            bytes: 0,
            fixed,
            dirty: BTreeMap::new(),
            ready: Vec::new(),
        })
    }

    /// Takes the next piece of the stream.
    ///
    /// # Errors
    /// As [`push_all`](Self::push_all).
    pub fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.push_all(piece, std::slice::from_ref(&(0..piece.len())))
    }

    /// Takes the next pieces of the stream, which are ranges of `bytes`: what most of them have in common costs once then.
    ///
    /// # Errors
    /// A stream that is not COPY's binary format.
    pub fn push_all(&mut self, bytes: &[u8], pieces: &[Range<usize>]) -> Result<()> {
        for piece in pieces {
            if self.carry.is_empty() {
                let used = self.consume(bytes, piece.clone())?;
                self.carry.extend_from_slice(&bytes[used..piece.end]);
            } else {
                // What is gathered lies elsewhere than what comes now.
                self.decode(bytes);
                let mut whole = std::mem::take(&mut self.carry);
                whole.extend_from_slice(&bytes[piece.clone()]);
                let used = self.consume(&whole, 0..whole.len())?;
                self.decode(&whole);
                whole.drain(..used);
                self.carry = whole;
            }
        }
        self.decode(bytes);
        Ok(())
    }

    /// Batches that are full.
    pub fn take_ready(&mut self) -> std::vec::Drain<'_, Decoded> {
        self.ready.drain(..)
    }

    /// Whether a batch is full.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Closes the last batch.
    ///
    /// # Errors
    /// The stream has no trailer: the connection broke in the middle.
    pub fn finish(&mut self) -> Result<()> {
        if !self.ended {
            return Err(Error::new(ErrorKind::Unreachable, "the server's COPY stream ended in the middle"));
        }
        self.close()
    }

    /// Gathers, and decodes where it is time, the tuples that end within the piece; gives the end of the last.
    fn consume(&mut self, bytes: &[u8], piece: Range<usize>) -> Result<usize> {
        let data = &bytes[..piece.end];
        let mut at = piece.start;
        if data.len() > u32::MAX as usize {
            return Err(out_of_step());
        }
        if !self.header_seen {
            let header = &data[at..];
            if header.len() < HEADER.len() {
                return Ok(at);
            }
            if header[..11] != HEADER[..11] {
                return Err(out_of_step());
            }
            let more = u32::from_be_bytes([header[15], header[16], header[17], header[18]]) as usize;
            if header.len() < HEADER.len() + more {
                return Ok(at);
            }
            at += HEADER.len() + more;
            self.header_seen = true;
        }
        while !self.ended {
            let gathered = self.cells.len();
            let Some(end) = self.locate(data, at)? else {
                self.cells.truncate(gathered);
                break;
            };
            if !self.ended {
                self.row(data, end - at)?;
            }
            at = end;
        }
        Ok(at)
    }

    /// Notes where the cells of the tuple at `start` lie, and gives its end; `None` when the end has not come yet.
    #[inline]
    fn locate(&mut self, data: &[u8], start: usize) -> Result<Option<usize>> {
        let Some(count) = data.get(start..start + 2) else { return Ok(None) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        let mut at = start + 2;
        if count == -1 {
            self.ended = true;
            return Ok(Some(at));
        }
        if count as usize != self.columns.len() {
            return Err(out_of_step());
        }
        self.cells.reserve(self.columns.len());
        for _ in 0..self.columns.len() {
            let Some(&[a, b, c, d]) = data.get(at..at + 4) else { return Ok(None) };
            let length = i32::from_be_bytes([a, b, c, d]);
            at += 4;
            self.cells.push(Cell { start: at as u32, length });
            at += length.max(0) as usize;
            if at > data.len() {
                return Ok(None);
            }
        }
        Ok(Some(at))
    }

    /// The last row that was located belongs to the batch, or to the next one where this one is full.
    #[inline]
    fn row(&mut self, data: &[u8], length: usize) -> Result<()> {
        let bytes = self.fixed + length;
        if self.rows > 0 && (self.rows >= MAX_BATCH_ROWS || self.bytes + bytes > MAX_BATCH_BYTES) {
            let next = self.cells.split_off(self.cells.len() - self.columns.len());
            self.decode(data);
            self.close()?;
            self.cells.extend(next);
        }
        self.rows += 1;
        self.bytes += bytes;
        if self.cells.len() >= self.gather {
            self.decode(data);
        }
        Ok(())
    }

    /// Decodes the gathered rows, whose cells lie in `bytes`.
    fn decode(&mut self, bytes: &[u8]) {
        let (width, first) = (self.columns.len(), self.decoded);
        if self.rows == first {
            return;
        }
        for (i, column) in self.columns.iter_mut().enumerate() {
            let cells = self.cells[i..].iter().step_by(width).map(|cell| cell.of(bytes));
            column.append(cells, &mut self.bytes, &mut |row, failure| {
                self.dirty.entry(first + row).or_default().push((i, failure));
            });
        }
        self.cells.clear();
        self.decoded = self.rows;
    }

    fn close(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (i, (column, field)) in self.columns.iter_mut().zip(self.schema.fields()).enumerate() {
            let (array, broken) = column.finish(field)?;
            for row in broken {
                self.dirty.entry(row).or_default().push((i, "the text is not UTF-8".into()));
            }
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let mut batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        let mut dirty = Vec::with_capacity(self.dirty.len());
        if !self.dirty.is_empty() {
            let mut keep = vec![true; self.rows];
            for (row, failures) in std::mem::take(&mut self.dirty) {
                keep[row] = false;
                let name = |i: usize| self.schema.field(i).name().clone();
                let first = &failures[0];
                let mut refused = DirtyRow::of_batch(&batch, row, Some(name(first.0)), first.1.reason.clone());
                for (i, failure) in failures {
                    refused.values.insert(name(i), failure.text.map_or(Value::Null, Value::String));
                }
                dirty.push(refused);
            }
            batch = arrow::compute::filter_record_batch(&batch, &BooleanArray::from(keep))?;
        }
        (self.rows, self.decoded, self.bytes) = (0, 0, 0);
        self.ready.push(Decoded { batch, dirty });
        Ok(())
    }
}

fn out_of_step() -> Error {
    Error::internal("the server's COPY stream is not what was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::numeric;
    use arrow::array::AsArray;
    use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, Schema};
    use std::sync::Arc;
    use weir_core::field::{NATIVE, extension};

    fn tuple(cells: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = (cells.len() as i16).to_be_bytes().to_vec();
        for cell in cells {
            out.extend((cell.map_or(-1, |c| c.len() as i32)).to_be_bytes());
            out.extend(cell.unwrap_or_default());
        }
        out
    }

    fn decoder(types: &[&str]) -> Decoder {
        let types: Vec<_> = types.iter().map(|t| PgType::parse(t).unwrap()).collect();
        let fields: Vec<_> = types
            .iter()
            .enumerate()
            .map(|(i, t)| {
                t.representations(&format!("c{i}")).into_iter().find(|f| extension(f) != Some(NATIVE)).unwrap()
            })
            .collect();
        Decoder::new(Arc::new(Schema::new(fields)), &types).unwrap()
    }

    fn one(number: &str) -> Vec<u8> {
        let mut out = vec![];
        numeric::from_text(number, None, &mut out).unwrap();
        out
    }

    #[test]
    fn pieces_of_any_size_give_the_same_rows() {
        let mut stream = HEADER.to_vec();
        for i in 0..100i32 {
            let decimal = one(&format!("{i}.25"));
            stream.extend(tuple(&[
                Some(&i.to_be_bytes()),
                if i % 7 == 0 { None } else { Some("wé".as_bytes()) },
                Some(&decimal),
            ]));
        }
        stream.extend(super::super::TRAILER);
        for size in [1, 3, 19, 64, stream.len()] {
            let mut decoder = decoder(&["integer", "text", "numeric(10,2)"]);
            for piece in stream.chunks(size) {
                decoder.push(piece).unwrap();
            }
            decoder.finish().unwrap();
            let batch = decoder.take_ready().next().unwrap().batch;
            assert_eq!(batch.num_rows(), 100);
            assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(99), 99);
            assert_eq!(batch.column(1).null_count(), 15);
            assert_eq!(batch.column(2).as_primitive::<Decimal128Type>().value(3), 325);
        }
        let mut cut = decoder(&["integer", "text", "numeric(10,2)"]);
        cut.push(&stream[..stream.len() - 2]).unwrap();
        assert!(cut.finish().is_err());
    }

    #[test]
    fn a_row_that_has_no_form_is_set_aside_whole() {
        let mut decoder = decoder(&["integer", "date", "integer[]"]);
        let list = |dims: i32, items: &[i32]| {
            let mut out = [dims, 0, 23, items.len() as i32, 1].map(i32::to_be_bytes).concat();
            items.iter().for_each(|i| out.extend([4i32.to_be_bytes(), i.to_be_bytes()].concat()));
            out
        };
        let mut stream = HEADER.to_vec();
        for (n, days, dims) in [(1, 0, 1), (2, i32::MAX, 1), (3, 5, 2), (4, 1, 1)] {
            stream.extend(tuple(&[
                Some(&i32::to_be_bytes(n)),
                Some(&i32::to_be_bytes(days)),
                Some(&list(dims, &[n, n + 1])),
            ]));
        }
        stream.extend(super::super::TRAILER);
        decoder.push(&stream).unwrap();
        decoder.finish().unwrap();
        let Decoded { batch, dirty } = decoder.take_ready().next().unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.column(1).as_primitive::<Date32Type>().value(1), 10_958);
        let lists = batch.column(2).as_list::<i32>();
        assert_eq!(lists.value(1).as_primitive::<Int32Type>().values(), &[4, 5]);
        assert_eq!(dirty.len(), 2);
        assert_eq!((dirty[0].column.as_deref(), &dirty[0].values["c1"]), (Some("c1"), &Value::from("infinity")));
        assert_eq!(dirty[0].values["c0"], "2");
        assert!(dirty[1].reason.contains("dimensions"));
    }

    #[test]
    fn batches_are_bounded() {
        let mut decoder = decoder(&["text"]);
        decoder.push(HEADER).unwrap();
        let big = vec![b'x'; 3 << 20];
        for _ in 0..7 {
            decoder.push(&tuple(&[Some(&big)])).unwrap();
        }
        decoder.push(&tuple(&[Some(&vec![b'y'; 9 << 20])])).unwrap();
        decoder.push(&tuple(&[Some(b"\xff")])).unwrap();
        decoder.push(&super::super::TRAILER).unwrap();
        decoder.finish().unwrap();
        let all: Vec<_> = decoder.take_ready().collect();
        assert_eq!(all.iter().map(|d| d.batch.num_rows()).collect::<Vec<_>>(), [2, 2, 2, 1, 1, 0]);
        assert!(all[5].dirty[0].reason.contains("UTF-8"));
    }
}
