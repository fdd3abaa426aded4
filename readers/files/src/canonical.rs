//! The canonical form of any Arrow column: what Parquet and Arrow files may hold, as readers may emit it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use weir_core::field::{
    EXTENSION, INTERVAL, JSON, KEY, TEXT, UUID, extension, native_type, type_text, with_extension, with_native_type,
};

/// The field that a file's column is delivered as.
pub(crate) fn canonical(field: &Field) -> Field {
    let (data_type, new_extension) = canonical_type(field.data_type(), extension(field));
    let mut metadata = field.metadata().clone();
    // Rows of several files may share keys: a file's key is no table's key.
    metadata.remove(KEY);
    metadata.remove("PARQUET:field_id");
    let keeps = match extension(field) {
        Some(UUID) => matches!(data_type, DataType::FixedSizeBinary(16)),
        Some(name) => name.starts_with("weir.") || name == JSON,
        None => true,
    };
    if !keeps {
        metadata.remove(EXTENSION);
    }
    let mut out = Field::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata);
    if let Some(extension) = new_extension {
        out = with_extension(out, extension);
    }
    if native_type(&out).is_none() {
        out = with_native_type(out, "files", &type_text(field));
    }
    out
}

fn canonical_type(data_type: &DataType, extension: Option<&str>) -> (DataType, Option<&'static str>) {
    use DataType as T;
    let instant = |unit: TimeUnit, zone: &Option<Arc<str>>| T::Timestamp(unit, zone.as_ref().map(|_| "UTC".into()));
    let plain = match data_type {
        T::LargeUtf8 | T::Utf8View | T::Utf8 | T::Null => T::Utf8,
        T::LargeBinary | T::BinaryView | T::Binary => T::Binary,
        T::FixedSizeBinary(16) if extension == Some(UUID) => T::FixedSizeBinary(16),
        T::FixedSizeBinary(_) => T::Binary,
        T::Dictionary(_, value) => return canonical_type(value, extension),
        T::RunEndEncoded(_, value) => return canonical_type(value.data_type(), extension),
        T::Float16 => T::Float32,
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) if *s >= 0 => T::Decimal128(*p, *s),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) if *s < 0 => {
            T::Decimal256((*p).saturating_add(s.unsigned_abs()).min(76), 0)
        }
        T::Date64 => T::Date32,
        T::Time32(_) | T::Time64(TimeUnit::Microsecond) => T::Time64(TimeUnit::Microsecond),
        // Decimals of a microsecond have no canonical type: they stay as text.
        T::Time64(_) => return (T::Utf8, Some(TEXT)),
        T::Timestamp(TimeUnit::Nanosecond, zone) => instant(TimeUnit::Nanosecond, zone),
        T::Timestamp(_, zone) => instant(TimeUnit::Microsecond, zone),
        T::Duration(TimeUnit::Nanosecond) => return (T::Utf8, Some(INTERVAL)),
        T::Duration(_) => T::Duration(TimeUnit::Microsecond),
        T::Interval(_) => return (T::Utf8, Some(INTERVAL)),
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            let flat = !item.data_type().is_nested() && !matches!(item.data_type(), T::Interval(_) | T::Null);
            match canonical_type(item.data_type(), weir_core::field::extension(item)) {
                (inner, None) if flat => {
                    let same = inner == *item.data_type();
                    let item = Field::new("item", inner, true).with_metadata(if same {
                        item.metadata().clone()
                    } else {
                        Default::default()
                    });
                    T::List(Arc::new(item))
                }
                _ => return (T::Utf8, Some(JSON)),
            }
        }
        T::Struct(_) | T::Map(..) | T::Union(..) => return (T::Utf8, Some(JSON)),
        other => other.clone(),
    };
    (plain, None)
}

/// Converts a column of a file to the canonical `field`. Nothing is rounded: a value that does not fit is an error.
pub(crate) fn convert(array: &ArrayRef, from: &Field, to: &Field) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to.data_type() {
        return Ok(array.clone());
    }
    let nested = from.data_type().is_nested() && !matches!(from.data_type(), DataType::RunEndEncoded(..));
    match (to.data_type(), extension(to)) {
        (DataType::Utf8, Some(JSON)) if nested => json(array, from),
        (DataType::Utf8, Some(INTERVAL)) => text(array, DurationFormat::ISO8601),
        (DataType::Utf8, Some(TEXT)) => text(array, DurationFormat::ISO8601),
        (DataType::Time64(TimeUnit::Microsecond), _) | (_, _) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, to.data_type(), &options)
        }
    }
}

fn text(array: &ArrayRef, durations: DurationFormat) -> Result<ArrayRef, ArrowError> {
    if let DataType::Interval(unit) = array.data_type() {
        return Ok(intervals(array, *unit));
    }
    let options = FormatOptions::new().with_duration_format(durations);
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let mut out = StringBuilder::new();
    for row in 0..array.len() {
        if array.is_null(row) { out.append_null() } else { out.append_value(formatter.value(row).try_to_string()?) }
    }
    Ok(Arc::new(out.finish()))
}

fn intervals(array: &ArrayRef, unit: IntervalUnit) -> ArrayRef {
    use arrow::datatypes::{IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType};
    let mut out = StringBuilder::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        let (months, days, nanos) = match unit {
            IntervalUnit::YearMonth => (array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0),
            IntervalUnit::DayTime => {
                let value = array.as_primitive::<IntervalDayTimeType>().value(row);
                (0, value.days, i64::from(value.milliseconds) * 1_000_000)
            }
            IntervalUnit::MonthDayNano => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                (value.months, value.days, value.nanoseconds)
            }
        };
        out.append_value(iso_interval(months, days, nanos));
    }
    Arc::new(out.finish())
}

fn iso_interval(months: i32, days: i32, nanos: i64) -> String {
    let mut text = String::from("P");
    let part = |text: &mut String, n: i64, unit: char| {
        if n != 0 {
            text.push_str(&format!("{n}{unit}"));
        }
    };
    part(&mut text, i64::from(months / 12), 'Y');
    part(&mut text, i64::from(months % 12), 'M');
    part(&mut text, i64::from(days), 'D');
    if nanos != 0 {
        text.push('T');
        let seconds = nanos / 1_000_000_000;
        part(&mut text, seconds / 3600, 'H');
        part(&mut text, seconds / 60 % 60, 'M');
        let (rest, fraction) = (seconds % 60, (nanos % 1_000_000_000).unsigned_abs());
        if fraction != 0 {
            let sign = if nanos < 0 { "-" } else { "" };
            let digits = format!("{fraction:09}");
            text.push_str(&format!("{sign}{}.{}S", rest.abs(), digits.trim_end_matches('0')));
        } else {
            part(&mut text, rest, 'S');
        }
    }
    if text == "P" { "PT0S".into() } else { text }
}

fn json(array: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let field = Arc::new(field.clone());
    let mut encoder = make_encoder(&field, array.as_ref(), &options)?;
    let mut out = StringBuilder::new();
    let mut bytes = Vec::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            out.append_null();
            continue;
        }
        bytes.clear();
        encoder.encode(row, &mut bytes);
        out.append_value(std::str::from_utf8(&bytes).map_err(|e| ArrowError::JsonError(e.to_string()))?);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::*;

    fn converted(array: ArrayRef) -> (Field, ArrayRef) {
        let field = Field::new("c", array.data_type().clone(), true);
        let to = canonical(&field);
        let out = convert(&array, &field, &to).unwrap();
        assert_eq!(out.data_type(), to.data_type());
        (to, out)
    }

    #[test]
    fn every_type_gets_its_canonical_form() {
        let words: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
        assert_eq!(converted(Arc::new(words)).1.as_string::<i32>().value(0), "a");
        let views = StringViewArray::from(vec!["a string of more than twelve"]);
        assert_eq!(converted(Arc::new(views)).0.data_type(), &DataType::Utf8);
        let millis = TimestampMillisecondArray::from(vec![1]).with_timezone("+02:00");
        let (field, out) = converted(Arc::new(millis));
        assert_eq!(type_text(&field), "Timestamp(µs, UTC)");
        assert_eq!(out.as_primitive::<TimestampMicrosecondType>().value(0), 1000);
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let pair = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), inner)]);
        let (field, out) = converted(Arc::new(pair));
        assert_eq!(extension(&field), Some(JSON));
        assert_eq!(out.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("{\"x\":1}"), Some("{\"x\":null}")]);
        let list = LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
        assert!(matches!(converted(Arc::new(list)).0.data_type(), DataType::List(_)));
        let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, -3, 3_661_000_001_000)]);
        assert_eq!(converted(Arc::new(interval)).1.as_string::<i32>().value(0), "P1Y2M-3DT1H1M1.000001S");
        assert_eq!(iso_interval(0, 0, -1_500_000_000), "PT-1.5S");
        let time = Time64NanosecondArray::from(vec![1]);
        assert_eq!(converted(Arc::new(time)).1.as_string::<i32>().value(0), "00:00:00.000000001");
        assert!(converted(Arc::new(NullArray::new(2))).1.is_null(0));
    }
}
