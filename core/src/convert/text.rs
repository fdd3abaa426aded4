//! Values as text: the one canonical form that CSV, JSON lines, transformers, messages and the quarantine share.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type};
use encoding_rs::Encoding;

use super::calendar::{DAY, Zone, per_second};
use super::columns::{quoted, write_hex, write_text};
use super::decimals::write_digits;
use super::kinds::{Kind, counts, decoded, stored};
use super::patterns::{Pattern, seconds_of};
use super::{CellFault, Formats, intervals, nested, numbers, times};
use crate::field::type_text;
use crate::{Error, ErrorKind, Result};

/// How values are written.
pub(super) struct Style<'a> {
    pub(super) zone: Zone,
    pub(super) formats: &'a Formats,
    /// The encoding that bytes are read in; `None` writes them as hexadecimal digits.
    pub(super) encoding: Option<&'static Encoding>,
}

/// Every value of `column` as text.
pub(super) fn texts(
    column: &ArrayRef,
    field: &Field,
    style: &Style<'_>,
    faults: &mut Vec<CellFault>,
) -> Result<StringArray> {
    use std::fmt::Write;

    let column = &decoded(column)?;
    let kind = Kind::of(&field.clone().with_data_type(column.data_type().clone()));
    let column = &match kind.storage() {
        // Integers have a text in any width.
        Some(storage) if !matches!(kind, Kind::Integer(_)) => stored(column, &storage)?,
        _ => column.clone(),
    };
    Ok(match kind {
        Kind::Null => StringArray::new_null(column.len()),
        Kind::Boolean | Kind::Integer(_) => stored(column, &DataType::Utf8)?.as_string::<i32>().clone(),
        Kind::Float(true) => {
            let values = column.as_primitive::<Float64Type>().values();
            write_text(column, faults, 18, |row, out| {
                numbers::write_float(values[row], out);
                Ok(())
            })
        }
        Kind::Float(false) => {
            let values = column.as_primitive::<Float32Type>().values();
            write_text(column, faults, 10, |row, out| {
                numbers::write_float(values[row], out);
                Ok(())
            })
        }
        Kind::Decimal(fixed) => {
            let mut digits = String::new();
            let mut write = |value: &dyn std::fmt::Display, out: &mut String| {
                digits.clear();
                let _ = write!(digits, "{value}");
                write_digits(&digits, fixed.scale, out);
                Ok(())
            };
            if fixed.wide {
                let values = column.as_primitive::<Decimal256Type>().values();
                write_text(column, faults, 40, |row, out| write(&values[row], out))
            } else {
                let values = column.as_primitive::<Decimal128Type>().values();
                write_text(column, faults, 12, |row, out| write(&values[row], out))
            }
        }
        Kind::Text | Kind::DecimalText | Kind::Json | Kind::Interval => column.as_string::<i32>().clone(),
        Kind::ArrowInterval => intervals::of_arrow(column, faults),
        Kind::Native => bytes(&stored(column, &DataType::Binary)?, None, faults),
        Kind::Binary => bytes(column, style.encoding, faults),
        Kind::FixedBinary(_) => bytes(&stored(column, &DataType::Binary)?, style.encoding, faults),
        Kind::Uuid => {
            let values = column.as_fixed_size_binary();
            write_text(column, faults, 36, |row, out| {
                let uuid = uuid::Uuid::from_slice(values.value(row)).map_err(|e| e.to_string())?;
                let _ = write!(out, "{uuid}");
                Ok(())
            })
        }
        Kind::Date => {
            let counts = counts(column)?;
            let values = counts.values();
            write_text(column, faults, 10, |row, out| {
                match &style.formats.date {
                    Some(pattern) => pattern.write(values[row], 0, 0, out),
                    None => times::write_date(values[row], out),
                }
                Ok(())
            })
        }
        Kind::Time(unit) => {
            let counts = counts(column)?;
            let values = counts.values();
            let nanos = 1_000_000_000 / per_second(unit);
            write_text(column, faults, 15, |row, out| {
                let within = (0..DAY * per_second(unit)).contains(&values[row]);
                match &style.formats.time {
                    Some(pattern) if within => pattern.write(0, values[row] * nanos, 0, out),
                    _ if within => times::write_time(values[row], unit, out),
                    // Damaged data: no time of day, but a length of time still.
                    _ => times::write_duration(values[row], unit, out),
                }
                Ok(())
            })
        }
        Kind::Timestamp(unit, zoned) => {
            let counts = counts(column)?;
            let values = counts.values();
            let nanos = 1_000_000_000 / per_second(unit);
            write_text(column, faults, 32, |row, out| {
                let value = values[row];
                match &style.formats.datetime {
                    Some(pattern) => {
                        let (seconds, part) = seconds_of(value, per_second(unit));
                        let offset =
                            if zoned || pattern.has_offset() { style.zone.offset_at(seconds) } else { Some(0) };
                        let offset = offset.ok_or_else(|| {
                            format!("{} is too far away for a time zone", times::show_timestamp(value, unit))
                        })?;
                        write_pattern(pattern, seconds + if zoned { offset } else { 0 }, part * nanos, offset, out);
                    }
                    None if zoned => times::write_instant(value, unit, &style.zone, out),
                    None => times::write_timestamp(value, unit, out),
                }
                Ok(())
            })
        }
        Kind::Duration(unit) => {
            let counts = counts(column)?;
            let values = counts.values();
            write_text(column, faults, 12, |row, out| {
                times::write_duration(values[row], unit, out);
                Ok(())
            })
        }
        Kind::List(_) | Kind::Nested => nested::json_texts(column, field, style, faults)?,
        Kind::Other => {
            return Err(Error::new(
                ErrorKind::Schema,
                format!("a column of type {} has no text form", type_text(field)),
            )
            .with("column", field.name()));
        }
    })
}

fn write_pattern(pattern: &Pattern, local: i64, nanos: i64, offset: i64, out: &mut String) {
    pattern.write(local.div_euclid(DAY), local.rem_euclid(DAY) * 1_000_000_000 + nanos, offset, out);
}

/// Bytes as text in an encoding, or as hexadecimal digits.
fn bytes(column: &ArrayRef, encoding: Option<&'static Encoding>, faults: &mut Vec<CellFault>) -> StringArray {
    let values = column.as_binary::<i32>();
    let Some(encoding) = encoding else {
        return write_text(column, faults, 16, |row, out| {
            write_hex(values.value(row), out);
            Ok(())
        });
    };
    if encoding == encoding_rs::UTF_8
        && let Ok(texts) = StringArray::try_from_binary(values.clone())
    {
        return texts;
    }
    write_text(column, faults, 16, |row, out| {
        match encoding.decode_without_bom_handling_and_without_replacement(values.value(row)) {
            Some(text) => out.push_str(&text),
            None => {
                let mut hex = String::new();
                write_hex(&values.value(row)[..values.value(row).len().min(40)], &mut hex);
                return Err(format!("the bytes {} are no text in {}", quoted(&hex), encoding.name()));
            }
        }
        Ok(())
    })
}

/// Texts as bytes of an encoding.
pub(super) fn to_bytes(column: &ArrayRef, encoding: &'static Encoding, faults: &mut Vec<CellFault>) -> ArrayRef {
    let texts = column.as_string::<i32>();
    if encoding == encoding_rs::UTF_8 {
        return Arc::new(super::columns::binary_of_text(texts));
    }
    let mut builder = arrow::array::BinaryBuilder::with_capacity(texts.len(), texts.value_data().len());
    for (row, text) in texts.iter().enumerate() {
        let Some(text) = text else {
            builder.append_null();
            continue;
        };
        let (bytes, _, replaced) = encoding.encode(text);
        if replaced {
            let reason = format!("{} has characters that {} lacks", quoted(text), encoding.name());
            faults.push(CellFault { row, reason });
            builder.append_null();
        } else {
            builder.append_value(bytes);
        }
    }
    Arc::new(builder.finish())
}
