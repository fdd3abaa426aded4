//! Rows as lines of text.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use weir_core::Result;

/// Appends one line for each row of `batch` to `text`.
///
/// # Errors
/// A column type that Arrow cannot show as text.
pub(crate) fn append(batch: &RecordBatch, delimiter: &str, null: &str, text: &mut String) -> Result<()> {
    use std::fmt::Write;
    let options = FormatOptions::new()
        .with_null(null)
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"))
        .with_datetime_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        for (index, (formatter, column)) in columns.iter().zip(batch.columns()).enumerate() {
            if index > 0 {
                text.push_str(delimiter);
            }
            // Bytes that are a text are shown as one; others stay hexadecimal.
            let readable = match column.data_type() {
                DataType::Binary if column.is_valid(row) => {
                    std::str::from_utf8(column.as_binary::<i32>().value(row)).ok()
                }
                _ => None,
            };
            match readable {
                Some(readable) => text.push_str(readable),
                None => formatter.value(row).write(text).or_else(|_| write!(text, "?")).unwrap_or_default(),
            }
        }
        text.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    #[test]
    fn rows_become_lines() {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
            ("t", Arc::new(StringArray::from(vec!["a", ""]))),
            ("d", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000]))),
            ("b", Arc::new(BinaryArray::from(vec![b"xy".as_slice(), &[0xff]]))),
        ])
        .unwrap();
        let mut text = String::new();
        append(&batch, ",", "null", &mut text).unwrap();
        assert_eq!(text, "1,a,1970-01-01 00:00:00,xy\nnull,,1970-01-01 00:00:01.500,ff\n");
    }
}
