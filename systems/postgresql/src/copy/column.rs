//! One column while it is decoded: its values so far, by how their cells are read.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, NullBufferBuilder,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, MutableBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, i256};
use arrow::error::ArrowError;
use weir_core::field::{DECIMAL, INTERVAL, NATIVE, TEXT, extension};
use weir_core::{Error, Result};

use super::{numeric, temporal};
use crate::types::{PgType, Wire};

/// Why a cell could not be decoded, and its text where there is one.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) text: Option<String>,
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

/// A column of the batch that is being filled.
pub(super) struct Column {
    cells: Cells,
    nulls: NullBufferBuilder,
}

impl Column {
    /// A column of type `pg` in the form of `field`.
    pub(super) fn new(field: &Field, pg: &PgType) -> Result<Self> {
        let cells = match extension(field) {
            Some(NATIVE) => Cells::Bytes(Var::new()),
            Some(TEXT) => Cells::Text(Var::new()),
            // Selected as a number, see `crate::types`.
            _ if pg.wire() == Wire::Money => Cells::of(field, &Wire::Numeric(None))?,
            _ => Cells::of(field, &pg.wire())?,
        };
        Ok(Self { cells, nulls: NullBufferBuilder::new(1024) })
    }

    /// See [`Cells::fixed_bytes`].
    pub(super) fn fixed_bytes(&self) -> usize {
        self.cells.fixed_bytes()
    }

    /// Whether a value may be longer than on the wire by more than [`fixed_bytes`](Self::fixed_bytes).
    pub(super) fn grows(&self) -> bool {
        matches!(self.cells, Cells::DecimalText(_) | Cells::Interval(_) | Cells::List(..))
    }

    /// Appends cells; one that fails becomes NULL, and `failed` hears which it was. `grown` counts bytes beyond those on the
    /// wire.
    #[inline]
    pub(super) fn append<'a>(
        &mut self,
        cells: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        grown: &mut usize,
        failed: &mut impl FnMut(usize, Failure),
    ) {
        let into = Into { cells, nulls: &mut self.nulls, failed };
        match &mut self.cells {
            Cells::Bool(values) => into.each(|cell| {
                values.append(cell.map_or(Ok([0]), fixed::<1>)? != [0]);
                Ok(())
            }),
            Cells::Int2(values) => into.numbers(values, |bytes| Ok(i16::from_be_bytes(fixed(bytes)?))),
            Cells::Int4(values) => into.numbers(values, |bytes| Ok(i32::from_be_bytes(fixed(bytes)?))),
            Cells::Int8(values) => into.numbers(values, |bytes| Ok(i64::from_be_bytes(fixed(bytes)?))),
            Cells::Oid(values) => into.numbers(values, |bytes| Ok(i64::from(u32::from_be_bytes(fixed(bytes)?)))),
            Cells::Float4(values) => into.numbers(values, |bytes| Ok(f32::from_be_bytes(fixed(bytes)?))),
            Cells::Float8(values) => into.numbers(values, |bytes| Ok(f64::from_be_bytes(fixed(bytes)?))),
            Cells::Short(values, scale) => into.numbers(values, |bytes| {
                let number = numeric::to_i64(bytes, *scale).map_err(|reason| decimal_failure(reason, bytes))?;
                Ok(i128::from(number))
            }),
            Cells::Long(values, scale) => into.numbers(values, |bytes| {
                numeric::to_i128(bytes, *scale).map_err(|reason| decimal_failure(reason, bytes))
            }),
            Cells::Longer(values, scale) => into.numbers(values, |bytes| {
                numeric::to_i256(bytes, *scale).map_err(|reason| decimal_failure(reason, bytes))
            }),
            Cells::DecimalText(var) => into.texts(var, |bytes, data| {
                let before = data.len();
                numeric::to_text(bytes, data)?;
                *grown += data.len() - before;
                Ok(())
            }),
            Cells::Bytes(var) | Cells::Text(var) => into.texts(var, |bytes, data| {
                data.extend_from_slice(bytes);
                Ok(())
            }),
            Cells::Jsonb(var) => into.texts(var, |bytes, data| {
                let [1, json @ ..] = bytes else { return Err("the jsonb value has an unknown version".into()) };
                data.extend_from_slice(json);
                Ok(())
            }),
            Cells::Interval(var) => into.texts(var, |bytes, data| {
                let before = data.len();
                interval(bytes, data)?;
                *grown += data.len() - before;
                Ok(())
            }),
            Cells::Date(values) => into.numbers(values, |bytes| {
                temporal::canonical_date(i32::from_be_bytes(fixed(bytes)?)).map_err(|t| no_form(&t))
            }),
            Cells::Time(values) => into.numbers(values, |bytes| match i64::from_be_bytes(fixed(bytes)?) {
                time if (0..temporal::DAY).contains(&time) => Ok(time),
                _ => Err(no_form("24:00:00")),
            }),
            Cells::Timestamp(values) => into.numbers(values, |bytes| {
                temporal::canonical_timestamp(i64::from_be_bytes(fixed(bytes)?)).map_err(|t| no_form(&t))
            }),
            Cells::Uuid(values) => into.each(|cell| {
                values.extend_from_slice(&cell.map_or(Ok([0; 16]), fixed)?);
                Ok(())
            }),
            Cells::List(offsets, child, _) => into.each(|cell| {
                if let Some(bytes) = cell {
                    append_list(bytes, child, grown)?;
                }
                offsets.push(child.nulls.len() as i32);
                Ok(())
            }),
        }
    }

    /// The array, and the rows whose text is not UTF-8.
    pub(super) fn finish(&mut self, field: &Field) -> Result<(ArrayRef, Vec<usize>)> {
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
}

/// Cells on their way into a column.
struct Into<'c, C, F> {
    cells: C,
    nulls: &'c mut NullBufferBuilder,
    failed: &'c mut F,
}

impl<'a, C: ExactSizeIterator<Item = Option<&'a [u8]>>, F: FnMut(usize, Failure)> Into<'_, C, F> {
    /// Appends each by `one`, which appends whatever stands for NULL where there is no cell, and nothing where it fails (of a
    /// list: its items may be there, under no row's offset).
    #[inline]
    fn each(self, mut one: impl FnMut(Option<&'a [u8]>) -> std::result::Result<(), Failure>) {
        for (row, cell) in self.cells.enumerate() {
            match one(cell) {
                Ok(()) if cell.is_some() => self.nulls.append_non_null(),
                Ok(()) => self.nulls.append_null(),
                Err(failure) => {
                    self.nulls.append_null();
                    // For NULL it does not fail.
                    let _ = one(None);
                    (self.failed)(row, failure);
                }
            }
        }
    }

    #[inline]
    fn numbers<T: Default>(self, values: &mut Vec<T>, of: impl Fn(&[u8]) -> std::result::Result<T, Failure>) {
        values.reserve(self.cells.len());
        self.each(|cell| {
            values.push(match cell {
                Some(bytes) => of(bytes)?,
                None => T::default(),
            });
            Ok(())
        });
    }

    #[inline]
    fn texts(self, var: &mut Var, mut add: impl FnMut(&[u8], &mut Vec<u8>) -> std::result::Result<(), Failure>) {
        var.offsets.reserve(self.cells.len());
        self.each(|cell| {
            if let Some(bytes) = cell {
                add(bytes, &mut var.data)?;
            }
            var.end();
            Ok(())
        });
    }
}

/// Appends the interval's text.
fn interval(bytes: &[u8], text: &mut Vec<u8>) -> std::result::Result<(), Failure> {
    let all: [u8; 16] = fixed(bytes)?;
    let micros = i64::from_be_bytes(fixed(&all[..8])?);
    let (days, months) = (i32::from_be_bytes(fixed(&all[8..12])?), i32::from_be_bytes(fixed(&all[12..])?));
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => Err(no_form("infinity")),
        (i64::MIN, i32::MIN, i32::MIN) => Err(no_form("-infinity")),
        _ => {
            temporal::interval_text(micros, days, months, text);
            Ok(())
        }
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
        let mut failure = None;
        child.append(std::iter::once(item), grown, &mut |_, failed| failure = Some(failed));
        if let Some(failure) = failure {
            return Err(failure);
        }
        *grown += child.cells.fixed_bytes();
    }
    Ok(())
}
