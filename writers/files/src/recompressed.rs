//! Columns that the library encodes and we compress.
//!
//! The library makes a compressor and a decompressor for each column of a row group. Of very many columns, each of few
//! values, that costs a tenth of all CPU time: zstd asks the processor anew what it can each time, and under a hypervisor the
//! answer takes microseconds. So the library leaves the pages as they are, and one compressor does for all.

use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_writer::ArrowColumnChunk;
use parquet::column::page::{CompressedPage, Page, PageReader, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};

use crate::codec::Codec;
use crate::dictionary::Sums;

/// The leaves of one field as they are in the file: their bytes, and what its footer says of them.
///
/// `alone`: a file of this field alone, nowhere written to, by whose properties nothing is compressed.
///
/// # Errors
/// The compression's.
pub(crate) fn compress(
    leaves: Vec<ArrowColumnChunk>,
    mut alone: SerializedFileWriter<Vec<u8>>,
    codec: &mut Codec,
) -> Result<Vec<(Bytes, ColumnCloseResult)>> {
    let closes: Vec<ColumnCloseResult> = leaves.iter().map(|leaf| leaf.close().clone()).collect();
    let mut group = alone.next_row_group()?;
    leaves.into_iter().try_for_each(|leaf| leaf.append_to_row_group(&mut group))?;
    let group = group.close()?;
    alone.flush()?;
    let bytes = Arc::new(Bytes::from(std::mem::take(alone.inner_mut())));
    closes.into_iter().enumerate().map(|(leaf, close)| compress_leaf(&bytes, &group, leaf, close, codec)).collect()
}

fn compress_leaf(
    bytes: &Arc<Bytes>,
    group: &RowGroupMetaData,
    leaf: usize,
    mut close: ColumnCloseResult,
    codec: &mut Codec,
) -> Result<(Bytes, ColumnCloseResult)> {
    let plain = group.column(leaf);
    let mut pages = SerializedPageReader::new(bytes.clone(), plain, group.num_rows() as usize, None)?;
    let mut out = TrackedWrite::new(Vec::with_capacity(plain.compressed_size() as usize));
    let mut writer = SerializedPageWriter::new(&mut out);
    let (mut sums, mut data_pages) = (Sums::default(), 0);
    while let Some(page) = pages.get_next_page()? {
        let is_data = page.is_data_page();
        let spec = writer.write_page(compress_page(page, codec)?)?;
        let places = close.offset_index.as_mut().map(|index| &mut index.page_locations);
        if let Some(place) = places.filter(|_| is_data).and_then(|places| places.get_mut(data_pages)) {
            (place.offset, place.compressed_page_size) = (spec.offset as i64, spec.compressed_size as i32);
        }
        data_pages += usize::from(is_data);
        sums.add(spec);
        sums.pages += i32::from(is_data);
    }
    let dictionary = plain.dictionary_page_offset().map(|_| sums.dictionary as i64);
    close.bytes_written = sums.compressed;
    close.metadata = close
        .metadata
        .into_builder()
        .set_compression(codec.name())
        .set_total_compressed_size(sums.compressed as i64)
        .set_total_uncompressed_size(sums.uncompressed as i64)
        .set_data_page_offset(sums.data as i64)
        .set_dictionary_page_offset(dictionary)
        .build()?;
    Ok((Bytes::from(out.into_inner()?), close))
}

fn compress_page(mut page: Page, codec: &mut Codec) -> Result<CompressedPage> {
    let length = page.buffer().len();
    match &mut page {
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = codec.compress(std::mem::take(buf))?,
        // The library writes none of these by our properties, and their levels would stay as they are.
        Page::DataPageV2 { .. } => {}
    }
    Ok(CompressedPage::new(page, length))
}
