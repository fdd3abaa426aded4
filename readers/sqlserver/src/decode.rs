//! From the driver's cells to Arrow columns: one decoder a column, chosen once.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    Time64NanosecondBuilder, TimestampMicrosecondBuilder, TimestampNanosecondBuilder, UInt8Builder,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::Value;
use tiberius::ColumnData as Cell;
use weir_core::{Error, ErrorKind, Result};
use weir_sqlserver::{DAYS_TO_1900, DAYS_TO_1970, show_offset};

/// A column being built.
pub(crate) struct Decoder {
    builder: Builder,
    /// A text under way, kept for its memory.
    text: String,
}

enum Builder {
    Bool(BooleanBuilder),
    UInt8(UInt8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    Date(Date32Builder),
    TimeMicros(Time64MicrosecondBuilder),
    TimeNanos(Time64NanosecondBuilder),
    Micros(TimestampMicrosecondBuilder),
    Nanos(TimestampNanosecondBuilder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

/// The cell is of another type than the column was when it was described.
pub(crate) const FOREIGN: &str = "the server sent another type than it had described";
const FINE: &str = "it is finer than a microsecond: read the column with `fractions: microseconds`, or as a text";
const FAR: &str = "nanoseconds hold the years 1677 to 2262 only: read the column with `fractions: microseconds`";

impl Decoder {
    /// For values that are to be delivered as `field`.
    pub(crate) fn new(field: &Field) -> Result<Self> {
        let builder = match field.data_type() {
            DataType::Boolean => Builder::Bool(BooleanBuilder::new()),
            DataType::UInt8 => Builder::UInt8(UInt8Builder::new()),
            DataType::Int16 => Builder::Int16(Int16Builder::new()),
            DataType::Int32 => Builder::Int32(Int32Builder::new()),
            DataType::Int64 => Builder::Int64(Int64Builder::new()),
            DataType::Float32 => Builder::Float32(Float32Builder::new()),
            DataType::Float64 => Builder::Float64(Float64Builder::new()),
            DataType::Decimal128(p, s) => {
                Builder::Decimal(Decimal128Builder::new().with_precision_and_scale(*p, *s)?, *p, (*s).max(0) as u8)
            }
            DataType::Date32 => Builder::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Builder::TimeMicros(Time64MicrosecondBuilder::new()),
            DataType::Time64(TimeUnit::Nanosecond) => Builder::TimeNanos(Time64NanosecondBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Builder::Micros(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                Builder::Nanos(TimestampNanosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Utf8 => Builder::Utf8(StringBuilder::new()),
            DataType::Binary => Builder::Binary(BinaryBuilder::new()),
            DataType::FixedSizeBinary(16) => Builder::Uuid(FixedSizeBinaryBuilder::new(16)),
            other => {
                return Err(
                    Error::new(ErrorKind::Internal, format!("{other} was never offered")).with("column", field.name())
                );
            }
        };
        Ok(Self { builder, text: String::new() })
    }

    /// Bytes of a row besides text and bytes themselves, for the bound of a batch.
    pub(crate) fn width(&self) -> usize {
        match &self.builder {
            Builder::Bool(_) | Builder::UInt8(_) => 1,
            Builder::Int16(_) => 2,
            Builder::Int32(_) | Builder::Float32(_) | Builder::Date(_) | Builder::Utf8(_) | Builder::Binary(_) => 4,
            Builder::Decimal(..) | Builder::Uuid(_) => 16,
            _ => 8,
        }
    }

    /// Appends a cell. After an error a NULL stands in its place, so that all columns stay equally long.
    pub(crate) fn append(&mut self, cell: &Cell<'static>) -> Result<(), &'static str> {
        if is_null(cell) {
            self.append_null();
            return Ok(());
        }
        self.value(cell).inspect_err(|_| self.append_null())
    }

    fn value(&mut self, cell: &Cell<'static>) -> Result<(), &'static str> {
        match (&mut self.builder, cell) {
            (Builder::Bool(b), Cell::Bit(Some(v))) => b.append_value(*v),
            (Builder::UInt8(b), Cell::U8(Some(v))) => b.append_value(*v),
            (Builder::Int16(b), Cell::I16(Some(v))) => b.append_value(*v),
            (Builder::Int16(b), Cell::U8(Some(v))) => b.append_value((*v).into()),
            (Builder::Int32(b), Cell::I32(Some(v))) => b.append_value(*v),
            (Builder::Int64(b), Cell::I64(Some(v))) => b.append_value(*v),
            (Builder::Float32(b), Cell::F32(Some(v))) => b.append_value(*v),
            (Builder::Float64(b), Cell::F64(Some(v))) => b.append_value(*v),
            (Builder::Float64(b), Cell::F32(Some(v))) => b.append_value((*v).into()),
            (Builder::Decimal(b, precision, scale), Cell::Numeric(Some(v))) => {
                b.append_value(rescaled(v.value(), v.scale(), *precision, *scale)?);
            }
            (Builder::Date(b), Cell::Date(Some(v))) => b.append_value((i64::from(v.days()) - DAYS_TO_1970) as i32),
            (Builder::TimeMicros(b), Cell::Time(Some(v))) => b.append_value(micros(v.increments(), v.scale())?),
            (Builder::TimeNanos(b), Cell::Time(Some(v))) => b.append_value(nanos(v.increments(), v.scale())?),
            (Builder::Micros(b), cell) => {
                let (days, clock) = micros_of(cell).ok_or(FOREIGN)??;
                let whole = days.checked_mul(86_400_000_000).and_then(|micros| micros.checked_add(clock));
                b.append_value(whole.ok_or(FOREIGN)?);
            }
            (Builder::Nanos(b), cell) => {
                let (days, clock) = nanos_of(cell).ok_or(FOREIGN)??;
                let whole = i128::from(days) * 86_400_000_000_000 + i128::from(clock);
                b.append_value(i64::try_from(whole).map_err(|_| FAR)?);
            }
            (Builder::Utf8(b), Cell::String(Some(v))) => b.append_value(v),
            (Builder::Utf8(b), Cell::Xml(Some(v))) => b.append_value(v.as_ref().as_ref()),
            (Builder::Utf8(b), Cell::DateTimeOffset(Some(v))) => {
                let (at, text) = (v.datetime2(), &mut self.text);
                text.clear();
                show_offset(at.date().days(), at.time().increments(), at.time().scale(), v.offset(), text);
                b.append_value(text);
            }
            (Builder::Binary(b), Cell::Binary(Some(v))) => b.append_value(v),
            (Builder::Uuid(b), Cell::Guid(Some(v))) => b.append_value(v.as_bytes()).map_err(|_| FOREIGN)?,
            _ => return Err(FOREIGN),
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match &mut self.builder {
            Builder::Bool(b) => b.append_null(),
            Builder::UInt8(b) => b.append_null(),
            Builder::Int16(b) => b.append_null(),
            Builder::Int32(b) => b.append_null(),
            Builder::Int64(b) => b.append_null(),
            Builder::Float32(b) => b.append_null(),
            Builder::Float64(b) => b.append_null(),
            Builder::Decimal(b, ..) => b.append_null(),
            Builder::Date(b) => b.append_null(),
            Builder::TimeMicros(b) => b.append_null(),
            Builder::TimeNanos(b) => b.append_null(),
            Builder::Micros(b) => b.append_null(),
            Builder::Nanos(b) => b.append_null(),
            Builder::Utf8(b) => b.append_null(),
            Builder::Binary(b) => b.append_null(),
            Builder::Uuid(b) => b.append_null(),
        }
    }

    /// The column so far; the decoder starts again.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Bool(b) => Arc::new(b.finish()),
            Builder::UInt8(b) => Arc::new(b.finish()),
            Builder::Int16(b) => Arc::new(b.finish()),
            Builder::Int32(b) => Arc::new(b.finish()),
            Builder::Int64(b) => Arc::new(b.finish()),
            Builder::Float32(b) => Arc::new(b.finish()),
            Builder::Float64(b) => Arc::new(b.finish()),
            Builder::Decimal(b, ..) => Arc::new(b.finish()),
            Builder::Date(b) => Arc::new(b.finish()),
            Builder::TimeMicros(b) => Arc::new(b.finish()),
            Builder::TimeNanos(b) => Arc::new(b.finish()),
            Builder::Micros(b) => Arc::new(b.finish()),
            Builder::Nanos(b) => Arc::new(b.finish()),
            Builder::Utf8(b) => Arc::new(b.finish()),
            Builder::Binary(b) => Arc::new(b.finish()),
            Builder::Uuid(b) => Arc::new(b.finish()),
        }
    }
}

/// A decimal with `scale` digits after the point; the server may send fewer or more than it had described.
fn rescaled(value: i128, from: u8, precision: u8, scale: u8) -> Result<i128, &'static str> {
    const WIDE: &str = "it has more digits than the column's type";
    let value = if from <= scale {
        10i128.checked_pow(u32::from(scale - from)).and_then(|factor| value.checked_mul(factor)).ok_or(WIDE)?
    } else {
        let factor = 10i128.checked_pow(u32::from(from - scale)).ok_or(WIDE)?;
        if value % factor != 0 {
            return Err(WIDE);
        }
        value / factor
    };
    let limit = 10u128.checked_pow(u32::from(precision)).ok_or(WIDE)?;
    if value.unsigned_abs() < limit { Ok(value) } else { Err(WIDE) }
}

/// Increments of 10⁻`scale` seconds in microseconds.
fn micros(increments: u64, scale: u8) -> Result<i64, &'static str> {
    let value = match scale {
        0..=6 => increments.checked_mul(10u64.pow(6 - u32::from(scale))).ok_or(FOREIGN)?,
        7 if increments.is_multiple_of(10) => increments / 10,
        7 => return Err(FINE),
        _ => return Err(FOREIGN),
    };
    i64::try_from(value).map_err(|_| FOREIGN)
}

/// Increments of 10⁻`scale` seconds in nanoseconds.
fn nanos(increments: u64, scale: u8) -> Result<i64, &'static str> {
    let factor = 10u64.pow(9 - u32::from(scale.min(9)));
    increments.checked_mul(factor).and_then(|n| i64::try_from(n).ok()).ok_or(FOREIGN)
}

/// A moment as days since 1970 and a clock's microseconds.
type Moment = Result<(i64, i64), &'static str>;

fn micros_of(cell: &Cell<'static>) -> Option<Moment> {
    moment(cell, micros, 1)
}

fn nanos_of(cell: &Cell<'static>) -> Option<Moment> {
    moment(cell, nanos, 1_000)
}

fn moment(cell: &Cell<'static>, clock: fn(u64, u8) -> Result<i64, &'static str>, per_micro: i64) -> Option<Moment> {
    let fine = |at: tiberius::time::DateTime2| {
        let time = at.time();
        clock(time.increments(), time.scale()).map(|clock| (i64::from(at.date().days()) - DAYS_TO_1970, clock))
    };
    Some(match cell {
        Cell::DateTime2(Some(at)) => fine(*at),
        // On the wire it is in UTC already.
        Cell::DateTimeOffset(Some(at)) => fine(at.datetime2()),
        Cell::DateTime(Some(at)) => {
            // Three-hundredths of a second, which everybody shows as milliseconds: 0, 3 and 7.
            let millis = (i64::from(at.seconds_fragments()) * 10 + 1) / 3;
            Ok((i64::from(at.days()) - DAYS_TO_1900, millis * 1_000 * per_micro))
        }
        Cell::SmallDateTime(Some(at)) => {
            Ok((i64::from(at.days()) - DAYS_TO_1900, i64::from(at.seconds_fragments()) * 60_000_000 * per_micro))
        }
        Cell::Date(Some(at)) => Ok((i64::from(at.days()) - DAYS_TO_1970, 0)),
        _ => return None,
    })
}

fn is_null(cell: &Cell<'static>) -> bool {
    matches!(
        cell,
        Cell::U8(None)
            | Cell::I16(None)
            | Cell::I32(None)
            | Cell::I64(None)
            | Cell::F32(None)
            | Cell::F64(None)
            | Cell::Bit(None)
            | Cell::String(None)
            | Cell::Guid(None)
            | Cell::Binary(None)
            | Cell::Numeric(None)
            | Cell::Xml(None)
            | Cell::DateTime(None)
            | Cell::SmallDateTime(None)
            | Cell::Time(None)
            | Cell::Date(None)
            | Cell::DateTime2(None)
            | Cell::DateTimeOffset(None)
    )
}

/// Bytes of a text or of bytes.
pub(crate) fn length(cell: &Cell<'static>) -> usize {
    match cell {
        Cell::String(Some(text)) => text.len(),
        Cell::Binary(Some(bytes)) => bytes.len(),
        Cell::Xml(Some(xml)) => xml.as_ref().as_ref().len(),
        _ => 0,
    }
}

/// A cell as the quarantine keeps it: bytes in hexadecimal.
pub(crate) fn shown(cell: &Cell<'static>) -> Value {
    if is_null(cell) {
        return Value::Null;
    }
    let moment = |days: i64, seconds: i64, fraction: String| {
        let mut text = String::new();
        show_offset((days + DAYS_TO_1970).max(0) as u32, seconds.max(0) as u64, 0, 0, &mut text);
        Value::from(text.trim_end_matches(" +00:00").to_owned() + &fraction)
    };
    let digits = |increments: u64, scale: u8| {
        let per_second = 10u64.pow(u32::from(scale.min(9)));
        let fraction = match scale {
            0 => String::new(),
            _ => format!(".{:0width$}", increments % per_second, width = usize::from(scale)),
        };
        ((increments / per_second) as i64, fraction)
    };
    match cell {
        Cell::U8(Some(v)) => Value::from(v.to_string()),
        Cell::I16(Some(v)) => Value::from(v.to_string()),
        Cell::I32(Some(v)) => Value::from(v.to_string()),
        Cell::I64(Some(v)) => Value::from(v.to_string()),
        Cell::F32(Some(v)) => Value::from(v.to_string()),
        Cell::F64(Some(v)) => Value::from(v.to_string()),
        Cell::Bit(Some(v)) => Value::from(v.to_string()),
        Cell::String(Some(v)) => Value::from(v.as_ref()),
        Cell::Guid(Some(v)) => Value::from(v.to_string()),
        Cell::Binary(Some(v)) => Value::from(v.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Cell::Numeric(Some(v)) => Value::from(v.to_string()),
        Cell::Xml(Some(v)) => Value::from(v.as_ref().as_ref()),
        Cell::Date(Some(v)) => match moment(i64::from(v.days()) - DAYS_TO_1970, 0, String::new()) {
            Value::String(text) => Value::from(text.split(' ').next().unwrap_or_default()),
            other => other,
        },
        Cell::Time(Some(v)) => {
            let (seconds, fraction) = digits(v.increments(), v.scale());
            Value::from(format!("{:02}:{:02}:{:02}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60))
        }
        Cell::DateTime2(Some(v)) => {
            let (seconds, fraction) = digits(v.time().increments(), v.time().scale());
            moment(i64::from(v.date().days()) - DAYS_TO_1970, seconds, fraction)
        }
        Cell::DateTimeOffset(Some(v)) => {
            let (at, mut text) = (v.datetime2(), String::new());
            show_offset(at.date().days(), at.time().increments(), at.time().scale(), v.offset(), &mut text);
            Value::from(text)
        }
        Cell::DateTime(Some(v)) => {
            let (seconds, rest) = (v.seconds_fragments() / 300, v.seconds_fragments() % 300);
            moment(i64::from(v.days()) - DAYS_TO_1900, seconds.into(), format!(".{:03}", (rest * 10 + 1) / 3))
        }
        Cell::SmallDateTime(Some(v)) => {
            moment(i64::from(v.days()) - DAYS_TO_1900, i64::from(v.seconds_fragments()) * 60, String::new())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType, TimestampNanosecondType};
    use tiberius::numeric::Numeric;
    use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};
    use weir_sqlserver::{Fractions, Kind};

    fn decoder(type_text: &str, form: usize) -> Decoder {
        Decoder::new(&Kind::parse(type_text).forms("c", Fractions::Exact)[form]).unwrap()
    }

    fn at(days: u32, increments: u64, scale: u8) -> DateTime2 {
        DateTime2::new(Date::new(days), Time::new(increments, scale))
    }

    #[test]
    fn seven_digits_are_kept_or_their_row_is_dirty() {
        let (fine, whole) = (Cell::DateTime2(Some(at(719_163, 1, 7))), Cell::DateTime2(Some(at(719_163, 10, 7))));
        let last = Cell::DateTime2(Some(at(3_652_058, 863_999_999_990, 7)));
        let mut nanos = decoder("datetime2(7)", 0);
        assert_eq!(nanos.append(&fine), Ok(()));
        assert_eq!(nanos.append(&last), Err(FAR));
        let values = nanos.finish();
        let values = values.as_primitive::<TimestampNanosecondType>();
        assert_eq!(values.iter().collect::<Vec<_>>(), [Some(86_400_000_000_100), None]);
        let mut micros = decoder("datetime2(7)", 1);
        assert_eq!(micros.append(&fine), Err(FINE));
        assert_eq!((micros.append(&whole), micros.append(&last)), (Ok(()), Ok(())));
        let values = micros.finish();
        let values = values.as_primitive::<TimestampMicrosecondType>();
        assert_eq!(values.iter().collect::<Vec<_>>(), [None, Some(86_400_000_001), Some(253_402_300_799_999_999)]);
    }

    #[test]
    fn old_times_show_the_milliseconds_that_everybody_sees() {
        let mut d = decoder("datetime", 0);
        for (days, ticks) in [(0, 0), (25_567, 1), (25_567, 2), (25_567, 299), (-53_690, 0)] {
            d.append(&Cell::DateTime(Some(DateTime::new(days, ticks)))).unwrap();
        }
        d.append(&Cell::SmallDateTime(Some(SmallDateTime::new(25_567, 61)))).unwrap();
        let values = d.finish();
        let values = values.as_primitive::<TimestampMicrosecondType>().values().to_vec();
        assert_eq!(values[..4], [-2_208_988_800_000_000, 3_000, 7_000, 997_000]);
        assert_eq!(values[4], -6_847_804_800_000_000, "1753-01-01");
        assert_eq!(values[5], 3_660_000_000);
    }

    #[test]
    fn offsets_are_kept_in_the_text() {
        let cell = Cell::DateTimeOffset(Some(DateTimeOffset::new(at(719_162, 5, 1), -90)));
        let mut text = decoder("datetimeoffset(1)", 1);
        text.append(&cell).unwrap();
        assert_eq!(text.finish().as_string::<i32>().value(0), "1969-12-31 22:30:00.5 -01:30");
        let mut instant = decoder("datetimeoffset(1)", 0);
        instant.append(&cell).unwrap();
        assert_eq!(instant.finish().as_primitive::<TimestampMicrosecondType>().value(0), 500_000);
        assert_eq!(shown(&cell), "1969-12-31 22:30:00.5 -01:30");
    }

    #[test]
    fn decimals_keep_their_digits_and_foreign_cells_are_reasons() {
        let mut d = decoder("decimal(38,2)", 0);
        let nines = 10i128.pow(38) - 1;
        assert_eq!(d.append(&Cell::Numeric(Some(Numeric::new_with_scale(nines, 2)))), Ok(()));
        assert_eq!(d.append(&Cell::Numeric(Some(Numeric::new_with_scale(-5, 1)))), Ok(()));
        assert!(d.append(&Cell::Numeric(Some(Numeric::new_with_scale(1, 3)))).is_err());
        assert_eq!(d.append(&Cell::I32(Some(1))), Err(FOREIGN));
        assert_eq!(d.append(&Cell::Numeric(None)), Ok(()));
        let values = d.finish();
        let values = values.as_primitive::<Decimal128Type>();
        assert_eq!((values.value(0), values.value(1), values.null_count(), values.len()), (nines, -50, 3, 5));
        assert!(rescaled(10_000, 0, 4, 0).is_err() && rescaled(i128::MAX, 0, 38, 38).is_err());
    }

    #[test]
    fn what_the_quarantine_shows() {
        assert_eq!(shown(&Cell::DateTime2(Some(at(0, 12, 7)))), "0001-01-01 00:00:00.0000012");
        assert_eq!(shown(&Cell::DateTime(Some(DateTime::new(0, 301)))), "1900-01-01 00:00:01.003");
        assert_eq!(shown(&Cell::Time(Some(Time::new(37_230_005, 4)))), "01:02:03.0005");
        assert_eq!(shown(&Cell::Date(Some(Date::new(719_162)))), "1970-01-01");
        assert_eq!(shown(&Cell::Binary(None)), Value::Null);
    }
}
