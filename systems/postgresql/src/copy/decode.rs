//! COPY binary → Arrow.
//!
//! Constraints: a cell costs one match on its column's kind and no allocation; a row that cannot be decoded must not
//! disturb the rows around it. So a cell that fails becomes NULL and its row is noted; when the batch is closed, noted
//! rows are taken out. Text is checked as UTF-8 once a column, not once a cell.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use serde_json::Value;
use weir_core::{DirtyRow, Error, ErrorKind, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Result};

use super::HEADER;
use super::column::{Column, Failure};
use crate::types::PgType;

/// A closed batch and the rows that are not in it.
pub struct Decoded {
    /// The rows that could be decoded.
    pub batch: RecordBatch,
    /// The others.
    pub dirty: Vec<DirtyRow>,
}

/// Takes the stream of `COPY … TO STDOUT (FORMAT binary)` in pieces of any size and gives batches.
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Where each cell of the current row lies; `None` for NULL.
    cells: Vec<Option<(u32, u32)>>,
    /// The start of a tuple whose end has not come yet.
    carry: Vec<u8>,
    header_seen: bool,
    ended: bool,
    rows: usize,
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
        Ok(Self {
            cells: vec![None; columns.len()],
            schema,
            columns,
            carry: Vec::new(),
            header_seen: false,
            ended: false,
            rows: 0,
            bytes: 0,
            fixed,
            dirty: BTreeMap::new(),
            ready: Vec::new(),
        })
    }

    /// Takes the next piece of the stream.
    ///
    /// # Errors
    /// A stream that is not COPY's binary format.
    pub fn push(&mut self, piece: &[u8]) -> Result<()> {
        if self.carry.is_empty() {
            let used = self.consume(piece)?;
            self.carry.extend_from_slice(&piece[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.carry);
            whole.extend_from_slice(piece);
            let used = self.consume(&whole)?;
            whole.drain(..used);
            self.carry = whole;
        }
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

    /// Rows of the batch that is not full yet.
    pub fn pending(&self) -> usize {
        self.rows
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

    fn consume(&mut self, data: &[u8]) -> Result<usize> {
        let mut at = 0;
        if !self.header_seen {
            if data.len() < HEADER.len() {
                return Ok(0);
            }
            if data[..11] != HEADER[..11] {
                return Err(out_of_step());
            }
            let more = u32::from_be_bytes([data[15], data[16], data[17], data[18]]) as usize;
            if data.len() < HEADER.len() + more {
                return Ok(0);
            }
            at = HEADER.len() + more;
            self.header_seen = true;
        }
        while !self.ended {
            let Some(end) = self.locate(data, at)? else { break };
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
        if count as usize != self.cells.len() || data.len() > u32::MAX as usize {
            return Err(out_of_step());
        }
        for cell in &mut self.cells {
            let Some(&[a, b, c, d]) = data.get(at..at + 4) else { return Ok(None) };
            let length = i32::from_be_bytes([a, b, c, d]);
            at += 4;
            if length < 0 {
                *cell = None;
            } else {
                let end = at + length as usize;
                if end > data.len() {
                    return Ok(None);
                }
                *cell = Some((at as u32, end as u32));
                at = end;
            }
        }
        Ok(Some(at))
    }

    #[inline]
    fn row(&mut self, data: &[u8], length: usize) -> Result<()> {
        let bytes = self.fixed + length;
        if self.rows > 0 && (self.rows >= MAX_BATCH_ROWS || self.bytes + bytes > MAX_BATCH_BYTES) {
            self.close()?;
        }
        let mut grown = 0;
        for (i, (column, cell)) in self.columns.iter_mut().zip(&self.cells).enumerate() {
            let bytes = cell.map(|(start, end)| &data[start as usize..end as usize]);
            if let Err(failure) = column.append(bytes, &mut grown) {
                self.dirty.entry(self.rows).or_default().push((i, failure));
            }
        }
        self.rows += 1;
        self.bytes += bytes + grown;
        Ok(())
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
        (self.rows, self.bytes) = (0, 0);
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
