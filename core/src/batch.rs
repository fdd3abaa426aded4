//! Bounds of a record batch, and how its bytes are counted.

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::datatypes::DataType;

/// The most rows a batch may hold.
pub const MAX_BATCH_ROWS: usize = 64 * 1024;

/// The most bytes (as counted by [`batch_bytes`]) a batch may hold. A single row that is larger travels alone.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The bytes of values and offsets that the rows of `batch` really use: slices count their own rows only, spare
/// capacity and validity bitmaps do not count. This is what `speed.byte` meters and what reports call bytes.
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| array_bytes(&column.to_data())).sum()
}

fn array_bytes(data: &ArrayData) -> usize {
    let rows = data.len();
    match data.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 | DataType::Binary => rows * 4 + span::<i32>(data),
        DataType::LargeUtf8 | DataType::LargeBinary => rows * 8 + span::<i64>(data),
        DataType::Utf8View | DataType::BinaryView => {
            // A view is four 32-bit words, the first of which is the value's length; up to 12 bytes are inline.
            let views = &data.buffers()[0].typed_data::<u128>()[data.offset()..data.offset() + rows];
            views.iter().map(|v| 16 + Some(*v as u32 as usize).filter(|n| *n > 12).unwrap_or(0)).sum()
        }
        DataType::List(_) | DataType::Map(_, _) => {
            let offsets = &data.buffers()[0].typed_data::<i32>()[data.offset()..=data.offset() + rows];
            let (start, end) = (offsets[0] as usize, offsets[rows] as usize);
            rows * 4 + array_bytes(&data.child_data()[0].slice(start, end - start))
        }
        DataType::Struct(_) => data.child_data().iter().map(array_bytes).sum(),
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => match other {
                DataType::FixedSizeBinary(width) => rows * *width as usize,
                // Rare nested types: an upper bound is good enough for a meter.
                _ => data.get_slice_memory_size().unwrap_or(0),
            },
        },
    }
}

fn span<O: arrow::datatypes::ArrowNativeType>(data: &ArrayData) -> usize {
    let rows = data.len();
    if rows == 0 {
        return 0;
    }
    let offsets = &data.buffers()[0].typed_data::<O>()[data.offset()..=data.offset() + rows];
    offsets[rows].as_usize() - offsets[0].as_usize()
}

/// Cuts `batch` into consecutive slices of at most `rows` rows; no value is copied.
pub fn slice_rows(batch: &RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> + '_ {
    let rows = rows.max(1);
    (0..batch.num_rows()).step_by(rows).map(move |start| batch.slice(start, rows.min(batch.num_rows() - start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn a_slice_counts_its_own_rows_only() {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as _),
            ("t", Arc::new(StringArray::from(vec!["a", "bb", "cccc"])) as _),
        ])
        .unwrap();
        assert_eq!(batch_bytes(&batch), 3 * 8 + 3 * 4 + 7);
        assert_eq!(batch_bytes(&batch.slice(1, 1)), 8 + 4 + 2);
        assert_eq!(slice_rows(&batch, 2).map(|b| b.num_rows()).collect::<Vec<_>>(), [2, 1]);
    }
}
