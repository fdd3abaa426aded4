//! How a Parquet file's columns are encoded.
//!
//! The Parquet writer is what costs most between a database and a file, and most of that is dictionaries of columns
//! whose values hardly repeat. So a file's first rows decide, column by column:
//!
//! | the column's values | encoding | why |
//! |-|-|-|
//! | repeat | dictionary | small, and quick to compress |
//! | whole numbers, dates, times, decimals up to 18 digits that hardly repeat | delta, bit-packed | needs no more bits than the values differ by, so that little is left to compress |
//! | anything else | plain | |
//!
//! A wrong guess costs some bytes or cycles and nothing else: a dictionary that grows too large is given up for the rest
//! of its row group.

use std::collections::HashSet;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, Schema,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// How many values of a column are looked at.
const SAMPLE: usize = 8192;
/// With fewer values the library may try a dictionary.
const FEWEST: usize = 1000;
/// Rows a page: fewer pages than the library's 20,000 rows make, and still a megabyte of most columns.
const PAGE_ROWS: usize = 65_536;
/// What a writer of pages gathers between two looks at their size.
const WRITE_BATCH: usize = 8192;

/// The properties of a file of `schema` that starts with the rows `first`, and which of its columns repeat (none, without
/// such rows). `packed`: whether whole numbers may be delta-packed, which engines of before 2022 do not read.
pub fn column_encodings(
    compression: Compression,
    schema: &Schema,
    first: Option<&RecordBatch>,
    packed: bool,
) -> (WriterPropertiesBuilder, Vec<bool>) {
    let mut builder = WriterProperties::builder()
        .set_compression(compression)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(WRITE_BATCH);
    let mut repeating = Vec::with_capacity(schema.fields().len());
    if let Some(first) = first {
        for (field, column) in schema.fields().iter().zip(first.columns()) {
            let repeats;
            (builder, repeats) = of_column(builder, field.name(), column, packed);
            repeating.push(repeats);
        }
    }
    (builder, repeating)
}

fn of_column(
    builder: WriterPropertiesBuilder,
    name: &str,
    column: &ArrayRef,
    packed: bool,
) -> (WriterPropertiesBuilder, bool) {
    let repeats = match column.data_type() {
        DataType::Int32 => repeat_numbers::<Int32Type>(column),
        DataType::Int64 => repeat_numbers::<Int64Type>(column),
        DataType::UInt32 => repeat_numbers::<UInt32Type>(column),
        DataType::UInt64 => repeat_numbers::<UInt64Type>(column),
        DataType::Date32 => repeat_numbers::<Date32Type>(column),
        DataType::Time64(TimeUnit::Microsecond) => repeat_numbers::<Time64MicrosecondType>(column),
        DataType::Timestamp(TimeUnit::Microsecond, _) => repeat_numbers::<TimestampMicrosecondType>(column),
        DataType::Decimal128(_, _) => repeat_numbers::<Decimal128Type>(column),
        DataType::Float64 => {
            let numbers = column.as_primitive::<Float64Type>().values();
            repeat(column, |row| numbers[row].to_bits())
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            repeat(column, |row| texts.value(row).as_bytes())
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>();
            repeat(column, |row| bytes.value(row))
        }
        // Rare, nested or small: the library's own way.
        _ => return (builder, false),
    };
    // Of so few nothing follows.
    if repeats || column.len() - column.null_count() < FEWEST {
        return (builder, repeats);
    }
    let path = ColumnPath::from(name);
    let whole_numbers = match column.data_type() {
        DataType::Utf8 | DataType::Binary | DataType::Float64 => false,
        // Wider ones are stored as bytes.
        DataType::Decimal128(precision, _) => *precision <= 18,
        _ => true,
    };
    let builder = builder.set_column_dictionary_enabled(path.clone(), false);
    let builder = if whole_numbers && packed {
        builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
    } else {
        builder
    };
    (builder, false)
}

fn repeat_numbers<T: ArrowPrimitiveType>(column: &ArrayRef) -> bool
where
    T::Native: Hash + Eq,
{
    let values = column.as_primitive::<T>().values();
    repeat(column, |row| values[row])
}

/// Whether most values of a column come more than once, by a sample from all over it.
fn repeat<T: Hash + Eq>(column: &ArrayRef, value: impl Fn(usize) -> T) -> bool {
    let rows = column.len();
    let step = rows.div_ceil(SAMPLE).max(1);
    let mut seen = HashSet::with_capacity(SAMPLE / 2);
    let mut valid = 0;
    for row in (0..rows).step_by(step).filter(|row| column.is_valid(*row)) {
        valid += 1;
        seen.insert(value(row));
    }
    seen.len() * 2 <= valid
}
