//! Arrow values into what SQLite stores: each exactly, or not at all.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use weir_core::field::{DECIMAL, UUID, extension, type_text};
use weir_core::{Error, ErrorKind, Result};
use weir_sqlite::decimal::Decimal;
use weir_sqlite::times::{self, Moment};
use weir_sqlite::types::Affinity;
use weir_sqlite::{QUOTING, Value};

/// How a value of one Arrow type is stored in a column of one affinity.
pub struct Encoder {
    array: ArrayRef,
    form: Form,
    affinity: Affinity,
    text: String,
    decimal: Decimal,
    other: Decimal,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Null,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    Decimal128(i8),
    Decimal256(i8),
    Digits,
    Utf8,
    Binary,
    Uuid,
    Date,
    Time,
    Duration,
    Micros { utc: bool },
    Nanos { utc: bool },
}

fn form_of(field: &arrow::datatypes::Field) -> Option<Form> {
    Some(match (field.data_type(), extension(field)) {
        (DataType::Null, _) => Form::Null,
        (DataType::Boolean, _) => Form::Boolean,
        (DataType::Int8, _) => Form::Int8,
        (DataType::Int16, _) => Form::Int16,
        (DataType::Int32, _) => Form::Int32,
        (DataType::Int64, _) => Form::Int64,
        (DataType::UInt8, _) => Form::UInt8,
        (DataType::UInt16, _) => Form::UInt16,
        (DataType::UInt32, _) => Form::UInt32,
        (DataType::UInt64, _) => Form::UInt64,
        (DataType::Float32, _) => Form::Float32,
        (DataType::Float64, _) => Form::Float64,
        (DataType::Decimal128(_, s), _) if *s >= 0 => Form::Decimal128(*s),
        (DataType::Decimal256(_, s), _) if *s >= 0 => Form::Decimal256(*s),
        (DataType::Utf8, Some(DECIMAL)) => Form::Digits,
        (DataType::Utf8, _) => Form::Utf8,
        (DataType::Binary, None) => Form::Binary,
        (DataType::FixedSizeBinary(16), Some(UUID)) => Form::Uuid,
        (DataType::Date32, _) => Form::Date,
        (DataType::Time64(TimeUnit::Microsecond), _) => Form::Time,
        (DataType::Duration(TimeUnit::Microsecond), _) => Form::Duration,
        (DataType::Timestamp(TimeUnit::Microsecond, zone), _) => Form::Micros { utc: zone.is_some() },
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), _) => Form::Nanos { utc: zone.is_some() },
        _ => return None,
    })
}

impl Encoder {
    /// For one column of a batch.
    pub fn new(field: &arrow::datatypes::Field, array: &ArrayRef, affinity: Affinity) -> Result<Self> {
        let form = form_of(field).ok_or_else(|| {
            let message = format!("the SQLite writer does not take `{}` as {}", field.name(), type_text(field));
            Error::new(ErrorKind::Unsupported, message)
        })?;
        Ok(Self {
            array: array.clone(),
            form,
            affinity,
            text: String::new(),
            decimal: Decimal::default(),
            other: Decimal::default(),
        })
    }

    /// The value of one row, or why SQLite cannot keep it.
    pub fn value(&mut self, row: usize) -> Result<Value<'_>, String> {
        if self.array.is_null(row) {
            return Ok(Value::Null);
        }
        self.text.clear();
        let integer = |n: i64| Ok(Value::Integer(n));
        match self.form {
            Form::Null => return Ok(Value::Null),
            Form::Boolean => return integer(i64::from(self.array.as_boolean().value(row))),
            Form::Int8 => return integer(get::<Int8Type>(&self.array, row).into()),
            Form::Int16 => return integer(get::<Int16Type>(&self.array, row).into()),
            Form::Int32 => return integer(get::<Int32Type>(&self.array, row).into()),
            Form::Int64 => return integer(get::<Int64Type>(&self.array, row)),
            Form::UInt8 => return integer(get::<UInt8Type>(&self.array, row).into()),
            Form::UInt16 => return integer(get::<UInt16Type>(&self.array, row).into()),
            Form::UInt32 => return integer(get::<UInt32Type>(&self.array, row).into()),
            Form::UInt64 => return self.unsigned(row),
            Form::Float32 => return Ok(real(get::<Float32Type>(&self.array, row).into())),
            Form::Float64 => return Ok(real(get::<Float64Type>(&self.array, row))),
            Form::Utf8 => return self.utf8(row),
            Form::Binary => return Ok(Value::Blob(self.array.as_binary::<i32>().value(row))),
            Form::Decimal128(scale) => {
                let value = get::<Decimal128Type>(&self.array, row);
                if self.affinity.is_numeric()
                    && let Some(value) = small_decimal(value, scale, self.affinity)
                {
                    return Ok(value);
                }
                let _ = write!(self.text, "{value}");
                set_point(&mut self.text, scale);
                return self.digits();
            }
            Form::Decimal256(scale) => {
                let _ = write!(self.text, "{}", get::<Decimal256Type>(&self.array, row));
                set_point(&mut self.text, scale);
                return self.digits();
            }
            Form::Digits => {
                self.text.push_str(self.array.as_string::<i32>().value(row));
                return self.digits();
            }
            Form::Uuid => {
                for (i, byte) in self.array.as_fixed_size_binary().value(row).iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        self.text.push('-');
                    }
                    let _ = write!(self.text, "{byte:02x}");
                }
            }
            Form::Date => times::write_date(get::<Date32Type>(&self.array, row).into(), &mut self.text),
            Form::Time => {
                let nanos = get::<Time64MicrosecondType>(&self.array, row).checked_mul(1000);
                let nanos = nanos.filter(|n| (0..times::DAY_NANOS).contains(n)).ok_or("the time lies outside a day")?;
                times::write_clock(nanos, &mut self.text);
            }
            Form::Duration => {
                let nanos = get::<DurationMicrosecondType>(&self.array, row).checked_mul(1000);
                times::write_duration(nanos.ok_or("the duration is longer than 292 years")?, &mut self.text);
            }
            Form::Micros { utc } => {
                let value = get::<TimestampMicrosecondType>(&self.array, row);
                write_moment(Moment::from_epoch(value, 1_000_000), utc, &mut self.text);
            }
            Form::Nanos { utc } => {
                let value = get::<TimestampNanosecondType>(&self.array, row);
                write_moment(Moment::from_epoch(value, 1_000_000_000), utc, &mut self.text);
            }
        }
        Ok(Value::Text(self.text.as_bytes()))
    }

    fn unsigned(&mut self, row: usize) -> Result<Value<'_>, String> {
        let value = get::<UInt64Type>(&self.array, row);
        match i64::try_from(value) {
            Ok(value) => Ok(Value::Integer(value)),
            // As a number SQLite would store the nearest double.
            Err(_) if self.affinity.is_numeric() => Err(format!(
                "{value} is larger than SQLite's largest integer, {}: declare the column UNSIGNED_TEXT to keep it",
                i64::MAX
            )),
            Err(_) => {
                let _ = write!(self.text, "{value}");
                Ok(Value::Text(self.text.as_bytes()))
            }
        }
    }

    /// Text into a column that turns what looks like a number into one: only if the same text can be read back.
    fn utf8(&mut self, row: usize) -> Result<Value<'_>, String> {
        let text = self.array.as_string::<i32>().value(row);
        // Longer texts are no numbers either way, and most texts do not start like one.
        let may_be_number = self.affinity.is_numeric()
            && text.trim_ascii_start().starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        if may_be_number && self.decimal.set_text(text.as_bytes()) {
            let same = text.parse::<i64>().is_ok_and(|n| {
                let _ = write!(self.text, "{n}");
                self.text == text && self.affinity != Affinity::Real
            });
            if !same {
                let shown: String = text.chars().take(40).collect();
                return Err(format!(
                    "SQLite would store the text {} as a number: declare the column TEXT to keep it",
                    QUOTING.quote(&shown)
                ));
            }
        }
        Ok(Value::Text(text.as_bytes()))
    }

    /// A decimal number that stands in `text`. Where SQLite would make a number of it anyway, only one that is exactly
    /// the decimal is stored.
    fn digits(&mut self) -> Result<Value<'_>, String> {
        if !self.affinity.is_numeric() || !self.decimal.set_text(self.text.as_bytes()) {
            // `NaN` and `Infinity` are no numbers to SQLite and stay text.
            return Ok(Value::Text(self.text.as_bytes()));
        }
        self.other.clone_from(&self.decimal);
        if let Some(n) = self.other.as_integer().filter(|n| keeps_integer(*n, self.affinity)) {
            return Ok(Value::Integer(n));
        }
        match self.text.parse::<f64>() {
            Ok(real) if self.other.set_real(real) && self.other.equals(&self.decimal) => Ok(Value::Real(real)),
            _ => Err(format!(
                "{} has more digits than SQLite keeps in a number: declare the column TEXT or DECIMAL_TEXT(p,s)",
                self.text
            )),
        }
    }
}

/// A column with REAL affinity turns integers into doubles.
fn keeps_integer(n: i64, affinity: Affinity) -> bool {
    affinity != Affinity::Real || n.unsigned_abs() <= 1 << 53
}

/// The quick way for up to 15 digits: numerator and denominator are exact doubles, so their quotient is the double
/// nearest to the decimal, and its shortest form is the decimal again.
fn small_decimal(value: i128, scale: i8, affinity: Affinity) -> Option<Value<'static>> {
    let power = 10_i128.checked_pow(scale.unsigned_abs().into())?;
    if value % power == 0 {
        return i64::try_from(value / power).ok().filter(|n| keeps_integer(*n, affinity)).map(Value::Integer);
    }
    let small = value.unsigned_abs() < 10_u128.pow(15) && scale <= 22;
    small.then(|| Value::Real(value as f64 / power as f64))
}

fn get<T: ArrowPrimitiveType>(array: &ArrayRef, row: usize) -> T::Native {
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.value(row)
}

/// SQLite turns NaN into NULL; as text it stays what it is, and the reader knows it.
fn real(value: f64) -> Value<'static> {
    if value.is_nan() { Value::Text(b"NaN") } else { Value::Real(value) }
}

fn set_point(text: &mut String, scale: i8) {
    let scale = usize::from(scale.unsigned_abs());
    if scale == 0 {
        return;
    }
    let sign = usize::from(text.starts_with('-'));
    while text.len() - sign <= scale {
        text.insert(sign, '0');
    }
    text.insert(text.len() - scale, '.');
}

fn write_moment(moment: Moment, utc: bool, text: &mut String) {
    moment.write(text);
    if utc {
        text.push_str("+00:00");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, StringArray, UInt64Array};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn values(field: Field, array: ArrayRef, affinity: Affinity) -> Vec<Result<String, String>> {
        let mut encoder = Encoder::new(&field, &array, affinity).unwrap();
        (0..array.len())
            .map(|row| {
                encoder.value(row).map(|value| match value {
                    Value::Text(t) => format!("'{}'", String::from_utf8_lossy(t)),
                    other => format!("{other:?}"),
                })
            })
            .collect()
    }

    #[test]
    fn decimals_keep_every_digit() {
        let array = || -> ArrayRef {
            let values = vec![Some(1999), Some(-5), Some(700), Some(12_345_678_901_234_567), None];
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap())
        };
        let field = Field::new("d", DataType::Decimal128(38, 2), true);
        let text: Vec<_> = values(field.clone(), array(), Affinity::Text).into_iter().flatten().collect();
        assert_eq!(text, ["'19.99'", "'-0.05'", "'7.00'", "'123456789012345.67'", "Null"]);
        let numbers = values(field, array(), Affinity::Numeric);
        assert_eq!(numbers[0], Ok("Real(19.99)".into()));
        assert_eq!(numbers[1], Ok("Real(-0.05)".into()));
        assert_eq!(numbers[2], Ok("Integer(7)".into()));
        // Seventeen digits, and yet exactly the shortest form of a double.
        assert!(numbers[3].is_ok());
        let field = Field::new("d", DataType::Decimal128(38, 2), true);
        let wide: ArrayRef =
            Arc::new(Decimal128Array::from(vec![12_345_678_901_234_567_899]).with_precision_and_scale(38, 2).unwrap());
        assert!(values(field, wide, Affinity::Numeric)[0].as_ref().unwrap_err().contains("DECIMAL_TEXT"));
    }

    #[test]
    fn nothing_is_wrapped_or_turned_into_something_else() {
        let big: ArrayRef = Arc::new(UInt64Array::from(vec![1, u64::MAX]));
        let field = Field::new("u", DataType::UInt64, true);
        let stored = values(field.clone(), big.clone(), Affinity::Integer);
        assert!(stored[0].is_ok() && stored[1].as_ref().unwrap_err().contains("18446744073709551615"));
        assert_eq!(values(field, big, Affinity::Text)[1], Ok("'18446744073709551615'".into()));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{\"a\":1}", "5", "007", "1.0", "x1"]));
        let stored = values(Field::new("j", DataType::Utf8, true), texts, Affinity::Numeric);
        assert_eq!(stored.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false, true]);
        let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY]));
        let stored = values(Field::new("f", DataType::Float64, true), nan, Affinity::Real);
        assert_eq!(stored, [Ok("'NaN'".into()), Ok("Real(inf)".into())]);
    }
}
