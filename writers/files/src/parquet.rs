//! The properties of a Parquet file.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use weir_files::column_encodings;

use crate::dictionary;

/// The properties of a file of `schema` that starts with the rows `first`, and which of its columns are to be written by
/// [`crate::dictionary`]: those that repeat and have a type that it knows.
pub(crate) fn properties(
    compression: Compression,
    schema: &SchemaRef,
    first: &[RecordBatch],
) -> (WriterProperties, Vec<bool>) {
    let (builder, mut repeating) = column_encodings(compression, schema, first, true);
    for (repeats, field) in repeating.iter_mut().zip(schema.fields()) {
        *repeats &= dictionary::takes(field.data_type());
    }
    (builder.build(), repeating)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use crate::groups::Groups;
    use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};
    use parquet::basic::Encoding;
    use parquet::file::metadata::ParquetMetaDataReader;

    pub(crate) fn rows(start: i64) -> RecordBatch {
        let numbers = start..start + 3000;
        let price = |n: i64| Some(i128::from(n * 7919 % 100_003)).filter(|_| n % 5 != 0);
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(numbers.clone())) as ArrayRef),
            (
                "price.net",
                Arc::new(
                    numbers.clone().map(price).collect::<Decimal128Array>().with_precision_and_scale(15, 2).unwrap(),
                ),
            ),
            ("kind", Arc::new(numbers.clone().map(|n| Some(["a", "b", ""][n as usize % 3])).collect::<StringArray>())),
            ("note", Arc::new(numbers.map(|n| (n % 2 == 0).then(|| format!("note {n}"))).collect::<StringArray>())),
        ])
        .unwrap()
    }

    pub(crate) fn write(path: &Path, batch: &RecordBatch) -> String {
        let compression = Compression::ZSTD(Default::default());
        let mut writer = Groups::new(batch.schema(), compression, Some(batch)).unwrap();
        writer.write(batch).unwrap();
        std::fs::write(path, writer.into_inner().unwrap()).unwrap();
        path.display().to_string()
    }

    #[test]
    fn only_columns_that_repeat_have_a_dictionary() {
        let folder = tempfile::tempdir().unwrap();
        let name = write(&folder.path().join("a"), &rows(0));
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&File::open(&name).unwrap()).unwrap();
        let columns = metadata.row_group(0).columns();
        let dictionaries: Vec<bool> = columns.iter().map(|c| c.dictionary_page_offset().is_some()).collect();
        assert_eq!(dictionaries, [false, false, true, false]);
        let delta = |i: usize| columns[i].encodings().any(|e| e == Encoding::DELTA_BINARY_PACKED);
        assert_eq!([delta(0), delta(1), delta(3)], [true, true, false]);
    }
}
