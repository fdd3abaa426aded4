//! Stored values into Arrow columns: each exactly, or not at all.

use std::fmt::Write;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    DurationMicrosecondBuilder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder,
    Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    TimestampNanosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::field::{DECIMAL, INTERVAL, JSON, TEXT, UUID, extension, type_text};
use weir_core::{Error, ErrorKind, Result};
use weir_sqlite::Value;
use weir_sqlite::decimal::Decimal;
use weir_sqlite::times::{self, Moment};

use crate::config::IntegerTimes;

/// A column that is being filled.
pub struct Column {
    builder: Builder,
    /// The type, for reasons.
    kind: String,
    /// How whole numbers are times.
    times: IntegerTimes,
    decimal: Decimal,
    text: String,
    /// Bytes of a value that is not part of its length.
    pub width: usize,
}

enum Builder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    /// Decimal text of any precision.
    Digits(StringBuilder),
    /// A TEXT column's text.
    Utf8(StringBuilder),
    /// Any value in its text form.
    AnyText(StringBuilder),
    Binary(BinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Duration(DurationMicrosecondBuilder),
    Micros(TimestampMicrosecondBuilder),
    Nanos(TimestampNanosecondBuilder),
}

/// Why a value does not fit; `None` for the plain reason that names class and type.
type Misfit = Option<String>;

impl Column {
    /// An empty column of one of the forms that `schema` offers.
    pub fn new(field: &Field, times: IntegerTimes) -> Result<Self> {
        let builder = match (field.data_type(), extension(field)) {
            (DataType::Boolean, _) => Builder::Boolean(BooleanBuilder::new()),
            (DataType::Int8, _) => Builder::Int8(Int8Builder::new()),
            (DataType::Int16, _) => Builder::Int16(Int16Builder::new()),
            (DataType::Int32, _) => Builder::Int32(Int32Builder::new()),
            (DataType::Int64, _) => Builder::Int64(Int64Builder::new()),
            (DataType::UInt8, _) => Builder::UInt8(UInt8Builder::new()),
            (DataType::UInt16, _) => Builder::UInt16(UInt16Builder::new()),
            (DataType::UInt32, _) => Builder::UInt32(UInt32Builder::new()),
            (DataType::UInt64, _) => Builder::UInt64(UInt64Builder::new()),
            (DataType::Float32, _) => Builder::Float32(Float32Builder::new()),
            (DataType::Float64, _) => Builder::Float64(Float64Builder::new()),
            (DataType::Decimal128(p, s), _) => {
                Builder::Decimal128(Decimal128Builder::new().with_precision_and_scale(*p, *s)?, *p, *s)
            }
            (DataType::Decimal256(p, s), _) => {
                Builder::Decimal256(Decimal256Builder::new().with_precision_and_scale(*p, *s)?, *p, *s)
            }
            (DataType::Utf8, Some(DECIMAL)) => Builder::Digits(StringBuilder::new()),
            (DataType::Utf8, Some(TEXT)) => Builder::AnyText(StringBuilder::new()),
            (DataType::Utf8, None | Some(JSON | INTERVAL)) => Builder::Utf8(StringBuilder::new()),
            (DataType::Binary, None) => Builder::Binary(BinaryBuilder::new()),
            (DataType::FixedSizeBinary(16), Some(UUID)) => Builder::Uuid(FixedSizeBinaryBuilder::new(16)),
            (DataType::Date32, _) => Builder::Date(Date32Builder::new()),
            (DataType::Time64(TimeUnit::Microsecond), _) => Builder::Time(Time64MicrosecondBuilder::new()),
            (DataType::Duration(TimeUnit::Microsecond), _) => Builder::Duration(DurationMicrosecondBuilder::new()),
            (DataType::Timestamp(TimeUnit::Microsecond, zone), _) => {
                Builder::Micros(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            (DataType::Timestamp(TimeUnit::Nanosecond, zone), _) => {
                Builder::Nanos(TimestampNanosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            _ => {
                let message = format!("the SQLite reader does not give `{}` as {}", field.name(), type_text(field));
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let width = field.data_type().primitive_width().unwrap_or(4);
        let kind = type_text(field);
        Ok(Self { builder, kind, times, decimal: Decimal::default(), text: String::new(), width })
    }

    /// Takes a value; one that does not fit leaves NULL and says why.
    pub fn push(&mut self, value: Value<'_>) -> Result<(), String> {
        let misfit = match self.try_push(value) {
            Ok(()) => return Ok(()),
            Err(misfit) => misfit,
        };
        self.push_null();
        Err(misfit.unwrap_or_else(|| {
            let mut shown = shown(value);
            if shown.chars().count() > 40 {
                shown = shown.chars().take(40).chain(['…']).collect();
            }
            format!("{} {shown} is no {}", value.class(), self.kind)
        }))
    }

    fn try_push(&mut self, value: Value<'_>) -> Result<(), Misfit> {
        macro_rules! integer {
            ($builder:expr) => {
                match integer(value).and_then(|n| n.try_into().ok()) {
                    Some(n) => $builder.append_value(n),
                    None => return Err(None),
                }
            };
        }
        if value == Value::Null {
            self.push_null();
            return Ok(());
        }
        let (decimal, text, times) = (&mut self.decimal, &mut self.text, self.times);
        match &mut self.builder {
            Builder::Int64(b) => match value {
                Value::Integer(n) => b.append_value(n),
                other => b.append_value(integer(other).and_then(|n| n.try_into().ok()).ok_or(None)?),
            },
            Builder::Utf8(b) | Builder::AnyText(b) if matches!(value, Value::Text(_)) => {
                let Value::Text(bytes) = value else { return Err(None) };
                b.append_value(std::str::from_utf8(bytes).map_err(|_| Some("the text is not valid UTF-8".to_owned()))?);
            }
            Builder::Utf8(b) => match value {
                Value::Integer(_) | Value::Real(_) => {
                    write_any(value, text);
                    b.append_value(&text);
                }
                _ => return Err(None),
            },
            Builder::AnyText(b) => {
                write_any(value, text);
                b.append_value(&text);
            }
            Builder::Float64(b) => b.append_value(double(value).ok_or(None)?),
            Builder::Float32(b) => {
                let wide = double(value).ok_or(None)?;
                let narrow = wide as f32;
                if f64::from(narrow) != wide && !wide.is_nan() {
                    return Err(None);
                }
                b.append_value(narrow);
            }
            Builder::Decimal128(b, p, s) => {
                number(value, decimal).filter(|_| decimal.rescale(*p, *s)).ok_or(None)?;
                b.append_value(decimal.to_i128().ok_or(None)?);
            }
            Builder::Decimal256(b, p, s) => {
                number(value, decimal).filter(|_| decimal.rescale(*p, *s)).ok_or(None)?;
                b.append_value(decimal.to_i256().ok_or(None)?);
            }
            Builder::Digits(b) => match value {
                Value::Text(b"NaN" | b"Infinity" | b"-Infinity") => b.append_value(shown(value)),
                Value::Real(x) if x.is_infinite() => b.append_value(if x > 0.0 { "Infinity" } else { "-Infinity" }),
                _ => {
                    number(value, decimal).ok_or(None)?;
                    text.clear();
                    decimal.write_plain(text).ok_or(None)?;
                    b.append_value(&text);
                }
            },
            Builder::Binary(b) => match value {
                Value::Blob(bytes) => b.append_value(bytes),
                _ => return Err(None),
            },
            Builder::Boolean(b) => b.append_value(boolean(value).ok_or(None)?),
            Builder::Int8(b) => integer!(b),
            Builder::Int16(b) => integer!(b),
            Builder::Int32(b) => integer!(b),
            Builder::UInt8(b) => integer!(b),
            Builder::UInt16(b) => integer!(b),
            Builder::UInt32(b) => integer!(b),
            Builder::UInt64(b) => integer!(b),
            Builder::Uuid(b) => {
                let bytes = uuid(value).ok_or(None)?;
                b.append_value(bytes).map_err(|error| Some(error.to_string()))?;
            }
            Builder::Date(b) => {
                let moment = moment(value, times)?.ok_or(None)?;
                if moment.nanos != 0 {
                    return Err(Some(format!("{} has a time of day, but the column is a DATE", shown(value))));
                }
                b.append_value(moment.days.try_into().map_err(|_| None)?);
            }
            Builder::Time(b) => {
                let Value::Text(bytes) = value else { return Err(None) };
                let nanos = times::parse_time(bytes).filter(|n| n % 1000 == 0).ok_or(None)?;
                b.append_value(nanos / 1000);
            }
            Builder::Duration(b) => {
                let Value::Text(bytes) = value else { return Err(None) };
                let nanos = times::parse_duration(bytes).filter(|n| n % 1000 == 0).ok_or(None)?;
                b.append_value(nanos / 1000);
            }
            Builder::Micros(b) => {
                let moment = moment(value, times)?.ok_or(None)?;
                b.append_value(moment.since_epoch(1_000_000).ok_or(None)?);
            }
            Builder::Nanos(b) => {
                let moment = moment(value, times)?.ok_or(None)?;
                b.append_value(moment.since_epoch(1_000_000_000).ok_or(None)?);
            }
        }
        Ok(())
    }

    fn push_null(&mut self) {
        each(&mut self.builder, |builder| builder.null());
    }

    /// The column so far; it starts anew.
    pub fn finish(&mut self) -> ArrayRef {
        let mut array = None;
        each(&mut self.builder, |builder| array = Some(builder.done()));
        array.unwrap_or_else(|| arrow::array::new_empty_array(&DataType::Null))
    }
}

/// What all builders do alike.
trait Any {
    fn null(&mut self);
    fn done(&mut self) -> ArrayRef;
}

macro_rules! builders {
    ($($variant:ident),*; $($wide:ident),*) => {
        fn each(builder: &mut Builder, mut action: impl FnMut(&mut dyn Any)) {
            match builder {
                $(Builder::$variant(b) => action(b),)*
                $(Builder::$wide(b, _, _) => action(b),)*
            }
        }
    };
}

builders!(Boolean, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64, Digits, Utf8, AnyText,
    Binary, Uuid, Date, Time, Duration, Micros, Nanos; Decimal128, Decimal256);

macro_rules! any {
    ($($builder:ident),*) => {
        $(impl Any for $builder {
            fn null(&mut self) {
                self.append_null();
            }
            fn done(&mut self) -> ArrayRef {
                std::sync::Arc::new(self.finish())
            }
        })*
    };
}

any!(
    BooleanBuilder,
    Int8Builder,
    Int16Builder,
    Int32Builder,
    Int64Builder,
    UInt8Builder,
    UInt16Builder,
    UInt32Builder,
    UInt64Builder,
    Float32Builder,
    Float64Builder,
    Decimal128Builder,
    Decimal256Builder,
    StringBuilder,
    BinaryBuilder,
    FixedSizeBinaryBuilder,
    Date32Builder,
    Time64MicrosecondBuilder,
    DurationMicrosecondBuilder,
    TimestampMicrosecondBuilder,
    TimestampNanosecondBuilder
);

/// A value as text, for a person.
pub fn shown(value: Value<'_>) -> String {
    let mut text = String::new();
    write_any(value, &mut text);
    text
}

/// A value in its text form: digits, the shortest decimal with a point or exponent, the text, or hexadecimal digits.
fn write_any(value: Value<'_>, text: &mut String) {
    text.clear();
    let _ = match value {
        Value::Null => Ok(()),
        Value::Integer(n) => write!(text, "{n}"),
        Value::Real(x) => write!(text, "{x:?}"),
        Value::Text(bytes) => write!(text, "{}", String::from_utf8_lossy(bytes)),
        Value::Blob(bytes) => bytes.iter().try_for_each(|b| write!(text, "{b:02x}")),
    };
}

/// Wide enough for every integer of 64 bits, signed or not.
fn integer(value: Value<'_>) -> Option<i128> {
    match value {
        Value::Integer(n) => Some(n.into()),
        // Beyond the type's end `as` would saturate.
        Value::Real(x) if x.fract() == 0.0 && x.abs() < 2_f64.powi(64) => Some(x as i128),
        Value::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

fn double(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Real(x) => Some(x),
        // Beyond 2^53 not every integer is a double.
        Value::Integer(n) => Some(n as f64).filter(|_| n.unsigned_abs() <= 1 << 53),
        Value::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
        Value::Text(text) => match text.trim_ascii().to_ascii_lowercase().as_slice() {
            b"true" | b"t" | b"yes" | b"y" | b"1" => Some(true),
            b"false" | b"f" | b"no" | b"n" | b"0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: Value<'_>, decimal: &mut Decimal) -> Option<()> {
    let known = match value {
        Value::Integer(n) => {
            decimal.set_integer(n);
            true
        }
        Value::Real(x) => decimal.set_real(x),
        Value::Text(text) => decimal.set_text(text),
        _ => false,
    };
    known.then_some(())
}

fn moment(value: Value<'_>, unit: IntegerTimes) -> Result<Option<Moment>, Misfit> {
    match value {
        Value::Text(text) => Ok(Moment::parse(text)),
        Value::Real(day) => Ok(Moment::from_julian(day)),
        Value::Integer(n) => {
            let per_second = match unit {
                IntegerTimes::Seconds => 1,
                IntegerTimes::Milliseconds => 1000,
                IntegerTimes::Reject => {
                    return Err(Some(format!("a time is stored as the number {n}, and `integerTimes` is `reject`")));
                }
            };
            // SQLite's own functions end with the year 9999; a number beyond it has another unit.
            if !(-62_167_219_200..253_402_300_800).contains(&(n / per_second)) {
                let hint = "if the times are milliseconds, set `integerTimes` to `milliseconds`";
                return Err(Some(format!("{n} seconds since 1970 lie outside the years 0000 to 9999: {hint}")));
            }
            Ok(Some(Moment::from_epoch(n, per_second)))
        }
        _ => Ok(None),
    }
}

fn uuid(value: Value<'_>) -> Option<[u8; 16]> {
    let text = match value {
        Value::Blob(bytes) => return bytes.try_into().ok(),
        Value::Text(text) => text.trim_ascii(),
        _ => return None,
    };
    let text = text.strip_prefix(b"{").and_then(|t| t.strip_suffix(b"}")).unwrap_or(text);
    let (mut bytes, mut nibbles) = ([0_u8; 16], 0);
    for byte in text.iter().filter(|b| **b != b'-') {
        let digit = char::from(*byte).to_digit(16)? as u8;
        *bytes.get_mut(nibbles / 2)? |= digit << (4 * (1 - nibbles % 2));
        nibbles += 1;
    }
    (nibbles == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};
    use weir_sqlite::types;

    fn column(declared: &str) -> Column {
        let form = types::form_of(declared).unwrap();
        Column::new(&types::field("c", &form, true), IntegerTimes::Seconds).unwrap()
    }

    #[test]
    fn a_value_fits_exactly_or_is_refused() {
        use Value::{Blob, Integer, Real, Text};
        let cases: &[(&str, Value<'_>, bool)] = &[
            ("INTEGER", Integer(i64::MIN), true),
            ("INTEGER", Real(1.5), false),
            ("INTEGER", Real(1e20), false),
            ("INTEGER", Text(b"abc"), false),
            ("INT16", Integer(40_000), false),
            ("UINT64", Integer(-1), false),
            ("INTEGER", Text(b"9223372036854775808"), false),
            ("INTEGER", Real(9_223_372_036_854_775_808.0), false),
            ("UNSIGNED_TEXT", Text(b"18446744073709551615"), true),
            ("UNSIGNED_TEXT", Text(b"18446744073709551616"), false),
            ("UNSIGNED_TEXT", Text(b"-1"), false),
            ("REAL", Integer((1 << 53) + 1), false),
            ("REAL", Text(b"NaN"), true),
            ("FLOAT32", Real(0.1), false),
            ("FLOAT32", Real(0.5), true),
            ("TEXT", Blob(b"x"), false),
            ("TEXT", Text(b"\xff"), false),
            ("TEXT", Text("😀".as_bytes()), true),
            ("BLOB", Integer(1), false),
            ("BLOB", Text(b"x"), false),
            ("BOOLEAN", Integer(2), false),
            ("BOOLEAN", Text(b"TRUE"), true),
            ("DECIMAL(5,2)", Text(b"999.99"), true),
            ("DECIMAL(5,2)", Integer(1000), false),
            ("DECIMAL(5,2)", Real(1.005), false),
            ("NUMERIC", Text(b"1e400"), true),
            ("DATE", Text(b"2024-02-30"), false),
            ("DATE", Text(b"2024-02-29 00:00:00"), true),
            ("DATE", Text(b"2024-02-29 10:00:00"), false),
            ("DATE", Integer(20_240_101), false),
            ("DATETIME", Text(b"0000-00-00 00:00:00"), false),
            ("DATETIME", Integer(1_700_000_000_000), false),
            ("DATETIME", Text(b"2024-01-01 00:00:00.1234567"), false),
            ("TIME", Text(b"24:00:00"), false),
            ("UUID", Text(b"{6F9619FF-8B86-D011-B42D-00C04FC964FF}"), true),
            ("UUID", Blob(b"short"), false),
        ];
        for (declared, value, fits) in cases {
            assert_eq!(column(declared).push(*value).is_ok(), *fits, "{declared} {value:?}");
        }
    }

    #[test]
    fn values_are_what_they_were() {
        let mut decimals = column("DECIMAL(12,2)");
        for value in [Value::Text(b"0.10"), Value::Real(19.99), Value::Integer(-7), Value::Null] {
            decimals.push(value).unwrap();
        }
        let array = decimals.finish();
        let array = array.as_primitive::<Decimal128Type>();
        assert_eq!(array.iter().collect::<Vec<_>>(), [Some(10), Some(1999), Some(-700), None]);
        let mut moments = column("TIMESTAMP");
        for value in [Value::Text(b"1970-01-01T00:00:01.5Z"), Value::Integer(2), Value::Real(2_440_587.5)] {
            moments.push(value).unwrap();
        }
        let array = moments.finish();
        assert_eq!(array.as_primitive::<TimestampMicrosecondType>().values().to_vec(), [1_500_000, 2_000_000, 0]);
    }

    #[test]
    fn reasons_say_what_is_wrong() {
        assert_eq!(column("INTEGER").push(Value::Text(b"abc")).unwrap_err(), "TEXT abc is no Int64");
        let reason = column("DATETIME").push(Value::Integer(1_700_000_000_000)).unwrap_err();
        assert!(reason.contains("`integerTimes`"), "{reason}");
    }
}
