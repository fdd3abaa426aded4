//! From Arrow columns to LOAD DATA lines and to SQL literals, without an allocation per cell.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    Decimal256Array, FixedSizeBinaryArray, Float32Array, Float64Array, LargeBinaryArray, LargeStringArray, ListArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, Float32Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use weir_core::field::{NATIVE, UUID, extension};
use weir_core::{Error, ErrorKind, Result};
use weir_mysql::Kind;

use crate::json::altered_number;
use crate::spell::{LOWER, clock, date, decimal, decimal128, float, hex, hex_digits, quoted, signed, text, unsigned};

/// Where values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line of LOAD DATA: tabs, backslashes, `\N`.
    Load,
    /// A literal of an INSERT.
    Sql,
}

/// The columns of a batch, ready to be written.
pub(crate) struct Encoder<'a> {
    columns: Vec<Values<'a>>,
    kinds: &'a [Kind],
    cast: bool,
}

enum Values<'a> {
    I8(&'a PrimitiveArray<Int8Type>),
    I16(&'a PrimitiveArray<Int16Type>),
    /// Years, which the server guesses the century of unless they have four digits.
    Year(&'a PrimitiveArray<Int16Type>),
    I32(&'a PrimitiveArray<Int32Type>),
    I64(&'a PrimitiveArray<Int64Type>),
    U8(&'a PrimitiveArray<UInt8Type>),
    U16(&'a PrimitiveArray<UInt16Type>),
    U32(&'a PrimitiveArray<UInt32Type>),
    U64(&'a PrimitiveArray<UInt64Type>),
    Bits(&'a PrimitiveArray<UInt64Type>),
    Bool(&'a BooleanArray),
    BitBool(&'a BooleanArray),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    D128(&'a Decimal128Array, usize),
    D256(&'a Decimal256Array, usize),
    Date(&'a Date32Array),
    Seconds(&'a PrimitiveArray<TimestampSecondType>),
    Millis(&'a PrimitiveArray<TimestampMillisecondType>),
    Micros(&'a PrimitiveArray<TimestampMicrosecondType>),
    Duration(&'a PrimitiveArray<DurationMicrosecondType>),
    Clock(&'a PrimitiveArray<Time64MicrosecondType>),
    Text(&'a StringArray),
    /// JSON for MySQL's own binary form, which keeps numbers as integers of 64 bits and doubles.
    Json(&'a StringArray),
    /// The same, from a server that may keep JSON as text.
    NativeJson(&'a BinaryArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Uuid(&'a FixedSizeBinaryArray),
    /// Native values of types that are text on the wire.
    NativeText(&'a BinaryArray),
    Bytes(&'a BinaryArray),
    LargeBytes(&'a LargeBinaryArray),
    BytesView(&'a BinaryViewArray),
    FixedBytes(&'a FixedSizeBinaryArray),
    Wkb(&'a BinaryArray),
    Vector(&'a ListArray),
}

/// How a target column is named in LOAD DATA: itself, or a variable and the expression that makes its value.
pub(crate) fn load_expression(kind: &Kind, field: &Field, variable: &str) -> Option<String> {
    if !kind.is_bytes() {
        return None;
    }
    let bytes = format!("UNHEX({variable})");
    Some(if *kind == Kind::Geometry && extension(field) != Some(NATIVE) {
        format!("ST_GeomFromWKB({bytes})")
    } else {
        bytes
    })
}

impl<'a> Encoder<'a> {
    /// For one batch; `kinds` are the target's.
    pub(crate) fn new(batch: &'a RecordBatch, kinds: &'a [Kind], cast: bool) -> Result<Self> {
        let columns = batch
            .columns()
            .iter()
            .zip(batch.schema_ref().fields())
            .zip(kinds)
            .map(|((array, field), kind)| Values::new(array, field, kind))
            .collect::<Result<_>>()?;
        Ok(Self { columns, kinds, cast })
    }

    /// Why the server would not take a row as it is, though it might take it with a loss: column and reason.
    pub(crate) fn objection(&self, row: usize) -> Option<(usize, String)> {
        self.columns.iter().zip(self.kinds).enumerate().find_map(|(i, (values, kind))| {
            if values.is_null(row) {
                return None;
            }
            let reason = match values {
                Values::F32(a) if !a.value(row).is_finite() => format!("MySQL has no {}", a.value(row)),
                Values::F64(a) if !a.value(row).is_finite() => format!("MySQL has no {}", a.value(row)),
                Values::Seconds(_) | Values::Millis(_) | Values::Micros(_) => {
                    let micros = values.micros(row)?;
                    let whole = fraction(kind).is_none_or(|n| micros % 10i64.pow(6 - u32::from(n)) == 0);
                    if !(-62_167_219_200_000_000..=253_402_300_799_999_999).contains(&micros) {
                        "the year is not between 0 and 9999".into()
                    } else if !whole && !self.cast {
                        "it has finer fractions of a second than the column".into()
                    } else {
                        return None;
                    }
                }
                Values::Duration(_) | Values::Clock(_) => {
                    let micros = values.micros(row)?;
                    let whole = fraction(kind).is_none_or(|n| micros % 10i64.pow(6 - u32::from(n)) == 0);
                    // MariaDB's goes to the last microsecond; MySQL itself refuses those.
                    if micros.unsigned_abs() > 3_020_399_999_999 {
                        "a TIME goes to 838:59:59".into()
                    } else if !whole && !self.cast {
                        "it has finer fractions of a second than the column".into()
                    } else {
                        return None;
                    }
                }
                Values::Date(a) if !(-719_528..=2_932_896).contains(&a.value(row)) => {
                    "the year is not between 0 and 9999".into()
                }
                Values::Json(a) => altered_number(a.value(row).as_bytes())?,
                Values::NativeJson(a) => altered_number(a.value(row))?,
                _ => return None,
            };
            Some((i, reason))
        })
    }

    /// Whether any row of some column may draw an objection; most batches have no such column.
    pub(crate) fn needs_a_look(&self) -> bool {
        self.columns.iter().any(|v| {
            matches!(
                v,
                Values::F32(_)
                    | Values::F64(_)
                    | Values::Seconds(_)
                    | Values::Millis(_)
                    | Values::Micros(_)
                    | Values::Duration(_)
                    | Values::Clock(_)
                    | Values::Date(_)
                    | Values::Json(_)
                    | Values::NativeJson(_)
            )
        })
    }

    /// Writes a row's values: `a<tab>b<newline>` or `(a,b)`, with `extra` at the end.
    pub(crate) fn row(&self, row: usize, style: Style, extra: &[u64], out: &mut Vec<u8>) {
        let separator = if style == Style::Load { b'\t' } else { b',' };
        if style == Style::Sql {
            out.push(b'(');
        }
        for (i, values) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(separator);
            }
            values.write(row, style, out);
        }
        for (i, number) in extra.iter().enumerate() {
            if i > 0 || !self.columns.is_empty() {
                out.push(separator);
            }
            unsigned(*number, out);
        }
        out.push(if style == Style::Load { b'\n' } else { b')' });
    }
}

fn fraction(kind: &Kind) -> Option<u8> {
    match kind {
        Kind::DateTime(n) | Kind::Timestamp(n) | Kind::Time(n) => Some(*n),
        _ => None,
    }
}

impl<'a> Values<'a> {
    fn new(array: &'a ArrayRef, field: &Field, kind: &Kind) -> Result<Self> {
        Ok(match (array.data_type(), kind) {
            (DataType::Binary, Kind::Json) if extension(field) == Some(NATIVE) => Self::NativeJson(array.as_binary()),
            (DataType::Binary, kind) if extension(field) == Some(NATIVE) && !kind.is_bytes() => {
                Self::NativeText(array.as_binary())
            }
            (DataType::Binary, _) if extension(field) == Some(NATIVE) => Self::Bytes(array.as_binary()),
            (DataType::Binary, Kind::Geometry) => Self::Wkb(array.as_binary()),
            (DataType::Int8, _) => Self::I8(array.as_primitive()),
            (DataType::Int16, Kind::Year) => Self::Year(array.as_primitive()),
            (DataType::Int16, _) => Self::I16(array.as_primitive()),
            (DataType::Int32, _) => Self::I32(array.as_primitive()),
            (DataType::Int64, _) => Self::I64(array.as_primitive()),
            (DataType::UInt8, _) => Self::U8(array.as_primitive()),
            (DataType::UInt16, _) => Self::U16(array.as_primitive()),
            (DataType::UInt32, _) => Self::U32(array.as_primitive()),
            (DataType::UInt64, Kind::Bit(_)) => Self::Bits(array.as_primitive()),
            (DataType::UInt64, _) => Self::U64(array.as_primitive()),
            (DataType::Boolean, Kind::Bit(_)) => Self::BitBool(array.as_boolean()),
            (DataType::Boolean, _) => Self::Bool(array.as_boolean()),
            (DataType::Float32, _) => Self::F32(array.as_primitive()),
            (DataType::Float64, _) => Self::F64(array.as_primitive()),
            (DataType::Decimal128(_, s), _) if *s >= 0 => Self::D128(array.as_primitive(), *s as usize),
            (DataType::Decimal256(_, s), _) if *s >= 0 => Self::D256(array.as_primitive(), *s as usize),
            (DataType::Date32, _) => Self::Date(array.as_primitive()),
            (DataType::Timestamp(TimeUnit::Second, _), _) => Self::Seconds(array.as_primitive()),
            (DataType::Timestamp(TimeUnit::Millisecond, _), _) => Self::Millis(array.as_primitive()),
            (DataType::Timestamp(TimeUnit::Microsecond, _), _) => Self::Micros(array.as_primitive()),
            (DataType::Duration(TimeUnit::Microsecond), _) => Self::Duration(array.as_primitive()),
            (DataType::Time64(TimeUnit::Microsecond), _) => Self::Clock(array.as_primitive()),
            (DataType::Utf8, Kind::Json) => Self::Json(array.as_string()),
            (DataType::Utf8, _) => Self::Text(array.as_string()),
            (DataType::LargeUtf8, _) => Self::LargeText(array.as_string()),
            (DataType::Utf8View, _) => Self::TextView(array.as_string_view()),
            (DataType::FixedSizeBinary(16), kind) if extension(field) == Some(UUID) && !kind.is_bytes() => {
                Self::Uuid(array.as_fixed_size_binary())
            }
            (DataType::Binary, _) => Self::Bytes(array.as_binary()),
            (DataType::LargeBinary, _) => Self::LargeBytes(array.as_binary()),
            (DataType::BinaryView, _) => Self::BytesView(array.as_binary_view()),
            (DataType::FixedSizeBinary(_), _) => Self::FixedBytes(array.as_fixed_size_binary()),
            (DataType::List(item), _) if *item.data_type() == DataType::Float32 => Self::Vector(array.as_list()),
            (other, _) => {
                return Err(Error::new(ErrorKind::Internal, format!("{other} was never asked for"))
                    .with("column", field.name()));
            }
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::I8(a) => *a,
            Self::I16(a) | Self::Year(a) => *a,
            Self::I32(a) => *a,
            Self::I64(a) => *a,
            Self::U8(a) => *a,
            Self::U16(a) => *a,
            Self::U32(a) => *a,
            Self::U64(a) | Self::Bits(a) => *a,
            Self::Bool(a) | Self::BitBool(a) => *a,
            Self::F32(a) => *a,
            Self::F64(a) => *a,
            Self::D128(a, _) => *a,
            Self::D256(a, _) => *a,
            Self::Date(a) => *a,
            Self::Seconds(a) => *a,
            Self::Millis(a) => *a,
            Self::Micros(a) => *a,
            Self::Duration(a) => *a,
            Self::Clock(a) => *a,
            Self::Text(a) | Self::Json(a) => *a,
            Self::LargeText(a) => *a,
            Self::TextView(a) => *a,
            Self::NativeText(a) | Self::NativeJson(a) | Self::Bytes(a) | Self::Wkb(a) => *a,
            Self::LargeBytes(a) => *a,
            Self::BytesView(a) => *a,
            Self::Uuid(a) | Self::FixedBytes(a) => *a,
            Self::Vector(a) => *a,
        }
    }

    fn is_null(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    /// A time as µs; `None` where it would overflow.
    fn micros(&self, row: usize) -> Option<i64> {
        match self {
            // What overflows is far outside of MySQL's years in any case.
            Self::Seconds(a) => Some(a.value(row).saturating_mul(1_000_000)),
            Self::Millis(a) => Some(a.value(row).saturating_mul(1_000)),
            Self::Micros(a) => Some(a.value(row)),
            Self::Duration(a) => Some(a.value(row)),
            Self::Clock(a) => Some(a.value(row)),
            _ => None,
        }
    }

    fn write(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(if style == Style::Load { b"\\N" } else { b"NULL" });
            return;
        }
        match self {
            Self::I8(a) => signed(a.value(row).into(), out),
            Self::I16(a) => signed(a.value(row).into(), out),
            Self::Year(a) => quoted(style, out, |out| out.extend_from_slice(format!("{:04}", a.value(row)).as_bytes())),
            Self::I32(a) => signed(a.value(row).into(), out),
            Self::I64(a) => signed(a.value(row), out),
            Self::U8(a) => unsigned(a.value(row).into(), out),
            Self::U16(a) => unsigned(a.value(row).into(), out),
            Self::U32(a) => unsigned(a.value(row).into(), out),
            Self::U64(a) => unsigned(a.value(row), out),
            Self::Bits(a) => hex(&a.value(row).to_be_bytes(), style, out),
            Self::Bool(a) => out.push(b'0' + u8::from(a.value(row))),
            Self::BitBool(a) => hex(&[u8::from(a.value(row))], style, out),
            // As text each gives the shortest digits that lead back to it.
            Self::F32(a) => float(f64::from(a.value(row)), out),
            Self::F64(a) => float(a.value(row), out),
            Self::D128(a, scale) => decimal128(a.value(row), *scale, out),
            Self::D256(a, scale) => decimal(a.value(row), *scale, out),
            Self::Date(a) => quoted(style, out, |out| date(a.value(row).into(), out)),
            Self::Seconds(_) | Self::Millis(_) | Self::Micros(_) => {
                let micros = self.micros(row).unwrap_or_default();
                quoted(style, out, |out| {
                    date(micros.div_euclid(86_400_000_000), out);
                    out.push(b' ');
                    clock(micros.rem_euclid(86_400_000_000) as u64, out);
                });
            }
            Self::Duration(_) | Self::Clock(_) => {
                let micros = self.micros(row).unwrap_or_default();
                quoted(style, out, |out| {
                    if micros < 0 {
                        out.push(b'-');
                    }
                    clock(micros.unsigned_abs(), out);
                });
            }
            Self::Text(a) | Self::Json(a) => text(a.value(row).as_bytes(), style, out),
            Self::LargeText(a) => text(a.value(row).as_bytes(), style, out),
            Self::TextView(a) => text(a.value(row).as_bytes(), style, out),
            Self::NativeText(a) | Self::NativeJson(a) => text(a.value(row), style, out),
            Self::Uuid(a) => quoted(style, out, |out| {
                for (i, byte) in a.value(row).iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        out.push(b'-');
                    }
                    out.extend_from_slice(&[LOWER[usize::from(byte >> 4)], LOWER[usize::from(byte & 15)]]);
                }
            }),
            Self::Bytes(a) => hex(a.value(row), style, out),
            Self::LargeBytes(a) => hex(a.value(row), style, out),
            Self::BytesView(a) => hex(a.value(row), style, out),
            Self::FixedBytes(a) => hex(a.value(row), style, out),
            Self::Wkb(a) if style == Style::Sql => {
                out.extend_from_slice(b"ST_GeomFromWKB(");
                hex(a.value(row), style, out);
                out.push(b')');
            }
            Self::Wkb(a) => hex(a.value(row), style, out),
            Self::Vector(a) => {
                let offsets = a.value_offsets();
                let floats = a.values().as_primitive::<Float32Type>();
                let floats = &floats.values()[offsets[row] as usize..offsets[row + 1] as usize];
                if style == Style::Sql {
                    out.extend_from_slice(b"X'");
                }
                floats.iter().for_each(|f| hex_digits(&f.to_le_bytes(), out));
                if style == Style::Sql {
                    out.push(b'\'');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn written(array: ArrayRef, type_text: &str) -> (String, String) {
        let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
        let kinds = [Kind::parse(type_text)];
        let encoder = Encoder::new(&batch, &kinds, false).unwrap();
        let (mut load, mut sql) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            encoder.row(row, Style::Load, &[], &mut load);
            encoder.row(row, Style::Sql, &[], &mut sql);
        }
        (String::from_utf8(load).unwrap(), String::from_utf8(sql).unwrap())
    }

    #[test]
    fn values_keep_their_digits() {
        let (load, _) = written(Arc::new(Int8ArrayOf::from(vec![Some(-128), None, Some(0)])), "tinyint");
        assert_eq!(load, "-128\n\\N\n0\n");
        let decimals = Decimal128Array::from(vec![-5, 1234, 0]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(written(Arc::new(decimals), "decimal(10,2)").1, "(-0.05)(12.34)(0.00)");
        let floats = Float64Array::from(vec![0.1, -0.0, 1e300]);
        assert_eq!(written(Arc::new(floats), "double").0, "0.1\n-0e0\n1e300\n");
        let times = PrimitiveArray::<TimestampMicrosecondType>::from(vec![-1, 1_709_210_096_000_000]);
        let text = "1969-12-31 23:59:59.999999\n2024-02-29 12:34:56\n";
        assert_eq!(written(Arc::new(times), "datetime(6)").0, text);
        let spans = PrimitiveArray::<DurationMicrosecondType>::from(vec![-3_020_399_000_000, 1]);
        assert_eq!(written(Arc::new(spans), "time(6)").0, "-838:59:59\n00:00:00.000001\n");
    }

    type Int8ArrayOf = PrimitiveArray<Int8Type>;

    #[test]
    fn text_cannot_break_out() {
        let texts = StringArray::from(vec!["a'b\\c\td\ne\0", ""]);
        let (load, sql) = written(Arc::new(texts), "text");
        assert_eq!(load, "a'b\\\\c\\td\\ne\\0\n\n");
        assert_eq!(sql, "('a\\'b\\\\c\td\ne\\0')('')");
        assert_eq!(written(Arc::new(BinaryArray::from(vec![&[0u8, 255][..], b""])), "blob").1, "(X'00ff')(X'')");
    }

    #[test]
    fn what_would_be_rounded_is_refused() {
        let batch = RecordBatch::try_from_iter([(
            "c",
            Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(vec![1_500_000, 1_000_000])) as ArrayRef,
        )])
        .unwrap();
        let kinds = [Kind::DateTime(0)];
        let encoder = Encoder::new(&batch, &kinds, false).unwrap();
        assert!(encoder.objection(0).is_some() && encoder.objection(1).is_none());
    }
}
