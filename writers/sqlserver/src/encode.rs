//! From Arrow columns to the driver's cells, without an allocation per cell but for decimals that travel as text.

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow::datatypes::{
    DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, Time};
use tiberius::{ColumnData as Cell, Uuid};
use weir_core::field::{UUID, extension};
use weir_core::{Error, ErrorKind, Result};
use weir_sqlserver::{DAYS_TO_1900, DAYS_TO_1970, Kind};

use crate::carry::Form;
use crate::state::Written;

/// Steps of 100 ns in a day.
const DAY: i128 = 864_000_000_000;
/// Days of the years 1 to 9999.
const LAST_DAY: i128 = 3_652_058;

/// The columns of a batch, ready to be sent.
pub(crate) struct Encoder<'a> {
    columns: Vec<Column<'a>>,
    cast: bool,
}

struct Column<'a> {
    values: Values<'a>,
    kind: Kind,
    nullable: bool,
    form: Form,
}

enum Values<'a> {
    Bool(&'a BooleanArray),
    I8(&'a PrimitiveArray<Int8Type>),
    I16(&'a PrimitiveArray<Int16Type>),
    I32(&'a PrimitiveArray<Int32Type>),
    I64(&'a PrimitiveArray<Int64Type>),
    U8(&'a PrimitiveArray<UInt8Type>),
    U16(&'a PrimitiveArray<UInt16Type>),
    U32(&'a PrimitiveArray<UInt32Type>),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    Date(&'a Date32Array),
    ClockSeconds(&'a PrimitiveArray<Time32SecondType>),
    ClockMillis(&'a PrimitiveArray<Time32MillisecondType>),
    ClockMicros(&'a PrimitiveArray<Time64MicrosecondType>),
    ClockNanos(&'a PrimitiveArray<Time64NanosecondType>),
    Seconds(&'a PrimitiveArray<TimestampSecondType>),
    Millis(&'a PrimitiveArray<TimestampMillisecondType>),
    Micros(&'a PrimitiveArray<TimestampMicrosecondType>),
    Nanos(&'a PrimitiveArray<TimestampNanosecondType>),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Bytes(&'a BinaryArray),
    LargeBytes(&'a LargeBinaryArray),
    BytesView(&'a BinaryViewArray),
    FixedBytes(&'a FixedSizeBinaryArray),
    Uuid(&'a FixedSizeBinaryArray),
}

impl<'a> Encoder<'a> {
    /// For one batch, whose columns go into `written` in `forms`.
    pub(crate) fn new(batch: &'a RecordBatch, written: &[Written], forms: &[Form], cast: bool) -> Result<Self> {
        let columns = batch.columns().iter().zip(batch.schema_ref().fields()).zip(written.iter().zip(forms));
        let columns = columns
            .map(|((array, field), (written, form))| {
                let values = Values::new(array, field)?;
                Ok(Column { values, kind: written.kind(), nullable: written.nullable, form: *form })
            })
            .collect::<Result<_>>()?;
        Ok(Self { columns, cast })
    }

    /// Gives each cell of a row to `push`.
    ///
    /// # Errors
    /// A value that the column does not hold: column and reason.
    pub(crate) fn row(&self, row: usize, mut push: impl FnMut(Cell<'a>)) -> Result<(), (usize, String)> {
        for (i, column) in self.columns.iter().enumerate() {
            push(column.cell(row, self.cast).map_err(|reason| (i, reason))?);
        }
        Ok(())
    }
}

impl<'a> Values<'a> {
    fn new(array: &'a ArrayRef, field: &Field) -> Result<Self> {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Int8 => Self::I8(array.as_primitive()),
            DataType::Int16 => Self::I16(array.as_primitive()),
            DataType::Int32 => Self::I32(array.as_primitive()),
            DataType::Int64 => Self::I64(array.as_primitive()),
            DataType::UInt8 => Self::U8(array.as_primitive()),
            DataType::UInt16 => Self::U16(array.as_primitive()),
            DataType::UInt32 => Self::U32(array.as_primitive()),
            DataType::Float32 => Self::F32(array.as_primitive()),
            DataType::Float64 => Self::F64(array.as_primitive()),
            DataType::Decimal128(_, scale) if (0..=38).contains(scale) => {
                Self::Decimal(array.as_primitive(), *scale as u8)
            }
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Time32(Second) => Self::ClockSeconds(array.as_primitive()),
            DataType::Time32(Millisecond) => Self::ClockMillis(array.as_primitive()),
            DataType::Time64(Microsecond) => Self::ClockMicros(array.as_primitive()),
            DataType::Time64(Nanosecond) => Self::ClockNanos(array.as_primitive()),
            DataType::Timestamp(Second, _) => Self::Seconds(array.as_primitive()),
            DataType::Timestamp(Millisecond, _) => Self::Millis(array.as_primitive()),
            DataType::Timestamp(Microsecond, _) => Self::Micros(array.as_primitive()),
            DataType::Timestamp(Nanosecond, _) => Self::Nanos(array.as_primitive()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string()),
            DataType::Utf8View => Self::TextView(array.as_string_view()),
            DataType::FixedSizeBinary(16) if extension(field) == Some(UUID) => Self::Uuid(array.as_fixed_size_binary()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::LargeBinary => Self::LargeBytes(array.as_binary()),
            DataType::BinaryView => Self::BytesView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Self::FixedBytes(array.as_fixed_size_binary()),
            other => {
                let text = format!("{other} was never asked for");
                return Err(Error::new(ErrorKind::Internal, text).with("column", field.name()));
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(a) => a.is_null(row),
            Self::I8(a) => a.is_null(row),
            Self::I16(a) => a.is_null(row),
            Self::I32(a) => a.is_null(row),
            Self::I64(a) => a.is_null(row),
            Self::U8(a) => a.is_null(row),
            Self::U16(a) => a.is_null(row),
            Self::U32(a) => a.is_null(row),
            Self::F32(a) => a.is_null(row),
            Self::F64(a) => a.is_null(row),
            Self::Decimal(a, _) => a.is_null(row),
            Self::Date(a) => a.is_null(row),
            Self::ClockSeconds(a) => a.is_null(row),
            Self::ClockMillis(a) => a.is_null(row),
            Self::ClockMicros(a) => a.is_null(row),
            Self::ClockNanos(a) => a.is_null(row),
            Self::Seconds(a) => a.is_null(row),
            Self::Millis(a) => a.is_null(row),
            Self::Micros(a) => a.is_null(row),
            Self::Nanos(a) => a.is_null(row),
            Self::Text(a) => a.is_null(row),
            Self::LargeText(a) => a.is_null(row),
            Self::TextView(a) => a.is_null(row),
            Self::Bytes(a) => a.is_null(row),
            Self::LargeBytes(a) => a.is_null(row),
            Self::BytesView(a) => a.is_null(row),
            Self::FixedBytes(a) | Self::Uuid(a) => a.is_null(row),
        }
    }

    fn integer(&self, row: usize) -> Option<i64> {
        Some(match self {
            Self::Bool(a) => a.value(row).into(),
            Self::I8(a) => a.value(row).into(),
            Self::I16(a) => a.value(row).into(),
            Self::I32(a) => a.value(row).into(),
            Self::I64(a) => a.value(row),
            Self::U8(a) => a.value(row).into(),
            Self::U16(a) => a.value(row).into(),
            Self::U32(a) => a.value(row).into(),
            _ => return None,
        })
    }

    fn text(&self, row: usize) -> Option<&'a str> {
        Some(match self {
            Self::Text(a) => a.value(row),
            Self::LargeText(a) => a.value(row),
            Self::TextView(a) => a.value(row),
            _ => return None,
        })
    }

    fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        Some(match self {
            Self::Bytes(a) => a.value(row),
            Self::LargeBytes(a) => a.value(row),
            Self::BytesView(a) => a.value(row),
            Self::FixedBytes(a) | Self::Uuid(a) => a.value(row),
            _ => return None,
        })
    }

    /// A time in nanoseconds, since 1970 or midnight.
    fn nanos(&self, row: usize) -> Option<i128> {
        let (count, unit) = match self {
            Self::ClockSeconds(a) => (a.value(row).into(), 1_000_000_000),
            Self::ClockMillis(a) => (a.value(row).into(), 1_000_000),
            Self::ClockMicros(a) => (a.value(row), 1_000),
            Self::ClockNanos(a) => (a.value(row), 1),
            Self::Seconds(a) => (a.value(row), 1_000_000_000),
            Self::Millis(a) => (a.value(row), 1_000_000),
            Self::Micros(a) => (a.value(row), 1_000),
            Self::Nanos(a) => (a.value(row), 1),
            _ => return None,
        };
        Some(i128::from(count) * unit)
    }
}

const YEARS: &str = "the year is not between 1 and 9999";

impl<'a> Column<'a> {
    fn cell(&self, row: usize, cast: bool) -> Result<Cell<'a>, String> {
        if self.values.is_null(row) {
            return if self.nullable { Ok(self.null()) } else { Err("the column takes no NULL".into()) };
        }
        let foreign = || format!("a value of another type was sent than {:?} takes", self.form);
        Ok(match self.form {
            Form::Bit => Cell::Bit(Some(self.values.integer(row).ok_or_else(foreign)? != 0)),
            Form::TinyInt => Cell::U8(Some(self.fitting(row)?)),
            Form::SmallInt => Cell::I16(Some(self.fitting(row)?)),
            Form::Int => Cell::I32(Some(self.fitting(row)?)),
            Form::BigInt => Cell::I64(Some(self.values.integer(row).ok_or_else(foreign)?)),
            Form::Real => match &self.values {
                Values::F32(a) => Cell::F32(Some(finite(a.value(row).into())? as f32)),
                _ => return Err(foreign()),
            },
            Form::Float => match &self.values {
                Values::F32(a) => Cell::F64(Some(finite(a.value(row).into())?)),
                Values::F64(a) => Cell::F64(Some(finite(a.value(row))?)),
                _ => return Err(foreign()),
            },
            Form::Decimal(scale) => Cell::Numeric(Some(Numeric::new_with_scale(self.decimal(row, scale)?, scale))),
            Form::DecimalText(scale) => Cell::String(Some(Cow::Owned(digits(self.decimal(row, scale)?, scale)))),
            Form::Date => match &self.values {
                Values::Date(a) => Cell::Date(Some(Date::new(days(i128::from(a.value(row)))?))),
                _ => return Err(foreign()),
            },
            Form::Time(scale) => {
                let steps = self.steps(self.values.nanos(row).ok_or_else(foreign)?, cast)?;
                Cell::Time(Some(clock(steps.min(DAY - 1), scale)))
            }
            Form::TimeText => {
                let steps = self.steps(self.values.nanos(row).ok_or_else(foreign)?, cast)?;
                Cell::String(Some(Cow::Owned(clock_text(steps.min(DAY - 1)))))
            }
            Form::DateTime => {
                let steps = self.steps(self.values.nanos(row).ok_or_else(foreign)?, cast)?;
                Cell::DateTime(Some(old_time(steps, cast)?))
            }
            Form::DateTime2(scale) => {
                let steps = self.steps(self.values.nanos(row).ok_or_else(foreign)?, cast)?;
                if self.kind == Kind::SmallDateTime && !(-25_567 * DAY..40_211 * DAY).contains(&steps) {
                    return Err("a smalldatetime goes from 1900 to 2079-06-06".into());
                }
                Cell::DateTime2(Some(moment(steps, scale)?))
            }
            Form::DateTimeOffset(scale) => {
                let (nanos, offset) = match self.values.text(row) {
                    Some(text) => with_offset(text).ok_or("it is no time with an offset")?,
                    None => (self.values.nanos(row).ok_or_else(foreign)?, 0),
                };
                let steps = self.steps(nanos, cast)?;
                Cell::DateTimeOffset(Some(DateTimeOffset::new(moment(steps, scale)?, offset)))
            }
            Form::Text | Form::TextWithoutNul => {
                let text = self.values.text(row).ok_or_else(foreign)?;
                if self.form == Form::TextWithoutNul && text.contains('\0') {
                    return Err("Babelfish's texts hold no U+0000".into());
                }
                self.check_length(text)?;
                Cell::String(Some(Cow::Borrowed(text)))
            }
            Form::Bytes => {
                let bytes = self.values.bytes(row).ok_or_else(foreign)?;
                if let Kind::Binary(n) | Kind::VarBinary(Some(n)) = self.kind
                    && bytes.len() > n as usize
                {
                    return Err(format!("{} bytes are more than {n}", bytes.len()));
                }
                Cell::Binary(Some(Cow::Borrowed(bytes)))
            }
            Form::Uuid => {
                let bytes = self.values.bytes(row).and_then(|b| Uuid::from_slice(b).ok());
                Cell::Guid(Some(bytes.ok_or_else(foreign)?))
            }
        })
    }

    fn null(&self) -> Cell<'a> {
        match self.form {
            Form::Bit => Cell::Bit(None),
            Form::TinyInt => Cell::U8(None),
            Form::SmallInt => Cell::I16(None),
            Form::Int => Cell::I32(None),
            Form::BigInt => Cell::I64(None),
            Form::Real => Cell::F32(None),
            Form::Float => Cell::F64(None),
            Form::Decimal(_) => Cell::Numeric(None),
            Form::Date => Cell::Date(None),
            Form::Time(_) => Cell::Time(None),
            Form::DateTime => Cell::DateTime(None),
            Form::DateTime2(_) => Cell::DateTime2(None),
            Form::DateTimeOffset(_) => Cell::DateTimeOffset(None),
            Form::DecimalText(_) | Form::TimeText | Form::Text | Form::TextWithoutNul => Cell::String(None),
            Form::Bytes => Cell::Binary(None),
            Form::Uuid => Cell::Guid(None),
        }
    }

    fn fitting<T: TryFrom<i64>>(&self, row: usize) -> Result<T, String> {
        let value = self.values.integer(row).ok_or("it is no integer")?;
        T::try_from(value).map_err(|_| format!("{value} is out of the column's range"))
    }

    /// The digits of a decimal with `scale` of them after the point.
    fn decimal(&self, row: usize, scale: u8) -> Result<i128, String> {
        let Values::Decimal(array, own) = &self.values else { return Err("it is no decimal".into()) };
        const WIDE: &str = "it has more digits than the column";
        let factor = 10i128.pow(u32::from(scale.checked_sub(*own).ok_or(WIDE)?));
        let value = array.value(row).checked_mul(factor).ok_or(WIDE)?;
        let fits = match self.kind {
            Kind::Money => i64::try_from(value).is_ok(),
            Kind::SmallMoney => i32::try_from(value).is_ok(),
            Kind::Decimal { precision, .. } => value.unsigned_abs() < 10u128.pow(u32::from(precision)),
            _ => true,
        };
        if fits { Ok(value) } else { Err(WIDE.into()) }
    }

    /// Nanoseconds as the steps of 100 ns that the column holds, exactly or rounded.
    fn steps(&self, nanos: i128, cast: bool) -> Result<i128, String> {
        let step = match (&self.kind, self.kind.decimals()) {
            (Kind::SmallDateTime, _) => 600_000_000,
            // Its own steps are looked at where they are made.
            (Kind::DateTime, _) => 1,
            (_, Some(n)) => 10i128.pow(7 - u32::from(n.min(7))),
            _ => 1,
        };
        let nanos_a_step = step * 100;
        let rest = nanos.rem_euclid(nanos_a_step);
        if rest == 0 {
            return Ok(nanos / 100);
        }
        if !cast {
            return Err("it has finer fractions of a second than the column".into());
        }
        let up = if rest * 2 >= nanos_a_step { nanos_a_step } else { 0 };
        Ok((nanos - rest + up) / 100)
    }

    fn check_length(&self, text: &str) -> Result<(), String> {
        let (length, most) = match self.kind {
            // The length counts pairs of bytes; no text is longer in those than in bytes of UTF-8.
            Kind::NChar(n) | Kind::NVarChar(Some(n)) if text.len() > n as usize => (text.encode_utf16().count(), n),
            // How many bytes a text has in a code page the driver finds out; each character has one at least.
            Kind::Char(n) | Kind::VarChar(Some(n)) if text.len() > n as usize => (text.chars().count(), n),
            _ => return Ok(()),
        };
        if length > most as usize { Err(format!("{length} characters are more than {most}")) } else { Ok(()) }
    }
}

fn finite(value: f64) -> Result<f64, String> {
    if value.is_finite() { Ok(value) } else { Err(format!("SQL Server has no {value}")) }
}

/// Days since 1970 as days since 0001-01-01.
fn days(days: i128) -> Result<u32, String> {
    let days = days + i128::from(DAYS_TO_1970);
    if (0..=LAST_DAY).contains(&days) { Ok(days as u32) } else { Err(YEARS.into()) }
}

fn clock(steps: i128, scale: u8) -> Time {
    Time::new((steps / 10i128.pow(7 - u32::from(scale.min(7)))) as u64, scale)
}

fn clock_text(steps: i128) -> String {
    let (seconds, rest) = (steps / 10_000_000, steps % 10_000_000);
    format!("{:02}:{:02}:{:02}.{rest:07}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn moment(steps: i128, scale: u8) -> Result<DateTime2, String> {
    let date = days(steps.div_euclid(DAY))?;
    Ok(DateTime2::new(Date::new(date), clock(steps.rem_euclid(DAY), scale)))
}

/// Steps of 100 ns since 1970 as three-hundredths of a second, which everybody reads as milliseconds that end in 0, 3 or 7.
fn old_time(steps: i128, cast: bool) -> Result<DateTime, String> {
    let (mut date, clock) = (steps.div_euclid(DAY) + i128::from(DAYS_TO_1900), steps.rem_euclid(DAY));
    let mut ticks = (clock * 3 + 50_000) / 100_000;
    let millis = (ticks * 10 + 1) / 3;
    if millis * 10_000 != clock && !cast {
        return Err("a datetime holds milliseconds that end in 0, 3 or 7".into());
    }
    if ticks == 86_400 * 300 {
        (date, ticks) = (date + 1, 0);
    }
    if !(-53_690..=2_958_463).contains(&date) {
        return Err("a datetime goes from 1753 to 9999".into());
    }
    Ok(DateTime::new(date as i32, ticks as u32))
}

/// `2024-02-29 12:34:56.1234567 +05:30` as nanoseconds since 1970 in UTC, and minutes of offset.
fn with_offset(text: &str) -> Option<(i128, i16)> {
    let (date, rest) = text.split_once(' ')?;
    let (clock, offset) = rest.split_once(' ')?;
    let mut parts = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = whole.splitn(3, ':').map(|p| p.parse::<i128>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let (sign, offset) = match offset.split_at_checked(1)? {
        ("+", offset) => (1, offset),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let (h, m) = offset.split_once(':')?;
    let offset = sign * (h.parse::<i16>().ok()? * 60 + m.parse::<i16>().ok()?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hours < 24 && minutes < 60 && seconds < 60;
    if !in_range || offset.abs() > 14 * 60 || fraction.len() > 9 {
        return None;
    }
    let fraction = match fraction {
        "" => 0,
        digits => digits.parse::<i128>().ok()? * 10i128.pow(9 - digits.len() as u32),
    };
    // Years begin in March, so that the leap day is the last.
    let (y, of_year) = (if month <= 2 { year - 1 } else { year }, (153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let date = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = i128::from(date) * 86_400 + (hours * 60 + minutes) * 60 + seconds - i128::from(offset) * 60;
    Some((seconds * 1_000_000_000 + fraction, offset))
}

/// Digits with a point.
fn digits(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    match scale {
        0 => format!("{sign}{digits}"),
        _ => format!("{sign}{}.{}", &digits[..digits.len() - scale], &digits[digits.len() - scale..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn written(type_text: &str) -> Written {
        Written { type_text: type_text.into(), collation: None, nullable: true, identity: false }
    }

    /// The cells of a column, or why there is none.
    fn cells(array: ArrayRef, type_text: &str, form: Form, cast: bool) -> Vec<Result<Cell<'static>, String>> {
        let batch: &'static RecordBatch = Box::leak(Box::new(RecordBatch::try_from_iter([("c", array)]).unwrap()));
        let encoder = Encoder::new(batch, &[written(type_text)], &[form], cast).unwrap();
        let one = |row| {
            let mut cell = None;
            encoder.row(row, |c| cell = Some(c)).map_err(|(_, reason)| reason)?;
            Ok(cell.unwrap())
        };
        (0..batch.num_rows()).map(one).collect()
    }

    #[test]
    fn times_keep_every_digit_or_are_refused() {
        let micros = |values: Vec<i64>| Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(values)) as ArrayRef;
        let all = cells(micros(vec![-1, 1_500_000]), "datetime2(6)", Form::DateTime2(6), false);
        let before = DateTime2::new(Date::new(719_161), Time::new(86_399_999_999, 6));
        assert_eq!(all[0], Ok(Cell::DateTime2(Some(before))));
        let seconds = |cast| cells(micros(vec![1_500_000]), "datetime2(0)", Form::DateTime2(0), cast).remove(0);
        assert!(seconds(false).is_err());
        assert_eq!(seconds(true), Ok(Cell::DateTime2(Some(DateTime2::new(Date::new(719_162), Time::new(2, 0))))));
        let nanos = PrimitiveArray::<TimestampNanosecondType>::from(vec![100, 150]);
        let all = cells(Arc::new(nanos), "datetime2(7)", Form::DateTime2(7), false);
        assert!(all[0].is_ok() && all[1].is_err());
        let far = cells(micros(vec![253_402_300_800_000_000]), "datetime2(6)", Form::DateTime2(6), false);
        assert_eq!(far[0], Err(YEARS.into()));
    }

    #[test]
    fn old_times_take_their_own_steps_only() {
        let of = |millis: i64, cast| old_time(i128::from(millis) * 10_000, cast);
        for millis in [0, 3, 7, 10, 997, 86_399_997, -1_000] {
            assert!(of(millis, false).is_ok(), "{millis}");
        }
        assert!(of(1, false).is_err());
        assert_eq!(of(3, false).unwrap(), DateTime::new(25_567, 1));
        assert_eq!(of(999, true).unwrap(), DateTime::new(25_567, 300));
        assert_eq!(of(86_399_999, true).unwrap(), DateTime::new(25_568, 0));
        assert!(of(-6_847_804_800_000 - 1_000, false).is_err() && of(-6_847_804_800_000, false).is_ok());
        let minutes = PrimitiveArray::<TimestampSecondType>::from(vec![60, 61, -2_208_988_860]);
        let all = cells(Arc::new(minutes), "smalldatetime", Form::DateTime2(0), false);
        assert!(all[0].is_ok() && all[1].is_err() && all[2].is_err());
    }

    #[test]
    fn an_offset_comes_back_from_its_text() {
        assert_eq!(with_offset("1970-01-01 05:30:00.0000001 +05:30"), Some((100, 330)));
        assert_eq!(with_offset("1969-12-31 22:30:00.5 -01:30"), Some((500_000_000, -90)));
        assert_eq!(with_offset("0001-01-01 00:00:00 -01:00").unwrap().1, -60);
        for wrong in
            ["", "1970-01-01", "1970-01-01 00:00:00", "1970-13-01 00:00:00 +00:00", "1970-01-01 00:00:00 +15:00"]
        {
            assert_eq!(with_offset(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_and_texts_must_fit() {
        let decimals = |values: Vec<i128>| {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap()) as ArrayRef
        };
        let all = cells(decimals(vec![-5, 123_456]), "decimal(5,2)", Form::Decimal(2), false);
        assert_eq!(all[0], Ok(Cell::Numeric(Some(Numeric::new_with_scale(-5, 2)))));
        assert!(all[1].is_err());
        let all = cells(decimals(vec![-5, 12_345]), "decimal(9,3)", Form::DecimalText(3), false);
        assert_eq!(all[0], Ok(Cell::String(Some("-0.050".into()))));
        assert_eq!(all[1], Ok(Cell::String(Some("123.450".into()))));
        let cents = 10i128.pow(18);
        assert!(cells(decimals(vec![cents]), "money", Form::Decimal(4), false)[0].is_err());
        assert!(cells(Arc::new(Float64Array::from(vec![f64::NAN])), "float", Form::Float, false)[0].is_err());
        let texts = || Arc::new(StringArray::from(vec!["äöü", "😀😀", "abcd"])) as ArrayRef;
        let fit = |type_text: &str| {
            cells(texts(), type_text, Form::Text, false).iter().map(Result::is_ok).collect::<Vec<_>>()
        };
        assert_eq!(fit("nvarchar(3)"), [true, false, false]);
        assert_eq!(fit("nvarchar(max)"), [true, true, true]);
        assert_eq!(fit("varchar(3)"), [true, true, false]);
        let null = Arc::new(Int64OrNull::from(vec![None, Some(300)])) as ArrayRef;
        assert_eq!(cells(null.clone(), "tinyint", Form::TinyInt, false)[0], Ok(Cell::U8(None)));
        assert!(cells(null, "tinyint", Form::TinyInt, false)[1].is_err());
    }

    type Int64OrNull = PrimitiveArray<Int64Type>;
}
