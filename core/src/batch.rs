//! Bounds of a record batch, and how its bytes are counted.

use arrow::array::{Array, ArrayData, AsArray, RecordBatch, RunArray};
use arrow::datatypes::{ArrowNativeType, DataType, Int16Type, Int32Type, Int64Type, RunEndIndexType};

use crate::Result;

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
        // As the values that it stands for, for as those they travel.
        DataType::Dictionary(_, _) => {
            let array = arrow::array::make_array(data.clone());
            let dictionary = array.as_any_dictionary();
            // Where all is NULL there may be no value to point at.
            if dictionary.values().is_empty() {
                return 0;
            }
            let values = dictionary.values().to_data();
            let sizes: Vec<usize> = (0..values.len()).map(|i| array_bytes(&values.slice(i, 1))).collect();
            let keys = dictionary.normalized_keys();
            (0..rows).filter(|row| array.is_valid(*row)).map(|row| sizes.get(keys[row]).copied().unwrap_or(0)).sum()
        }
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => run_bytes::<Int16Type>(data),
            DataType::Int32 => run_bytes::<Int32Type>(data),
            _ => run_bytes::<Int64Type>(data),
        },
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

/// As the values that the runs repeat, for as those they travel.
fn run_bytes<R: RunEndIndexType>(data: &ArrayData) -> usize {
    if data.is_empty() {
        return 0;
    }
    let runs = RunArray::<R>::from(data.clone());
    let (ends, values) = (runs.run_ends(), runs.values().to_data());
    let (mut from, end) = (ends.offset(), ends.offset() + ends.len());
    let mut bytes = 0;
    for run in ends.get_start_physical_index()..ends.values().len() {
        let to = ends.values()[run].as_usize().min(end);
        bytes += (to - from) * array_bytes(&values.slice(run, 1));
        from = to;
        if to == end {
            break;
        }
    }
    bytes
}

fn span<O: ArrowNativeType>(data: &ArrayData) -> usize {
    let rows = data.len();
    if rows == 0 {
        return 0;
    }
    let offsets = &data.buffers()[0].typed_data::<O>()[data.offset()..=data.offset() + rows];
    offsets[rows].as_usize() - offsets[0].as_usize()
}

/// Halves a batch until each piece is within the bounds, in order; no value is copied. A row alone may be larger.
pub fn within_bounds(batch: RecordBatch) -> Vec<RecordBatch> {
    let mut pieces = Vec::new();
    let mut waiting = vec![batch];
    while let Some(batch) = waiting.pop() {
        let rows = batch.num_rows();
        if rows > 1 && (rows > MAX_BATCH_ROWS || batch_bytes(&batch) > MAX_BATCH_BYTES) {
            waiting.push(batch.slice(rows / 2, rows - rows / 2));
            waiting.push(batch.slice(0, rows / 2));
        } else if rows > 0 {
            pieces.push(batch);
        }
    }
    pieces
}

/// Puts small consecutive batches together, for each costs something at every station of its way. What is large enough
/// passes as it is.
#[derive(Default)]
pub struct Gather {
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Gather {
    const ROWS: usize = 4096;
    const BYTES: usize = 1 << 20;

    /// Takes a batch, and gives one that is to be sent before any other.
    ///
    /// # Errors
    /// The batches are of unlike schemas.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let (rows, bytes) = (batch.num_rows(), batch_bytes(&batch));
        let full = self.rows + rows > MAX_BATCH_ROWS || self.bytes + bytes > MAX_BATCH_BYTES;
        let before = if full { self.finish()? } else { None };
        self.waiting.push(batch);
        self.rows += rows;
        self.bytes += bytes;
        match before {
            None if self.rows >= Self::ROWS || self.bytes >= Self::BYTES => self.finish(),
            before => Ok(before),
        }
    }

    /// What is left.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        (self.rows, self.bytes) = (0, 0);
        Ok(match self.waiting.len() {
            0 | 1 => self.waiting.pop(),
            _ => {
                let waiting = std::mem::take(&mut self.waiting);
                Some(arrow::compute::concat_batches(waiting[0].schema_ref(), &waiting)?)
            }
        })
    }
}

/// Cuts `batch` into consecutive slices of at most `rows` rows; no value is copied.
pub fn slice_rows(batch: &RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> + '_ {
    let rows = rows.max(1);
    (0..batch.num_rows()).step_by(rows).map(move |start| batch.slice(start, rows.min(batch.num_rows() - start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int8Type;
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

    fn texts(rows: usize, width: usize) -> RecordBatch {
        let texts = StringArray::from_iter_values((0..rows).map(|_| "x".repeat(width)));
        RecordBatch::try_from_iter([("t", Arc::new(texts) as _)]).unwrap()
    }

    #[test]
    fn a_dictionary_counts_as_the_values_it_stands_for() {
        let words: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("bbb"), Some("a")].into_iter().collect();
        let batch = RecordBatch::try_from_iter([("d", Arc::new(words) as _)]).unwrap();
        assert_eq!(batch_bytes(&batch), 5 + 7 + 5);
        assert_eq!(batch_bytes(&batch.slice(2, 1)), 7);
    }

    #[test]
    fn runs_count_as_the_values_that_they_repeat() {
        let values = StringArray::from(vec![Some("a"), None, Some("ccc")]);
        let runs = RunArray::<Int32Type>::try_new(&vec![2, 3, 10].into(), &values).unwrap();
        let batch = RecordBatch::try_from_iter([("r", Arc::new(runs) as _)]).unwrap();
        assert_eq!(batch_bytes(&batch), 2 * 5 + 4 + 7 * 7);
        assert_eq!(batch_bytes(&batch.slice(1, 4)), 5 + 4 + 2 * 7);
        assert_eq!(batch_bytes(&batch.slice(4, 2)), 2 * 7);
        assert_eq!(batch_bytes(&batch.slice(4, 0)), 0);
    }

    #[test]
    fn pieces_are_within_bounds_and_in_order() {
        let wide = StringArray::from_iter_values((0..40).map(|n| format!("{n} ").repeat(330_000)));
        let batch = RecordBatch::try_from_iter([("t", Arc::new(wide) as _)]).unwrap();
        let pieces = within_bounds(batch.clone());
        assert!(pieces.len() >= 5 && pieces.iter().all(|p| batch_bytes(p) <= MAX_BATCH_BYTES));
        assert_eq!(arrow::compute::concat_batches(batch.schema_ref(), &pieces).unwrap(), batch);
        assert_eq!(within_bounds(texts(1, 9 << 20)).len(), 1);
    }

    #[test]
    fn small_batches_are_put_together_and_large_ones_pass() {
        let mut gather = Gather::default();
        let mut sent = Vec::new();
        for batch in [texts(10, 10), texts(5000, 10), texts(1, 900 << 10), texts(1, 15 << 19), texts(3, 1)] {
            sent.extend(gather.push(batch).unwrap());
        }
        sent.extend(gather.finish().unwrap());
        assert_eq!(sent.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [5010, 1, 4]);
        assert!(gather.finish().unwrap().is_none());
    }
}
