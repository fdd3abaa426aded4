//! Values as text, straight into the row that is being built.

use std::fmt::Write;

use arrow::array::*;
use arrow::datatypes::*;
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::DateTime;
use weir_core::field::{DECIMAL, JSON, UUID, extension};
use weir_files::Pattern;

/// How a column's values stand in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As a number, `true` or `false`: the text itself.
    Plain,
    /// JSON already.
    Json,
    /// As a string.
    Text,
}

/// Whether a column of this type can be written as text.
pub(crate) fn is_renderable(field: &Field) -> bool {
    use DataType as T;
    match field.data_type() {
        T::FixedSizeBinary(_) => true,
        // Arrow's own text of these loses values (NaN in a list) or is read back by nobody: the runtime's is exact.
        T::Interval(_) | T::Duration(_) | T::Struct(_) | T::Map(..) | T::List(_) | T::LargeList(_) => false,
        T::Union(..) | T::RunEndEncoded(..) | T::ListView(_) | T::LargeListView(_) => false,
        T::Dictionary(..) | T::FixedSizeList(..) => false,
        _ => extension(field) != Some(weir_core::field::NATIVE),
    }
}

/// Renders the values of one column.
pub(crate) struct Render<'a> {
    kind: Kind<'a>,
    array: &'a dyn Array,
    pub(crate) shape: Shape,
}

enum Kind<'a> {
    Text(&'a StringArray),
    Int64(&'a Int64Array),
    Int32(&'a Int32Array),
    Float64(&'a Float64Array),
    Float32(&'a Float32Array),
    Boolean(&'a BooleanArray),
    Date(&'a Date32Array, Option<&'a Pattern>),
    Micros(&'a TimestampMicrosecondArray, bool, Option<&'a Pattern>),
    Nanos(&'a TimestampNanosecondArray, bool, Option<&'a Pattern>),
    Bytes(&'a BinaryArray),
    Fixed(&'a FixedSizeBinaryArray, bool),
    Json(NullableEncoder<'a>, Vec<u8>),
    Other(ArrayFormatter<'a>),
}

use arrow::json::writer::NullableEncoder;

const DISPLAY: FormatOptions<'static> = FormatOptions::new()
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));

impl<'a> Render<'a> {
    /// Prepares a column; `json` is what nested columns need beside.
    pub(crate) fn new(
        array: &'a ArrayRef,
        field: &'a FieldRef,
        pattern: Option<&'a Pattern>,
        options: &'a EncoderOptions,
    ) -> Result<Self, ArrowError> {
        use DataType as T;
        let mut shape = Shape::Text;
        let kind = match array.data_type() {
            T::Utf8 => {
                shape = match extension(field) {
                    Some(JSON) => Shape::Json,
                    Some(DECIMAL) => Shape::Plain,
                    _ => Shape::Text,
                };
                Kind::Text(array.as_string())
            }
            T::Int64 => Kind::Int64(array.as_primitive()),
            T::Int32 => Kind::Int32(array.as_primitive()),
            T::Float64 => Kind::Float64(array.as_primitive()),
            T::Float32 => Kind::Float32(array.as_primitive()),
            T::Boolean => Kind::Boolean(array.as_boolean()),
            T::Date32 => Kind::Date(array.as_primitive(), pattern),
            T::Timestamp(TimeUnit::Microsecond, zone) => Kind::Micros(array.as_primitive(), zone.is_some(), pattern),
            T::Timestamp(TimeUnit::Nanosecond, zone) => Kind::Nanos(array.as_primitive(), zone.is_some(), pattern),
            T::Binary => Kind::Bytes(array.as_binary()),
            T::FixedSizeBinary(size) => {
                Kind::Fixed(array.as_fixed_size_binary(), *size == 16 && extension(field) == Some(UUID))
            }
            T::List(_) | T::LargeList(_) | T::Struct(_) | T::Map(..) => {
                shape = Shape::Json;
                Kind::Json(make_encoder(field, array.as_ref(), options)?, Vec::new())
            }
            _ => Kind::Other(ArrayFormatter::try_new(array.as_ref(), &DISPLAY)?),
        };
        let number = array.data_type().is_numeric() || array.data_type() == &T::Boolean;
        if number {
            shape = Shape::Plain;
        }
        Ok(Self { kind, array: array.as_ref(), shape })
    }

    /// Whether the value is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    /// The value, where it needs no rendering.
    pub(crate) fn borrowed(&self, row: usize) -> Option<&'a str> {
        match &self.kind {
            Kind::Text(array) => Some(array.value(row)),
            _ => None,
        }
    }

    /// Adds the value to `out`.
    pub(crate) fn write(&mut self, row: usize, out: &mut String) -> Result<(), ArrowError> {
        // Writing to a String cannot fail.
        let _ = match &mut self.kind {
            Kind::Text(a) => out.write_str(a.value(row)),
            Kind::Int64(a) => write!(out, "{}", a.value(row)),
            Kind::Int32(a) => write!(out, "{}", a.value(row)),
            Kind::Float64(a) => write!(out, "{:?}", a.value(row)),
            Kind::Float32(a) => write!(out, "{:?}", a.value(row)),
            Kind::Boolean(a) => write!(out, "{}", a.value(row)),
            Kind::Date(a, pattern) => match (a.value_as_date(row), pattern) {
                (Some(date), Some(pattern)) => {
                    return pattern.format(date.and_time(Default::default()), out).map_err(ArrowError::CastError);
                }
                (Some(date), None) => write!(out, "{date}"),
                (None, _) => return Err(out_of_range()),
            },
            Kind::Micros(a, instant, pattern) => {
                let at = DateTime::from_timestamp_micros(a.value(row)).ok_or_else(out_of_range)?;
                return moment(at, *instant, *pattern, out);
            }
            Kind::Nanos(a, instant, pattern) => {
                return moment(DateTime::from_timestamp_nanos(a.value(row)), *instant, *pattern, out);
            }
            Kind::Bytes(a) => hex(a.value(row), out),
            Kind::Fixed(a, true) => {
                for (i, byte) in a.value(row).iter().enumerate() {
                    let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
                    let _ = write!(out, "{dash}{byte:02x}");
                }
                Ok(())
            }
            Kind::Fixed(a, false) => hex(a.value(row), out),
            Kind::Json(encoder, bytes) => {
                bytes.clear();
                encoder.encode(row, bytes);
                out.push_str(std::str::from_utf8(bytes).map_err(|e| ArrowError::JsonError(e.to_string()))?);
                Ok(())
            }
            Kind::Other(formatter) => return formatter.value(row).write(out),
        };
        Ok(())
    }
}

fn out_of_range() -> ArrowError {
    ArrowError::CastError("the date is beyond the years that can be written".into())
}

fn moment(
    at: DateTime<chrono::Utc>,
    instant: bool,
    pattern: Option<&Pattern>,
    out: &mut String,
) -> Result<(), ArrowError> {
    let local = at.naive_utc();
    match pattern {
        Some(pattern) => pattern.format(local, out).map_err(ArrowError::CastError)?,
        None => {
            let _ = write!(out, "{}{}", local.format("%Y-%m-%d %H:%M:%S%.f"), if instant { "Z" } else { "" });
        }
    }
    Ok(())
}

fn hex(bytes: &[u8], out: &mut String) -> std::fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + bytes.len() * 2);
    out.push_str("\\x");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    Ok(())
}
