//! COPY binary → Arrow.
//!
//! Constraints: a cell costs one match on its column's kind and no allocation; a row that cannot be decoded must not
//! disturb the rows around it. So a cell that fails becomes NULL and its row is noted; when the batch is closed, noted
//! rows are taken out. Text is checked as UTF-8 once a column, not once a cell.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, NullBufferBuilder,
    RecordBatch, RecordBatchOptions, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, MutableBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, i256};
use arrow::error::ArrowError;
use serde_json::Value;
use weir_core::field::{DECIMAL, INTERVAL, NATIVE, TEXT, extension};
use weir_core::{DirtyRow, Error, ErrorKind, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Result};

use super::{HEADER, numeric, temporal};
use crate::types::{PgType, Wire};

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

/// Why a cell could not be decoded, and its text where there is one.
#[derive(Debug)]
struct Failure {
    reason: String,
    text: Option<String>,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, text: None }
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl Decoder {
    /// A decoder for columns of these types in the chosen forms, which are fields of `schema`.
    ///
    /// # Errors
    /// A form that the type does not have.
    pub fn new(schema: SchemaRef, types: &[PgType]) -> Result<Self> {
        let columns = schema.fields().iter().zip(types).map(|(f, t)| Column::new(f, t)).collect::<Result<Vec<_>>>()?;
        let fixed = columns.iter().map(|c| c.cells.fixed_bytes()).sum();
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

/// Text or bytes of a column.
#[derive(Default)]
struct Var {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Var {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    #[inline]
    fn end(&mut self) {
        self.offsets.push(self.data.len() as i32);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        let capacity = self.offsets.len();
        let mut offsets = Vec::with_capacity(capacity);
        offsets.push(0);
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        let data = Vec::with_capacity(self.data.len());
        (OffsetBuffer::new(offsets.into()), std::mem::replace(&mut self.data, data))
    }
}

/// The values of one column, by how they are decoded.
enum Cells {
    Bool(BooleanBufferBuilder),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Oid(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    Short(Vec<i128>, i32),
    Long(Vec<i128>, i32),
    Longer(Vec<i256>, i32),
    DecimalText(Var),
    Bytes(Var),
    Text(Var),
    Jsonb(Var),
    Interval(Var),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Uuid(MutableBuffer),
    List(Vec<i32>, Box<Column>, FieldRef),
}

struct Column {
    cells: Cells,
    nulls: NullBufferBuilder,
}

impl Column {
    fn new(field: &Field, pg: &PgType) -> Result<Self> {
        let cells = match extension(field) {
            Some(NATIVE) => Cells::Bytes(Var::new()),
            Some(TEXT) => Cells::Text(Var::new()),
            // Selected as a number, see `crate::types`.
            _ if pg.wire() == Wire::Money => Cells::of(field, &Wire::Numeric(None))?,
            _ => Cells::of(field, &pg.wire())?,
        };
        Ok(Self { cells, nulls: NullBufferBuilder::new(1024) })
    }

    #[inline]
    fn append(&mut self, cell: Option<&[u8]>, grown: &mut usize) -> std::result::Result<(), Failure> {
        let Some(bytes) = cell else {
            self.nulls.append_null();
            self.cells.append_null();
            return Ok(());
        };
        match self.cells.append(bytes, grown) {
            Ok(()) => {
                self.nulls.append_non_null();
                Ok(())
            }
            Err(failure) => {
                self.nulls.append_null();
                self.cells.append_null();
                Err(failure)
            }
        }
    }

    /// The array, and the rows whose text is not UTF-8.
    fn finish(&mut self, field: &Field) -> Result<(ArrayRef, Vec<usize>)> {
        let nulls = self.nulls.finish();
        let data_type = field.data_type();
        let mut broken = Vec::new();
        let array: ArrayRef = match &mut self.cells {
            Cells::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Cells::Int2(values) => Arc::new(Int16Array::new(refill(values), nulls)),
            Cells::Int4(values) => Arc::new(Int32Array::new(refill(values), nulls)),
            Cells::Int8(values) | Cells::Oid(values) => Arc::new(Int64Array::new(refill(values), nulls)),
            Cells::Float4(values) => Arc::new(Float32Array::new(refill(values), nulls)),
            Cells::Float8(values) => Arc::new(Float64Array::new(refill(values), nulls)),
            Cells::Short(values, _) | Cells::Long(values, _) => {
                Arc::new(Decimal128Array::new(refill(values), nulls).with_data_type(data_type.clone()))
            }
            Cells::Longer(values, _) => {
                Arc::new(Decimal256Array::new(refill(values), nulls).with_data_type(data_type.clone()))
            }
            Cells::Date(values) => Arc::new(Date32Array::new(refill(values), nulls)),
            Cells::Time(values) => Arc::new(Time64MicrosecondArray::new(refill(values), nulls)),
            Cells::Timestamp(values) => {
                Arc::new(TimestampMicrosecondArray::new(refill(values), nulls).with_data_type(data_type.clone()))
            }
            Cells::Uuid(values) => {
                let values = std::mem::replace(values, MutableBuffer::new(values.len()));
                Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from(values), nulls)?)
            }
            Cells::Bytes(var) => {
                let (offsets, data) = var.take();
                Arc::new(BinaryArray::try_new(offsets, data.into(), nulls)?)
            }
            Cells::Text(var) | Cells::Jsonb(var) | Cells::DecimalText(var) | Cells::Interval(var) => {
                let (offsets, data) = var.take();
                let data = Buffer::from(data);
                match StringArray::try_new(offsets.clone(), data.clone(), nulls.clone()) {
                    Ok(array) => Arc::new(array),
                    // A database in SQL_ASCII may hold anything.
                    Err(ArrowError::InvalidArgumentError(_)) => {
                        let texts = BinaryArray::try_new(offsets, data, nulls)?;
                        let read = texts.iter().enumerate().map(|(row, bytes)| {
                            let text = bytes.map(|b| std::str::from_utf8(b));
                            if matches!(text, Some(Err(_))) {
                                broken.push(row);
                            }
                            text.and_then(std::result::Result::ok)
                        });
                        Arc::new(read.collect::<StringArray>())
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Cells::List(offsets, child, item) => {
                let (values, broken_items) = child.finish(item)?;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                broken.extend(broken_items.iter().map(|i| offsets.partition_point(|o| *o as usize <= *i) - 1));
                broken.dedup();
                Arc::new(ListArray::try_new(item.clone(), offsets, values, nulls)?)
            }
        };
        debug_assert!(array.data_type() == data_type);
        Ok((array, broken))
    }
}

/// The values so far; the next batch starts with as much room.
fn refill<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity)).into()
}

impl Cells {
    fn of(field: &Field, wire: &Wire) -> Result<Self> {
        let cells = match (wire, field.data_type()) {
            (Wire::Bool, DataType::Boolean) => Self::Bool(BooleanBufferBuilder::new(1024)),
            (Wire::Int2, DataType::Int16) => Self::Int2(vec![]),
            (Wire::Int4, DataType::Int32) => Self::Int4(vec![]),
            (Wire::Int8, DataType::Int64) => Self::Int8(vec![]),
            (Wire::Oid, DataType::Int64) => Self::Oid(vec![]),
            (Wire::Float4, DataType::Float32) => Self::Float4(vec![]),
            (Wire::Float8, DataType::Float64) => Self::Float8(vec![]),
            (Wire::Numeric(_), DataType::Decimal128(p, s)) if *p <= 18 => Self::Short(vec![], i32::from(*s)),
            (Wire::Numeric(_), DataType::Decimal128(_, s)) => Self::Long(vec![], i32::from(*s)),
            (Wire::Numeric(_), DataType::Decimal256(_, s)) => Self::Longer(vec![], i32::from(*s)),
            (Wire::Numeric(_), DataType::Utf8) if extension(field) == Some(DECIMAL) => Self::DecimalText(Var::new()),
            (Wire::Text | Wire::Json, DataType::Utf8) => Self::Text(Var::new()),
            (Wire::Jsonb, DataType::Utf8) => Self::Jsonb(Var::new()),
            (Wire::Bytea, DataType::Binary) => Self::Bytes(Var::new()),
            (Wire::Date, DataType::Date32) => Self::Date(vec![]),
            (Wire::Time(_), DataType::Time64(_)) => Self::Time(vec![]),
            (Wire::Timestamp(_) | Wire::TimestampTz(_), DataType::Timestamp(..)) => Self::Timestamp(vec![]),
            (Wire::Interval, DataType::Utf8) if extension(field) == Some(INTERVAL) => Self::Interval(Var::new()),
            (Wire::Uuid, DataType::FixedSizeBinary(16)) => Self::Uuid(MutableBuffer::new(0)),
            (Wire::Array(of), DataType::List(item)) => {
                let column = Column { cells: Self::of(item, of)?, nulls: NullBufferBuilder::new(1024) };
                Self::List(vec![0], Box::new(column), item.clone())
            }
            (_, other) => {
                return Err(Error::internal(format!("a PostgreSQL column cannot be read as {other}"))
                    .with("column", field.name()));
            }
        };
        Ok(cells)
    }

    /// Arrow's bytes for a row's cell beside the value's own bytes on the wire, at most.
    fn fixed_bytes(&self) -> usize {
        match self {
            Self::Short(..) | Self::Long(..) => 12,
            Self::Longer(..) => 28,
            Self::Uuid(_) => 12,
            // The length on the wire is as long as the offset; fixed types are no longer than on the wire, save NULLs.
            Self::Bytes(_) | Self::Text(_) | Self::Jsonb(_) | Self::DecimalText(_) | Self::Interval(_) => 0,
            Self::List(..) => 0,
            _ => 4,
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Bool(values) => values.append(false),
            Self::Int2(values) => values.push(0),
            Self::Int4(values) | Self::Date(values) => values.push(0),
            Self::Int8(values) | Self::Oid(values) | Self::Time(values) | Self::Timestamp(values) => values.push(0),
            Self::Float4(values) => values.push(0.0),
            Self::Float8(values) => values.push(0.0),
            Self::Short(values, _) | Self::Long(values, _) => values.push(0),
            Self::Longer(values, _) => values.push(i256::ZERO),
            Self::DecimalText(var) | Self::Bytes(var) | Self::Text(var) | Self::Jsonb(var) | Self::Interval(var) => {
                var.end();
            }
            Self::Uuid(values) => values.extend_zeros(16),
            Self::List(offsets, child, _) => offsets.push(child.nulls.len() as i32),
        }
    }

    /// Appends a value; on failure nothing is appended (of a list: its items may be, under no row's offset).
    #[inline]
    fn append(&mut self, bytes: &[u8], grown: &mut usize) -> std::result::Result<(), Failure> {
        match self {
            Self::Bool(values) => values.append(fixed::<1>(bytes)?[0] != 0),
            Self::Int2(values) => values.push(i16::from_be_bytes(fixed(bytes)?)),
            Self::Int4(values) => values.push(i32::from_be_bytes(fixed(bytes)?)),
            Self::Int8(values) => values.push(i64::from_be_bytes(fixed(bytes)?)),
            Self::Oid(values) => values.push(i64::from(u32::from_be_bytes(fixed(bytes)?))),
            Self::Float4(values) => values.push(f32::from_be_bytes(fixed(bytes)?)),
            Self::Float8(values) => values.push(f64::from_be_bytes(fixed(bytes)?)),
            Self::Short(values, scale) => {
                let number = numeric::to_i64(bytes, *scale).map_err(|reason| decimal_failure(reason, bytes))?;
                values.push(i128::from(number));
            }
            Self::Long(values, scale) => {
                values.push(numeric::to_i128(bytes, *scale).map_err(|reason| decimal_failure(reason, bytes))?);
            }
            Self::Longer(values, scale) => {
                values.push(numeric::to_i256(bytes, *scale).map_err(|reason| decimal_failure(reason, bytes))?);
            }
            Self::DecimalText(var) => {
                let before = var.data.len();
                numeric::to_text(bytes, &mut var.data)?;
                *grown += var.data.len() - before;
                var.end();
            }
            Self::Bytes(var) | Self::Text(var) => {
                var.data.extend_from_slice(bytes);
                var.end();
            }
            Self::Jsonb(var) => {
                let [1, json @ ..] = bytes else { return Err("the jsonb value has an unknown version".into()) };
                var.data.extend_from_slice(json);
                var.end();
            }
            Self::Interval(var) => {
                let all: [u8; 16] = fixed(bytes)?;
                let micros = i64::from_be_bytes(fixed(&all[..8])?);
                let (days, months) = (i32::from_be_bytes(fixed(&all[8..12])?), i32::from_be_bytes(fixed(&all[12..])?));
                if (micros, days, months) == (i64::MAX, i32::MAX, i32::MAX) {
                    return Err(no_form("infinity"));
                } else if (micros, days, months) == (i64::MIN, i32::MIN, i32::MIN) {
                    return Err(no_form("-infinity"));
                }
                let before = var.data.len();
                temporal::interval_text(micros, days, months, &mut var.data);
                *grown += var.data.len() - before;
                var.end();
            }
            Self::Date(values) => {
                values.push(temporal::date(i32::from_be_bytes(fixed(bytes)?)).map_err(|t| no_form(&t))?);
            }
            Self::Time(values) => match i64::from_be_bytes(fixed(bytes)?) {
                time if (0..temporal::DAY).contains(&time) => values.push(time),
                _ => return Err(no_form("24:00:00")),
            },
            Self::Timestamp(values) => {
                values.push(temporal::timestamp(i64::from_be_bytes(fixed(bytes)?)).map_err(|t| no_form(&t))?);
            }
            Self::Uuid(values) => values.extend_from_slice(&fixed::<16>(bytes)?),
            Self::List(offsets, child, _) => {
                append_list(bytes, child, grown)?;
                offsets.push(child.nulls.len() as i32);
            }
        }
        Ok(())
    }
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> std::result::Result<[u8; N], Failure> {
    bytes.try_into().map_err(|_| Failure::from("the value has another length than its type"))
}

#[cold]
fn decimal_failure(reason: String, bytes: &[u8]) -> Failure {
    let mut text = Vec::new();
    let text = numeric::to_text(bytes, &mut text).ok().and_then(|()| String::from_utf8(text).ok());
    Failure { reason, text }
}

#[cold]
fn no_form(text: &str) -> Failure {
    Failure {
        reason: format!("`{text}` has no form in this column's type at the target; map the column as text to keep it"),
        text: Some(text.to_owned()),
    }
}

/// Appends the items of a one-dimensional array.
fn append_list(bytes: &[u8], child: &mut Column, grown: &mut usize) -> std::result::Result<(), Failure> {
    let short = || Failure::from("the array is cut short");
    let word = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    match word(0).ok_or_else(short)? {
        0 => return Ok(()),
        1 => {}
        n => return Err(format!("an array of {n} dimensions has no form in a list column").into()),
    }
    let items = word(12).ok_or_else(short)?;
    if word(16).ok_or_else(short)? != 1 {
        return Err("an array whose lower bound is not 1 has no form in a list column".into());
    }
    let mut at = 20;
    for _ in 0..items {
        let length = word(at).ok_or_else(short)?;
        at += 4;
        let item = if length < 0 {
            None
        } else {
            let item = bytes.get(at..at + length as usize).ok_or_else(short)?;
            at += item.len();
            Some(item)
        };
        child.append(item, grown)?;
        *grown += child.cells.fixed_bytes();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, Schema};

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
