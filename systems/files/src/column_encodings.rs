//! How a Parquet file's columns are encoded.
//!
//! The Parquet writer is what costs most between a database and a file, and most of that is dictionaries of columns
//! whose values hardly repeat. So rows decide, column by column: a file's first, or, where there are very many columns, those of
//! a row group:
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

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Schema,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// How many values of a column are looked at, where there are not so many columns that it takes longer than to write them.
const SAMPLE: usize = 8192;
/// How many values of all columns together, but for [`FEWEST`] of each.
const SAMPLE_OF_ALL: usize = 64 * SAMPLE;
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
    first: &[RecordBatch],
    packed: bool,
) -> (WriterPropertiesBuilder, Vec<bool>) {
    let mut builder = WriterProperties::builder()
        .set_compression(compression)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(WRITE_BATCH);
    let mut repeating = Vec::with_capacity(schema.fields().len());
    if !first.is_empty() {
        let sample = (SAMPLE_OF_ALL / schema.fields().len().max(1)).clamp(FEWEST, SAMPLE);
        for (i, field) in schema.fields().iter().enumerate() {
            let columns: Vec<&ArrayRef> = first.iter().map(|batch| batch.column(i)).collect();
            let repeats;
            (builder, repeats) = of_column(builder, field, &columns, sample, packed);
            repeating.push(repeats);
        }
    }
    (builder, repeating)
}

fn of_column(
    builder: WriterPropertiesBuilder,
    field: &Field,
    columns: &[&ArrayRef],
    sample: usize,
    packed: bool,
) -> (WriterPropertiesBuilder, bool) {
    let repeats = match field.data_type() {
        DataType::Int32 => repeat_numbers::<Int32Type>(columns, sample),
        DataType::Int64 => repeat_numbers::<Int64Type>(columns, sample),
        DataType::UInt32 => repeat_numbers::<UInt32Type>(columns, sample),
        DataType::UInt64 => repeat_numbers::<UInt64Type>(columns, sample),
        DataType::Date32 => repeat_numbers::<Date32Type>(columns, sample),
        DataType::Time64(TimeUnit::Microsecond) => repeat_numbers::<Time64MicrosecondType>(columns, sample),
        DataType::Timestamp(TimeUnit::Microsecond, _) => repeat_numbers::<TimestampMicrosecondType>(columns, sample),
        DataType::Decimal128(_, _) => repeat_numbers::<Decimal128Type>(columns, sample),
        DataType::Float64 => {
            repeat(columns, sample, |column, row| column.as_primitive::<Float64Type>().value(row).to_bits())
        }
        DataType::Utf8 => repeat(columns, sample, |column, row| column.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => repeat(columns, sample, |column, row| column.as_binary::<i32>().value(row)),
        // Rare, nested or small: the library's own way.
        _ => return (builder, false),
    };
    // Of so few nothing follows.
    if repeats || columns.iter().map(|c| c.len() - c.null_count()).sum::<usize>() < FEWEST {
        return (builder, repeats);
    }
    let path = ColumnPath::from(field.name().as_str());
    let whole_numbers = match field.data_type() {
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

fn repeat_numbers<T: ArrowPrimitiveType>(columns: &[&ArrayRef], sample: usize) -> bool
where
    T::Native: Hash + Eq,
{
    repeat(columns, sample, |column, row| column.as_primitive::<T>().value(row))
}

/// Whether most values of a column, whose rows come in pieces, come more than once, by a sample from all over it.
fn repeat<'a, T: Hash + Eq>(
    columns: &[&'a ArrayRef],
    sample: usize,
    value: impl Fn(&'a dyn Array, usize) -> T,
) -> bool {
    let rows: usize = columns.iter().map(|column| column.len()).sum();
    let step = rows.div_ceil(sample).max(1);
    let most: usize = columns.iter().map(|column| column.len().div_ceil(step)).sum();
    let mut seen = HashSet::with_capacity_and_hasher(most / 2 + 1, RandomState::new());
    let mut again = 0;
    for column in columns {
        for row in (0..column.len()).step_by(step).filter(|row| column.is_valid(*row)) {
            again += usize::from(!seen.insert(value(*column, row)));
            // Whatever follows changes nothing any more.
            if seen.len() * 2 > most || again * 2 >= most {
                return again * 2 >= most;
            }
        }
    }
    seen.len() <= again
}
