//! Values between their canonical Arrow form and the one that a table's files hold.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryBuilder, StringArray};
use arrow::compute::{CastOptions, and, cast_with_options, is_not_null, is_null};
use arrow::datatypes::DataType;
use weir_core::{Error, ErrorKind, Result};

/// Values in the form of [`new_column`](crate::new_column) or [`existing_input`](crate::existing_input) as the files hold them.
///
/// # Errors
/// A value that does not fit, which the runtime should have found before.
pub fn to_stored(values: &ArrayRef, stored: &DataType) -> Result<ArrayRef> {
    if values.data_type() == stored {
        return Ok(values.clone());
    }
    if let (DataType::FixedSizeBinary(16), DataType::Utf8) = (values.data_type(), stored) {
        let bytes = values.as_fixed_size_binary();
        return Ok(Arc::new(bytes.iter().map(|value| value.map(uuid_text)).collect::<StringArray>()));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(values, stored, &options)
        .map_err(|e| Error::new(ErrorKind::Schema, format!("values cannot be stored as {stored}")).because(e))
}

/// Values of a file in the form `want`, and which of them could not be brought into it.
///
/// # Errors
/// A form into which no value of this type can come.
pub fn from_stored(values: &ArrayRef, want: &DataType) -> Result<(ArrayRef, Option<BooleanArray>)> {
    if values.data_type() == want {
        return Ok((values.clone(), None));
    }
    let converted = match (values.data_type(), want) {
        (DataType::Utf8, DataType::FixedSizeBinary(16)) => uuids(values.as_string::<i32>())?,
        _ => cast_with_options(values, want, &CastOptions { safe: true, ..CastOptions::default() }).map_err(|e| {
            let message = format!("a file holds {} where the table says {want}", values.data_type());
            Error::new(ErrorKind::Schema, message).because(e)
        })?,
    };
    if converted.null_count() == values.null_count() {
        return Ok((converted, None));
    }
    let lost = and(&is_not_null(values)?, &is_null(&converted)?)?;
    Ok((converted, Some(lost)))
}

/// Parses UUIDs, with or without hyphens; what is none becomes NULL.
fn uuids(texts: &StringArray) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    for text in texts {
        match text.and_then(parse_uuid) {
            Some(bytes) => builder.append_value(bytes)?,
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(&digits).ok()?;
    Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes())
}

/// A partition value as the log writes it, as an array of one value.
///
/// # Errors
/// A text that is no value of the column's type.
pub fn partition_value(text: Option<&str>, data_type: &DataType) -> Result<ArrayRef> {
    // The log knows no empty text: it stands for NULL.
    let text = text.filter(|t| !t.is_empty());
    let values: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = match data_type {
        DataType::Binary => Ok(Arc::new(arrow::array::BinaryArray::from(vec![text.map(str::as_bytes)])) as ArrayRef),
        _ => cast_with_options(&values, data_type, &options),
    };
    cast.map_err(|e| {
        let text = text.unwrap_or("NULL");
        Error::new(ErrorKind::Data, format!("the partition value `{text}` is no {data_type}")).because(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, Time64MicrosecondArray};

    #[test]
    fn values_that_do_not_come_back_are_told() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some("6f2b3c1e-0000-4000-8000-00000000000a"), Some("no"), None]));
        let (uuids, lost) = from_stored(&texts, &DataType::FixedSizeBinary(16)).unwrap();
        assert_eq!(uuids.as_fixed_size_binary().value(0)[15], 10);
        assert_eq!(lost.unwrap(), BooleanArray::from(vec![false, true, false]));
        let again = to_stored(&uuids, &DataType::Utf8).unwrap();
        assert_eq!(again.as_string::<i32>().value(0), "6f2b3c1e-0000-4000-8000-00000000000a");

        let times: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![Some(1), None]));
        let stored = to_stored(&times, &DataType::Int64).unwrap();
        assert_eq!(stored.as_ref(), &Int64Array::from(vec![Some(1), None]) as &dyn Array);
        assert_eq!(from_stored(&stored, times.data_type()).unwrap().0.as_ref(), times.as_ref());
    }

    #[test]
    fn partition_values() {
        let date = partition_value(Some("1970-01-02"), &DataType::Date32).unwrap();
        assert_eq!(date.as_primitive::<arrow::datatypes::Date32Type>().value(0), 1);
        assert!(partition_value(Some(""), &DataType::Utf8).unwrap().is_null(0));
        assert!(partition_value(Some("x"), &DataType::Int32).is_err());
    }
}
