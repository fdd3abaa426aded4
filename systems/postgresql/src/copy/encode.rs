//! Arrow → COPY binary.
//!
//! Each column is looked at once a batch and becomes a typed view; a cell then costs one match. A cell that the target
//! could only take altered (a NUL in text, microseconds in a column of milliseconds) refuses its row before anything is
//! sent: the server would cut or round some of them without a word.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use serde::{Deserialize, Serialize};
use weir_core::field::{DECIMAL, INTERVAL, NATIVE, extension};
use weir_core::{Error, Result};

use super::lists::Elements;
use super::{HEADER, TRAILER, numeric, temporal, text};
use crate::types::{PgType, Wire};

/// Appends a number after its length, at once: a cell costs one look at the buffer's capacity.
macro_rules! put_number {
    ($out:expr, $value:expr, $bytes:literal) => {{
        let mut cell = [0u8; $bytes + 4];
        cell[..4].copy_from_slice(&($bytes as i32).to_be_bytes());
        cell[4..].copy_from_slice(&$value.to_be_bytes());
        $out.extend_from_slice(&cell);
    }};
}

/// COPY's format. Text is for types whose binary form is not ours to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `FORMAT binary`.
    Binary,
    /// `FORMAT text`.
    Text,
}

/// Rows that must not be sent.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Row, column and reason, in row order; one reason a row.
    pub refused: Vec<(usize, usize, String)>,
}

/// How a column's values are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Raw,
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Decimal128(i8),
    Decimal256(i8),
    DecimalText(Option<i32>),
    /// With the most characters that the column takes.
    Text(Option<usize>),
    Jsonb,
    Bytea,
    Date,
    Time(i32),
    Timestamp(i32),
    Interval(temporal::IntervalLimit),
    Uuid,
    List(Box<Kind>, u32),
    /// Only COPY's text format can carry it: the server reads the text.
    AsText(Reading),
}

/// What of a text the server would alter while it reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// Nothing: it takes the value or refuses it.
    Exact,
    /// Digits after the point.
    Digits(i32),
    /// Decimals of a second; and years before 1 come as ISO 8601 has them, `-0043`.
    Moment(i32),
    /// Fields and decimals of an interval.
    Interval(temporal::IntervalLimit),
    /// More than a byte.
    Byte,
    /// Elements; and lists may come as JSON.
    Array(Elements),
}

impl Reading {
    fn of(target: &PgType) -> Self {
        if target.base.ends_with("[]") {
            let wire = match target.wire() {
                Wire::Array(item) => Some(*item),
                _ => None,
            };
            return Self::Array(Elements { wire });
        }
        match (target.wire(), target.oid) {
            (Wire::Numeric(Some((_, scale))), _) => Self::Digits(scale),
            (Wire::Date, _) => Self::Moment(6),
            (Wire::Time(digits) | Wire::Timestamp(digits) | Wire::TimestampTz(digits), _) => Self::Moment(digits),
            (Wire::Interval, _) => Self::Interval(temporal::IntervalLimit::of(target.typmod)),
            (_, 18) => Self::Byte,
            (_, 790) => Self::Digits(2),
            (_, 1266) => Self::Moment(if (0..=6).contains(&target.typmod) { target.typmod } else { 6 }),
            _ => Self::Exact,
        }
    }
}

impl Kind {
    /// How a column of type `target` takes values that come as `input`; `None` when it cannot.
    pub(super) fn of(input: &Field, target: &PgType) -> Option<Self> {
        if extension(input) == Some(NATIVE) {
            return Some(Self::Raw);
        }
        // The server cuts blanks off that stand beyond a varchar's length.
        let most = matches!(target.element().unwrap_or(target.oid), 1043).then_some(target.typmod - 4);
        let most = most.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        match Self::of_wire(input, &target.wire(), target.element(), most) {
            None if *input.data_type() == DataType::Utf8 => Some(Self::AsText(Reading::of(target))),
            Some(Self::Interval(_)) => Some(Self::Interval(temporal::IntervalLimit::of(target.typmod))),
            kind => kind,
        }
    }

    fn of_wire(input: &Field, wire: &Wire, element: Option<u32>, most: Option<usize>) -> Option<Self> {
        Some(match (wire, input.data_type()) {
            (Wire::Bool, DataType::Boolean) => Self::Bool,
            (Wire::Int2, DataType::Int16) => Self::Int2,
            (Wire::Int4, DataType::Int32) => Self::Int4,
            (Wire::Int8, DataType::Int64) => Self::Int8,
            (Wire::Oid, DataType::Int64) => Self::Oid,
            (Wire::Float4, DataType::Float32) => Self::Float4,
            (Wire::Float8, DataType::Float64) => Self::Float8,
            (Wire::Numeric(limits), DataType::Decimal128(_, s)) if limits.is_none_or(|(_, to)| i32::from(*s) <= to) => {
                Self::Decimal128(*s)
            }
            (Wire::Numeric(limits), DataType::Decimal256(_, s)) if limits.is_none_or(|(_, to)| i32::from(*s) <= to) => {
                Self::Decimal256(*s)
            }
            (Wire::Numeric(limits), DataType::Utf8) if extension(input) == Some(DECIMAL) => {
                Self::DecimalText(limits.map(|(_, s)| s))
            }
            (Wire::Text, DataType::Utf8) => Self::Text(most),
            (Wire::Json, DataType::Utf8) => Self::Text(None),
            (Wire::Jsonb, DataType::Utf8) => Self::Jsonb,
            (Wire::Bytea, DataType::Binary) => Self::Bytea,
            (Wire::Date, DataType::Date32) => Self::Date,
            (Wire::Time(digits), DataType::Time64(TimeUnit::Microsecond)) => Self::Time(*digits),
            (Wire::Timestamp(digits), DataType::Timestamp(TimeUnit::Microsecond, None)) => Self::Timestamp(*digits),
            (Wire::TimestampTz(digits), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => {
                Self::Timestamp(*digits)
            }
            (Wire::Interval, DataType::Utf8) if extension(input) == Some(INTERVAL) => {
                Self::Interval(temporal::IntervalLimit::NONE)
            }
            (Wire::Uuid, DataType::FixedSizeBinary(16)) => Self::Uuid,
            (Wire::Array(of), DataType::List(item)) => {
                Self::List(Box::new(Self::of_wire(item, of, None, most)?), element?)
            }
            _ => return None,
        })
    }

    /// The form the values should be converted into when none of the offers will do.
    pub(super) fn is_binary(&self) -> bool {
        !matches!(self, Self::AsText(_))
    }
}

/// Whether a column of type `target` takes values that come as `input`, and whether in binary.
pub fn accepts(input: &Field, target: &PgType) -> Option<Format> {
    Kind::of(input, target).map(|kind| if kind.is_binary() { Format::Binary } else { Format::Text })
}

/// Encodes batches for one COPY each.
pub struct Encoder {
    kinds: Vec<Kind>,
    names: Vec<String>,
    format: Format,
    /// The split and the next row's number, for staging tables.
    staged: Option<(i32, i64)>,
}

impl Encoder {
    /// The number of the next row within the split, for staging tables.
    pub fn next_row(&self) -> i64 {
        self.staged.map_or(0, |(_, next)| next)
    }

    /// An encoder for `columns`, pairs of input field and target type. With `split`, each row ends with the split and
    /// its number within it.
    ///
    /// # Errors
    /// A form that a target type does not take.
    pub fn new(columns: &[(&Field, &PgType)], format: Format, split: Option<i32>) -> Result<Self> {
        let kinds = columns.iter().map(|(field, target)| {
            Kind::of(field, target).filter(|k| format == Format::Text || k.is_binary()).ok_or_else(|| {
                let text = &target.text;
                Error::internal(format!("{} cannot be written to {text}", field.data_type()))
                    .with("column", field.name())
            })
        });
        Ok(Self {
            kinds: kinds.collect::<Result<_>>()?,
            names: columns.iter().map(|(field, _)| field.name().clone()).collect(),
            format,
            staged: split.map(|split| (split, 0)),
        })
    }

    /// The whole COPY stream of `batch` into `out`, without the refused rows.
    ///
    /// # Errors
    /// A batch with other columns than planned.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<Encoded> {
        out.clear();
        let mut encoded = Encoded::default();
        if self.format == Format::Text {
            text::encode(batch, &self.kinds, &mut self.staged, out, &mut encoded.refused)?;
            return Ok(encoded);
        }
        let views: Vec<View<'_>> = self
            .kinds
            .iter()
            .zip(batch.columns())
            .zip(&self.names)
            .map(|((kind, array), name)| View::of(kind, array).ok_or_else(|| not_as_planned(name)))
            .collect::<Result<_>>()?;
        if views.len() != self.kinds.len() || batch.num_columns() != views.len() {
            return Err(Error::internal("a batch has another number of columns than planned"));
        }
        let fields = views.len() + if self.staged.is_some() { 2 } else { 0 };
        let fields = i16::try_from(fields).map_err(|_| Error::internal("too many columns"))?.to_be_bytes();
        out.extend_from_slice(HEADER);
        for row in 0..batch.num_rows() {
            let start = out.len();
            out.extend_from_slice(&fields);
            let failed = views.iter().enumerate().find_map(|(i, view)| view.cell(row, out).err().map(|e| (i, e)));
            if let Some((column, reason)) = failed {
                out.truncate(start);
                encoded.refused.push((row, column, reason));
                continue;
            }
            if let Some((split, number)) = &mut self.staged {
                put_number!(out, *split, 4);
                put_number!(out, *number, 8);
                *number += 1;
            }
        }
        out.extend_from_slice(&TRAILER);
        Ok(encoded)
    }
}

pub(super) fn not_as_planned(column: &str) -> Error {
    Error::internal("a column of the batch has another type than planned").with("column", column)
}

/// A column of one batch, typed.
struct View<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Raw(&'a BinaryArray),
    Bool(&'a BooleanArray),
    Int2(&'a PrimitiveArray<Int16Type>),
    Int4(&'a PrimitiveArray<Int32Type>),
    Int8(&'a PrimitiveArray<Int64Type>),
    Oid(&'a PrimitiveArray<Int64Type>),
    Float4(&'a PrimitiveArray<Float32Type>),
    Float8(&'a PrimitiveArray<Float64Type>),
    Decimal128(&'a PrimitiveArray<Decimal128Type>, i8),
    Decimal256(&'a PrimitiveArray<Decimal256Type>, i8),
    DecimalText(&'a StringArray, Option<i32>),
    /// Texts that hold no NUL and fit whatever their length: where each begins, and all their bytes.
    Clean(&'a [i32], &'a [u8]),
    Text(&'a StringArray, Option<usize>),
    Jsonb(&'a StringArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>, i32),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>, i32),
    Interval(&'a StringArray, temporal::IntervalLimit),
    Uuid(&'a FixedSizeBinaryArray),
    List(&'a ListArray, Box<View<'a>>, u32),
}

#[inline]
fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Writes a value whose length is known only afterwards.
#[inline]
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(), String> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

impl<'a> View<'a> {
    fn of(kind: &Kind, array: &'a ArrayRef) -> Option<Self> {
        let values = match kind {
            Kind::Raw | Kind::Bytea => Values::Raw(array.as_binary_opt()?),
            Kind::Bool => Values::Bool(array.as_boolean_opt()?),
            Kind::Int2 => Values::Int2(array.as_primitive_opt()?),
            Kind::Int4 => Values::Int4(array.as_primitive_opt()?),
            Kind::Int8 => Values::Int8(array.as_primitive_opt()?),
            Kind::Oid => Values::Oid(array.as_primitive_opt()?),
            Kind::Float4 => Values::Float4(array.as_primitive_opt()?),
            Kind::Float8 => Values::Float8(array.as_primitive_opt()?),
            Kind::Decimal128(scale) => Values::Decimal128(array.as_primitive_opt()?, *scale),
            Kind::Decimal256(scale) => Values::Decimal256(array.as_primitive_opt()?, *scale),
            Kind::DecimalText(most) => Values::DecimalText(array.as_string_opt()?, *most),
            Kind::Text(most) => {
                let texts: &StringArray = array.as_string_opt()?;
                let offsets = texts.value_offsets();
                let (start, end) = (*offsets.first()? as usize, *offsets.last()? as usize);
                // One look at all of them, instead of one at each.
                match most.is_none() && !texts.value_data()[start..end].contains(&0) {
                    true => Values::Clean(texts.value_offsets(), texts.value_data()),
                    false => Values::Text(texts, *most),
                }
            }
            Kind::Jsonb => Values::Jsonb(array.as_string_opt()?),
            Kind::Date => Values::Date(array.as_primitive_opt()?),
            Kind::Time(digits) => Values::Time(array.as_primitive_opt()?, *digits),
            Kind::Timestamp(digits) => Values::Timestamp(array.as_primitive_opt()?, *digits),
            Kind::Interval(limit) => Values::Interval(array.as_string_opt()?, *limit),
            Kind::Uuid => Values::Uuid(array.as_fixed_size_binary_opt()?),
            Kind::List(item, oid) => {
                let list = array.as_list_opt::<i32>()?;
                Values::List(list, Box::new(Self::of(item, list.values())?), *oid)
            }
            Kind::AsText(_) => return None,
        };
        Some(Self { nulls: array.nulls(), values })
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    #[inline]
    fn cell(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        match &self.values {
            Values::Raw(a) => put(out, a.value(row)),
            Values::Bool(a) => put(out, &[u8::from(a.value(row))]),
            Values::Int2(a) => put_number!(out, a.value(row), 2),
            Values::Int4(a) => put_number!(out, a.value(row), 4),
            Values::Int8(a) => put_number!(out, a.value(row), 8),
            Values::Oid(a) => {
                let value = u32::try_from(a.value(row)).map_err(|_| format!("{} is no oid", a.value(row)))?;
                put_number!(out, value, 4);
            }
            Values::Float4(a) => put_number!(out, a.value(row), 4),
            Values::Float8(a) => put_number!(out, a.value(row), 8),
            Values::Decimal128(a, scale) => {
                let value = a.value(row);
                if !numeric::put_small(value, *scale, out) {
                    return measured(out, |out| {
                        numeric::from_i128(value, *scale, out);
                        Ok(())
                    });
                }
            }
            Values::Decimal256(a, scale) => {
                return measured(out, |out| {
                    numeric::from_i256(a.value(row), *scale, out);
                    Ok(())
                });
            }
            Values::DecimalText(a, most) => return measured(out, |out| numeric::from_text(a.value(row), *most, out)),
            Values::Clean(starts, bytes) => put(out, &bytes[starts[row] as usize..starts[row + 1] as usize]),
            Values::Text(a, most) => put(out, within(without_nul(a.value(row))?, *most)?),
            Values::Jsonb(a) => {
                let json = without_nul(a.value(row))?;
                out.extend_from_slice(&(json.len() as i32 + 1).to_be_bytes());
                out.push(1);
                out.extend_from_slice(json);
            }
            Values::Date(a) => match a.value(row).checked_sub(temporal::EPOCH_DAYS) {
                Some(days) if days != i32::MAX && days != i32::MIN => put_number!(out, days, 4),
                _ => return Err("the date is out of PostgreSQL's range".into()),
            },
            Values::Time(a, digits) => put_number!(out, whole_digits(a.value(row), *digits)?, 8),
            Values::Timestamp(a, digits) => match a.value(row).checked_sub(temporal::EPOCH_MICROS) {
                Some(micros) if micros != i64::MAX && micros != i64::MIN => {
                    put_number!(out, whole_digits(micros, *digits)?, 8);
                }
                _ => return Err("the timestamp is out of PostgreSQL's range".into()),
            },
            Values::Interval(a, limit) => {
                let (micros, days, months) = limit.check(temporal::parse_interval(a.value(row))?)?;
                out.extend_from_slice(&16i32.to_be_bytes());
                out.extend_from_slice(&micros.to_be_bytes());
                out.extend_from_slice(&days.to_be_bytes());
                out.extend_from_slice(&months.to_be_bytes());
            }
            Values::Uuid(a) => put(out, a.value(row)),
            Values::List(a, items, oid) => return list(a, items, *oid, row, out),
        }
        Ok(())
    }
}

// Apart, so that cells of other types are written in the loop over a row's columns.
#[inline(never)]
fn list(a: &ListArray, items: &View<'_>, oid: u32, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let (start, end) = (a.value_offsets()[row] as usize, a.value_offsets()[row + 1] as usize);
    measured(out, |out| {
        let nulls = (start..end).any(|i| items.is_null(i));
        let dimensions = i32::from(end > start);
        for word in [dimensions, i32::from(nulls), oid as i32] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if dimensions == 1 {
            out.extend_from_slice(&((end - start) as i32).to_be_bytes());
            out.extend_from_slice(&1i32.to_be_bytes());
        }
        (start..end).try_for_each(|i| items.cell(i, out))
    })
}

#[inline]
pub(super) fn without_nul(text: &str) -> Result<&[u8], String> {
    if text.as_bytes().contains(&0) {
        return Err("the text holds a NUL character, which PostgreSQL cannot store".into());
    }
    Ok(text.as_bytes())
}

/// The text, if it has no more than `most` characters.
#[inline]
pub(super) fn within(text: &[u8], most: Option<usize>) -> Result<&[u8], String> {
    match most {
        // Every character begins with one byte that is none of those that go on.
        Some(most) if text.len() > most && text.iter().filter(|b| **b & 0xc0 != 0x80).count() > most => {
            Err(format!("the text is longer than the column's {most} characters"))
        }
        _ => Ok(text),
    }
}

/// The value, if it has no more than `digits` digits after the second: the server would round.
#[inline]
pub(super) fn whole_digits(micros: i64, digits: i32) -> Result<i64, String> {
    const UNITS: [i64; 7] = [1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
    match UNITS.get(digits.max(0) as usize) {
        Some(unit) if micros % unit != 0 => {
            Err(format!("the value has more than the column's {digits} digits after the second"))
        }
        _ => Ok(micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Decoder;
    use arrow::array::{Int32Array, TimestampMicrosecondArray};
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn pg(text: &str) -> PgType {
        PgType::parse(text).unwrap()
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let types = [
            pg("integer"),
            pg("text"),
            pg("numeric(12,3)"),
            pg("timestamp with time zone"),
            pg("integer[]"),
            pg("interval"),
        ];
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(i, t)| t.representations(&format!("c{i}")).remove(1)).collect();
        let schema = Arc::new(Schema::new(fields));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![]), None]);
        let DataType::List(item) = schema.field(4).data_type() else { unreachable!() };
        let (_, offsets, values, nulls) = lists.into_parts();
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Int32Array::from(vec![Some(-1), None, Some(i32::MAX)])),
                Arc::new(StringArray::from(vec![Some("wéir"), Some(""), None])),
                Arc::new(
                    PrimitiveArray::<Decimal128Type>::from(vec![Some(-1_234_567), Some(0), None])
                        .with_precision_and_scale(12, 3)
                        .unwrap(),
                ),
                Arc::new(TimestampMicrosecondArray::from(vec![Some(1), Some(-1), None]).with_timezone("UTC")),
                Arc::new(ListArray::new(item.clone(), offsets, values, nulls)),
                Arc::new(StringArray::from(vec![Some("P1Y2DT-0.5S"), Some("PT0S"), None])),
            ],
        )
        .unwrap();
        let columns: Vec<_> = schema.fields().iter().map(|f| f.as_ref()).zip(&types).collect();
        let mut out = vec![];
        let encoded = Encoder::new(&columns, Format::Binary, None).unwrap().encode(&batch, &mut out).unwrap();
        assert!(encoded.refused.is_empty());
        let mut decoder = Decoder::new(schema, &types).unwrap();
        decoder.push(&out).unwrap();
        decoder.finish().unwrap();
        assert_eq!(decoder.take_ready().next().unwrap().batch, batch);
    }

    #[test]
    fn rows_that_the_server_would_alter_are_refused() {
        let fields = [
            Field::new("t", DataType::Utf8, true),
            Field::new("s", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ];
        let types = [pg("text"), pg("timestamp(3) without time zone")];
        let batch = RecordBatch::try_new(
            Arc::new(Schema::new(fields.to_vec())),
            vec![
                Arc::new(StringArray::from(vec!["a\0b", "b", "c"])),
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1001, 1000])),
            ],
        )
        .unwrap();
        let columns: Vec<_> = fields.iter().zip(&types).collect();
        for format in [Format::Binary, Format::Text] {
            let mut encoder = Encoder::new(&columns, format, Some(7)).unwrap();
            let mut out = vec![];
            let encoded = encoder.encode(&batch, &mut out).unwrap();
            assert_eq!(encoded.refused.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(), [(0, 0), (1, 1)]);
            if format == Format::Text {
                assert_eq!(out, b"c\t1970-01-01T00:00:00.001\t7\t0\n");
            }
        }
    }
}
