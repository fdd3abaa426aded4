//! Arrow → COPY text, for batches with a column that our binary forms do not cover (composites, ranges from text,
//! types of extensions). The server's own input functions read the values.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use weir_core::{Error, Result};

use super::encode::{Kind, Reading, not_as_planned, whole_digits, within, without_nul};
use super::lists::decimals;
use super::temporal::{EPOCH_DAYS, EPOCH_MICROS, IntervalLimit, parse_interval, with_era};
use super::{numeric, temporal};

/// Encodes all rows but the refused ones.
pub(super) fn encode(
    batch: &RecordBatch,
    kinds: &[Kind],
    staged: &mut Option<(i32, i64)>,
    out: &mut Vec<u8>,
    refused: &mut Vec<(usize, usize, String)>,
) -> Result<()> {
    if kinds.len() != batch.num_columns() {
        return Err(Error::internal("a batch has another number of columns than planned"));
    }
    let mut cell = String::new();
    'rows: for row in 0..batch.num_rows() {
        let start = out.len();
        for (i, (kind, array)) in kinds.iter().zip(batch.columns()).enumerate() {
            if i > 0 {
                out.push(b'\t');
            }
            if array.is_null(row) {
                out.extend_from_slice(b"\\N");
                continue;
            }
            cell.clear();
            let written = match kind {
                Kind::Raw => return Err(not_as_planned(batch.schema_ref().field(i).name())),
                Kind::Date => match array.as_primitive_opt::<Date32Type>().map(|a| a.value(row)) {
                    Some(day) => far(day.checked_sub(EPOCH_DAYS).map(temporal::date), array, row, &mut cell),
                    None => value(array, row, &mut cell),
                },
                Kind::Timestamp(digits) => match array.as_primitive_opt::<TimestampMicrosecondType>() {
                    Some(micros) => whole_digits(micros.value(row), *digits).and_then(|micros| {
                        far(micros.checked_sub(EPOCH_MICROS).map(temporal::timestamp), array, row, &mut cell)
                    }),
                    None => value(array, row, &mut cell),
                },
                Kind::Time(digits) => match array.as_primitive_opt::<Time64MicrosecondType>().map(|a| a.value(row)) {
                    // A time of day for PostgreSQL alone.
                    Some(temporal::DAY) => {
                        cell.push_str("24:00:00");
                        Ok(())
                    }
                    Some(micros) => whole_digits(micros, *digits).and_then(|_| value(array, row, &mut cell)),
                    None => value(array, row, &mut cell),
                },
                Kind::DecimalText(most) => match array.as_string_opt::<i32>() {
                    Some(text) => super::numeric::from_text(text.value(row), *most, &mut Vec::new())
                        .and_then(|()| value(array, row, &mut cell)),
                    None => return Err(not_as_planned(batch.schema_ref().field(i).name())),
                },
                Kind::Text(most) => {
                    value(array, row, &mut cell).and_then(|()| within(cell.as_bytes(), *most).map(drop))
                }
                Kind::Interval(limit) => value(array, row, &mut cell)
                    .and_then(|()| parse_interval(&cell).and_then(|interval| limit.check(interval)).map(drop)),
                Kind::AsText(reading) => match array.as_string_opt::<i32>() {
                    Some(text) => read_by_server(reading, text.value(row), &mut cell),
                    None => return Err(not_as_planned(batch.schema_ref().field(i).name())),
                },
                _ => value(array, row, &mut cell),
            };
            if let Err(reason) = written.and_then(|()| without_nul(&cell).map(|_| ())) {
                out.truncate(start);
                refused.push((row, i, reason));
                continue 'rows;
            }
            escape(&cell, out);
        }
        if let Some((split, number)) = staged {
            if !kinds.is_empty() {
                out.push(b'\t');
            }
            out.extend_from_slice(format!("{split}\t{number}").as_bytes());
            *number += 1;
        }
        out.push(b'\n');
    }
    Ok(())
}

/// Appends a date or timestamp: outside the years 0001 to 9999 as the server writes it, with its era.
fn far<T>(
    inside: Option<std::result::Result<T, String>>,
    array: &ArrayRef,
    row: usize,
    cell: &mut String,
) -> std::result::Result<(), String> {
    match inside {
        Some(Ok(_)) => value(array, row, cell),
        Some(Err(text)) if !text.ends_with("infinity") => {
            cell.push_str(&text);
            Ok(())
        }
        _ => Err("the value is out of PostgreSQL's range".into()),
    }
}

/// Appends a text for the server's input function, if that alters nothing.
fn read_by_server(reading: &Reading, text: &str, cell: &mut String) -> std::result::Result<(), String> {
    match reading {
        Reading::Array(elements) => return elements.literal(text, cell),
        Reading::Moment(digits) => {
            decimals(text, *digits)?;
            cell.push_str(&with_era(text));
            return Ok(());
        }
        Reading::Interval(limit) if *limit != IntervalLimit::NONE => {
            parse_interval(text).and_then(|interval| limit.check(interval))?;
        }
        // What is no plain number has a form of the server's own, `$1,234.50`, or is refused by it.
        Reading::Digits(most) if numeric::from_text(text, None, &mut Vec::new()).is_ok() => {
            numeric::from_text(text, Some(*most), &mut Vec::new())?;
        }
        Reading::Byte if text.len() > 1 => return Err("the column takes a single byte".into()),
        _ => {}
    }
    cell.push_str(text);
    Ok(())
}

fn escape(cell: &str, out: &mut Vec<u8>) {
    for byte in cell.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(other),
        }
    }
}

/// Appends a value as the server's input function reads it.
fn value(array: &ArrayRef, row: usize, cell: &mut String) -> std::result::Result<(), String> {
    use std::fmt::Write;
    match array.data_type() {
        DataType::Utf8 => cell.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => {
            cell.push_str("\\x");
            for byte in array.as_binary::<i32>().value(row) {
                // Writing into a String cannot fail.
                let _ = write!(cell, "{byte:02x}");
            }
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            cell.push('{');
            for i in 0..items.len() {
                if i > 0 {
                    cell.push(',');
                }
                if items.is_null(i) {
                    cell.push_str("NULL");
                    continue;
                }
                let mut item = String::new();
                value(&items, i, &mut item)?;
                cell.push('"');
                for c in item.chars() {
                    if matches!(c, '"' | '\\') {
                        cell.push('\\');
                    }
                    cell.push(c);
                }
                cell.push('"');
            }
            cell.push('}');
        }
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::new()).map_err(|e| e.to_string())?;
            write!(cell, "{}", formatter.value(row)).map_err(|_| "the value cannot be written as text".to_owned())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, Date32Array, Float64Array, ListArray, StringArray, Time64MicrosecondArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    #[test]
    fn far_years_and_the_end_of_the_day_are_the_servers() {
        let batch = RecordBatch::try_from_iter([
            ("d", Arc::new(Date32Array::from(vec![-735_160, 2_932_897, i32::MIN])) as ArrayRef),
            ("s", Arc::new(TimestampMicrosecondArray::from(vec![-62_135_596_800_000_001, 0, 0])) as _),
            ("t", Arc::new(Time64MicrosecondArray::from(vec![temporal::DAY, 1, 0])) as _),
        ])
        .unwrap();
        let (mut out, mut refused) = (vec![], vec![]);
        encode(&batch, &[Kind::Date, Kind::Timestamp(6), Kind::Time(6)], &mut None, &mut out, &mut refused).unwrap();
        let expected = "0044-03-15 BC\t0001-12-31 23:59:59.999999 BC\t24:00:00\n10000-01-01\t1970-01-01T00:00:00\t00:00:00.000001\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(refused.len(), 1);
    }

    #[test]
    fn values_are_escaped() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
        let batch = RecordBatch::try_from_iter([
            ("t", Arc::new(StringArray::from(vec!["a\tb\\c\nd"])) as ArrayRef),
            ("b", Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])) as _),
            ("l", Arc::new(lists) as _),
            ("f", Arc::new(Float64Array::from(vec![f64::NEG_INFINITY])) as _),
        ])
        .unwrap();
        let (mut out, mut refused) = (vec![], vec![]);
        let list = Kind::List(Box::new(Kind::Int4), 23);
        let kinds = [Kind::Text(None), Kind::Bytea, list, Kind::Float8];
        encode(&batch, &kinds, &mut None, &mut out, &mut refused).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\tb\\\\c\\nd\t\\\\x00ff\t{\"1\",NULL}\t-inf\n");
    }
}
