//! How much of a Parquet file may be in memory at once.
//!
//! A file says little of how wide its rows are: pages are encoded, and a text that a dictionary holds once may stand in
//! every row. So four things bound what is decoded, whatever the file:
//!
//! | what | how |
//! |-|-|
//! | values that repeat | texts and bytes are decoded as views: a row costs 16 bytes, its value stays where the page or the dictionary has it |
//! | wide rows | as many rows are decoded at once as fill a batch, by the widest page of the row group where the file has an index of its pages, else by the row group's average |
//! | many columns | they are read a few at a time, see `column_windows.rs` |
//! | large row groups of remote files | they are fetched in portions, page by page, where the file has an index of its pages, else into a temporary file |

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use weir_core::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};

/// The bytes to decode at once. Half a batch, for estimates are estimates.
const AT_ONCE: f64 = MAX_BATCH_BYTES as f64 / 2.0;

/// The bytes of a row group to fetch at once.
const PORTION: u64 = 16 << 20;

/// The schema with views for texts and bytes, at any depth but within maps.
pub(crate) fn as_views(schema: &Schema) -> Schema {
    Schema::new_with_metadata(schema.fields().iter().map(view).collect::<Vec<_>>(), schema.metadata().clone())
}

fn view(field: &FieldRef) -> FieldRef {
    let of = |inner: &FieldRef| view(inner);
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, value) => match **value {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            _ => return field.clone(),
        },
        DataType::List(inner) => DataType::List(of(inner)),
        DataType::LargeList(inner) => DataType::LargeList(of(inner)),
        DataType::FixedSizeList(inner, size) => DataType::FixedSizeList(of(inner), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(view).collect()),
        _ => return field.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
}

/// How many rows of the row group `group` to decode at once. `views` says that texts are decoded as views.
pub(crate) fn rows_at_once(metadata: &ParquetMetaData, group: usize, columns: &ProjectionMask, views: bool) -> usize {
    let rows = metadata.row_group(group).num_rows().max(1) as f64;
    let chosen = metadata.row_group(group).columns().iter().enumerate().filter(|(i, _)| columns.leaf_included(*i));
    let width: f64 = chosen.map(|(i, column)| width(column, rows, pages(metadata, group, i), views)).sum();
    ((AT_ONCE / width.max(1.0)) as usize).clamp(1, MAX_BATCH_ROWS / 2)
}

/// The portions in which to fetch the row group `group`; `None` for the whole of it.
pub(crate) fn portions(
    metadata: &ParquetMetaData,
    group: usize,
    columns: &ProjectionMask,
) -> Vec<Option<Range<usize>>> {
    let of = metadata.row_group(group);
    let chosen = || of.columns().iter().enumerate().filter(|(i, _)| columns.leaf_included(*i));
    let bytes = chosen().fold(0u64, |sum, (_, column)| sum.saturating_add(column.compressed_size().max(0) as u64));
    let rows = of.num_rows().max(0) as u64;
    if bytes <= PORTION || rows <= 1 || chosen().any(|(i, _)| pages(metadata, group, i).is_none()) {
        return vec![None];
    }
    // By the column whose pages are most unlike each other, so that no portion holds more than its share of it.
    let widest =
        chosen().max_by_key(|(_, column)| column.compressed_size()).and_then(|(i, _)| pages(metadata, group, i));
    let (share, mut next, mut portions) = (bytes.div_ceil(PORTION), 0, Vec::new());
    let own: u64 =
        widest.map_or(0, |index| index.page_locations().iter().map(|p| p.compressed_page_size.max(0) as u64).sum());
    let most = (own / share).max(1);
    let mut gathered = 0;
    for page in widest.into_iter().flat_map(OffsetIndexMetaData::page_locations) {
        let first = page.first_row_index.max(0) as u64;
        if gathered >= most && first > next {
            portions.push(Some(next as usize..first as usize));
            (next, gathered) = (first, 0);
        }
        gathered += page.compressed_page_size.max(0) as u64;
    }
    portions.push(Some(next as usize..rows as usize));
    portions
}

/// Where the chosen columns of the row group `group` lie, if they are too large to be fetched at once and the file has
/// no index of its pages by which to cut them. What lies nowhere is left out.
pub(crate) fn uncut(metadata: &ParquetMetaData, group: usize, columns: &ProjectionMask) -> Option<Vec<Range<u64>>> {
    let of = metadata.row_group(group);
    let chosen = || of.columns().iter().enumerate().filter(|(i, _)| columns.leaf_included(*i));
    let bytes = chosen().fold(0u64, |sum, (_, column)| sum.saturating_add(column.compressed_size().max(0) as u64));
    if bytes <= PORTION || chosen().all(|(i, _)| pages(metadata, group, i).is_some()) {
        return None;
    }
    let range = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let start = u64::try_from(start).ok()?;
        Some(start..start.checked_add(u64::try_from(column.compressed_size()).ok()?)?)
    };
    Some(chosen().filter_map(|(_, column)| range(column)).collect())
}

/// Chooses some rows of a row group.
pub(crate) fn only(rows: Range<usize>) -> RowSelection {
    vec![RowSelector::skip(rows.start), RowSelector::select(rows.end - rows.start)].into()
}

/// Where the pages of a column are, if the file says so.
pub(crate) fn pages(metadata: &ParquetMetaData, group: usize, column: usize) -> Option<&OffsetIndexMetaData> {
    let index = metadata.offset_index()?.get(group)?.get(column)?;
    (!index.page_locations().is_empty()).then_some(index)
}

/// About the bytes that a row of the column takes when it is decoded, in the widest page.
fn width(column: &ColumnChunkMetaData, rows: f64, pages: Option<&OffsetIndexMetaData>, views: bool) -> f64 {
    let per_value = match column.column_type() {
        Type::BOOLEAN => 1.0,
        Type::INT32 | Type::FLOAT => 4.0,
        Type::INT64 | Type::DOUBLE => 8.0,
        Type::INT96 => 12.0,
        Type::BYTE_ARRAY => 16.0,
        Type::FIXED_LEN_BYTE_ARRAY => f64::from(column.column_descr().type_length().max(1)),
    };
    let own = per_value * (column.num_values().max(0) as f64 / rows).max(1.0);
    if column.column_type() != Type::BYTE_ARRAY {
        return own;
    }
    let encoded = column.uncompressed_size().max(0) as f64;
    let packed = encoded / (column.compressed_size().max(1) as f64);
    // What a dictionary holds once is once in memory, as views; texts that begin alike are decoded whole.
    let dictionary = column.encodings().any(|e| matches!(e, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY));
    let decoded = |bytes: Option<i64>| if views && dictionary { 0.0 } else { bytes.unwrap_or(0).max(0) as f64 };
    let average = encoded.max(decoded(column.unencoded_byte_array_data_bytes())) / rows;
    let of_pages = pages.map_or(0.0, |index| {
        let locations = index.page_locations();
        let ends = locations.iter().skip(1).map(|page| page.first_row_index as f64).chain([rows]);
        let widths = locations.iter().zip(ends).enumerate().map(|(i, (page, end))| {
            let unencoded = index.unencoded_byte_array_data_bytes().and_then(|all| all.get(i).copied());
            let bytes = (f64::from(page.compressed_page_size.max(0)) * packed).max(decoded(unencoded));
            bytes / (end - page.first_row_index as f64).max(1.0)
        });
        widths.fold(0.0, f64::max)
    });
    own + average.max(of_pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::properties::WriterProperties;

    /// A thousand narrow rows, then `wide` rows of 100 KB that are all different.
    fn file(wide: usize, dictionary: bool) -> (ParquetMetaData, ProjectionMask) {
        let text = |n: usize| {
            let word = format!("{n:>10} ");
            if n < 1000 { word } else { word.repeat(9_100) }
        };
        let all: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000 + wide).map(text)));
        let id: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000 + wide as i64));
        let batch = RecordBatch::try_from_iter([("id", id), ("text", all)]).unwrap();
        let properties = WriterProperties::builder().set_dictionary_enabled(dictionary).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader.parse_and_finish(&Bytes::from(bytes)).unwrap();
        let mask = ProjectionMask::all();
        (metadata, mask)
    }

    #[test]
    fn the_widest_page_decides_how_many_rows_are_decoded() {
        let (metadata, mask) = file(400, false);
        assert_eq!(metadata.num_row_groups(), 1);
        let rows = rows_at_once(&metadata, 0, &mask, true);
        assert!((10..=45).contains(&rows), "{rows}");
        let id = ProjectionMask::leaves(metadata.file_metadata().schema_descr(), [0]);
        assert_eq!(rows_at_once(&metadata, 0, &id, true), MAX_BATCH_ROWS / 2);
    }

    #[test]
    fn a_large_row_group_is_fetched_in_portions_that_cover_it() {
        let (metadata, mask) = file(400, false);
        let portions: Vec<_> = portions(&metadata, 0, &mask).into_iter().flatten().collect();
        assert!((2..=5).contains(&portions.len()), "{portions:?}");
        assert_eq!((portions[0].start, portions[portions.len() - 1].end), (0, 1400));
        assert!(portions.windows(2).all(|two| two[0].end == two[1].start && !two[0].is_empty()), "{portions:?}");
        let (metadata, mask) = file(1, false);
        assert_eq!(super::portions(&metadata, 0, &mask), [None]);
    }

    #[test]
    fn texts_become_views_at_any_depth() {
        let text = Arc::new(Field::new("item", DataType::Utf8, true));
        let schema = Schema::new(vec![
            Field::new("a", DataType::LargeUtf8, false),
            Field::new("b", DataType::List(text.clone()), true),
            Field::new("c", DataType::Struct(vec![text].into()), true),
            Field::new("d", DataType::Int64, true),
        ]);
        let views = as_views(&schema);
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let types: Vec<_> = views.fields().iter().map(|f| f.data_type().clone()).collect();
        let expected =
            [DataType::Utf8View, DataType::List(item.clone()), DataType::Struct(vec![item].into()), DataType::Int64];
        assert_eq!(types, expected);
    }
}
