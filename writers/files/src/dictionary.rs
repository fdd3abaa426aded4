//! A Parquet column whose values repeat: each is stored once, and rows are its number.
//!
//! The library's own writer of dictionaries compares and hashes every cell as bytes of any kind, and looks at every cell
//! once more for the statistics. Here cells become indexes by tables made for numbers and for short texts, and statistics
//! are those of the values that a page's indexes name, of which there are few.
//!
//! ```text
//!   chunk = dictionary page (PLAIN) · data pages: levels where the column has NULLs, bits per index, indexes
//! ```
//!
//! A dictionary that grows beyond [`MOST_BYTES`] takes no more: the pages after that are plain. Pages are those of version
//! 1 of the format, as the library writes them, with the same metadata and page index.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use bytes::Bytes;
use parquet::basic::{Encoding, PageType, Type};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::codec::Codec;
use crate::hybrid;
use crate::interned::{Numbers, Texts};

/// Rows of a page.
pub(crate) const PAGE_ROWS: usize = 65_536;
/// What a dictionary may hold.
const MOST_BYTES: usize = 1 << 20;
/// A plain page ends with the row that makes it larger.
const PLAIN_PAGE: usize = 1 << 20;
/// Longer values have no statistics: nobody would want them in a footer.
const LONGEST_STATISTIC: usize = 256;

/// The values so far.
enum Values {
    Numbers(Numbers),
    Texts(Texts),
}

/// The least and the greatest value of a page or a chunk.
type Range = Option<(Vec<u8>, Vec<u8>)>;

struct DonePage {
    page: CompressedPage,
    rows: usize,
    nulls: usize,
    range: Range,
}

/// One column of a row group that is being written.
pub(crate) struct Dictionary {
    descr: ColumnDescPtr,
    values: Values,
    /// The page's indexes; once the dictionary is full, its values.
    indexes: Vec<u32>,
    plain: Vec<u8>,
    plain_range: Range,
    is_full: bool,
    /// For each value the last page that it is in, from 1.
    seen: Vec<u32>,
    /// The page's rows in runs: whether they have a value, and how many.
    levels: Vec<(bool, usize)>,
    rows: usize,
    pages: Vec<DonePage>,
    /// Bytes of the finished pages.
    done: usize,
}

/// Whether columns of this type can be written so.
pub(crate) fn takes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Utf8 | DataType::Binary => true,
        DataType::Time64(TimeUnit::Microsecond) | DataType::Timestamp(TimeUnit::Microsecond, _) => true,
        // Wider ones are stored as bytes of a fixed number.
        DataType::Decimal128(precision, _) => *precision <= 18,
        _ => false,
    }
}

impl Dictionary {
    pub(crate) fn new(descr: ColumnDescPtr) -> Self {
        let values = match descr.physical_type() {
            Type::BYTE_ARRAY => Values::Texts(Texts::default()),
            _ => Values::Numbers(Numbers::default()),
        };
        Self {
            descr,
            values,
            indexes: Vec::new(),
            plain: Vec::new(),
            plain_range: None,
            is_full: false,
            seen: Vec::new(),
            levels: Vec::new(),
            rows: 0,
            pages: Vec::new(),
            done: 0,
        }
    }

    /// Bytes in memory.
    pub(crate) fn memory_size(&self) -> usize {
        let values = match &self.values {
            Values::Numbers(numbers) => numbers.size(),
            Values::Texts(texts) => texts.size(),
        };
        values + self.done + self.plain.len() + (self.indexes.capacity() + self.seen.capacity()) * 4
    }

    /// About how many bytes the column will have in the file.
    pub(crate) fn size(&self) -> usize {
        let values = match &self.values {
            Values::Numbers(numbers) => numbers.values.len() * 8,
            Values::Texts(texts) => texts.data.len() + texts.len() * 4,
        };
        values + self.done + self.plain.len() + self.indexes.len()
    }

    /// Appends a column of one of the types that [`takes`] names.
    ///
    /// # Errors
    /// The compression's.
    pub(crate) fn write(&mut self, array: &ArrayRef, codec: &mut Codec) -> Result<()> {
        let mut at = 0;
        while at < array.len() {
            let rows = (PAGE_ROWS - self.rows).min(array.len() - at);
            // A plain page may grow too large in the midst of a batch.
            let rows = if self.is_full { rows.min(1024) } else { rows };
            self.append(&array.slice(at, rows));
            at += rows;
            if self.rows >= PAGE_ROWS || self.plain.len() >= PLAIN_PAGE {
                self.end_page(codec)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, array: &ArrayRef) {
        self.note_levels(array.nulls(), array.len());
        macro_rules! numbers {
            ($type:ty) => {{
                let column = array.as_primitive::<$type>();
                let all = column.values().iter().map(|value| *value as i64);
                match column.nulls() {
                    None => self.numbers(all),
                    Some(nulls) => self.numbers(all.zip(nulls.iter()).filter(|(_, valid)| *valid).map(|(v, _)| v)),
                }
            }};
        }
        match array.data_type() {
            DataType::Int32 => numbers!(Int32Type),
            DataType::Int64 => numbers!(Int64Type),
            DataType::Date32 => numbers!(Date32Type),
            DataType::Time64(_) => numbers!(Time64MicrosecondType),
            DataType::Timestamp(..) => numbers!(TimestampMicrosecondType),
            DataType::Decimal128(..) => numbers!(Decimal128Type),
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                match texts.nulls() {
                    None => self.texts((0..texts.len()).map(|row| texts.value(row).as_bytes())),
                    Some(_) => self.texts(texts.iter().flatten().map(str::as_bytes)),
                }
            }
            DataType::Binary => self.texts(array.as_binary::<i32>().iter().flatten()),
            // See `takes`.
            _ => {}
        }
    }

    fn note_levels(&mut self, nulls: Option<&NullBuffer>, rows: usize) {
        self.rows += rows;
        let mut note = |valid: bool, rows: usize| match self.levels.last_mut() {
            Some((last, count)) if *last == valid => *count += rows,
            _ => self.levels.push((valid, rows)),
        };
        match nulls {
            Some(nulls) if nulls.null_count() > 0 => nulls.iter().for_each(|valid| note(valid, 1)),
            _ => note(true, rows),
        }
    }

    fn numbers(&mut self, values: impl Iterator<Item = i64>) {
        let Values::Numbers(numbers) = &mut self.values else { return };
        if !self.is_full {
            return self.indexes.extend(values.map(|value| numbers.index(value)));
        }
        let wide = self.descr.physical_type() == Type::INT64;
        let mut range: Option<(i64, i64)> = None;
        for value in values {
            range = Some(range.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
            self.plain.extend_from_slice(&value.to_le_bytes()[..if wide { 8 } else { 4 }]);
        }
        let bytes = |value: i64| value.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec();
        let range = range.map(|(min, max)| (bytes(min), bytes(max)));
        widen(&mut self.plain_range, range, self.descr.physical_type());
    }

    fn texts<'a>(&mut self, values: impl Iterator<Item = &'a [u8]>) {
        let Values::Texts(texts) = &mut self.values else { return };
        if !self.is_full {
            return self.indexes.extend(values.map(|value| texts.index(value)));
        }
        let mut range: Option<(&[u8], &[u8])> = None;
        for value in values {
            range = Some(range.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
            self.plain.extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.plain.extend_from_slice(value);
        }
        let range = range.map(|(min, max)| (min.to_vec(), max.to_vec()));
        widen(&mut self.plain_range, range, Type::BYTE_ARRAY);
    }

    /// The range of the values that the page's indexes name.
    fn range(&mut self) -> Range {
        let page = self.pages.len() as u32 + 1;
        let mut named = Vec::new();
        let count = match &self.values {
            Values::Numbers(numbers) => numbers.values.len(),
            Values::Texts(texts) => texts.len(),
        };
        self.seen.resize(count, 0);
        for index in &self.indexes {
            let seen = &mut self.seen[*index as usize];
            if *seen != page {
                *seen = page;
                named.push(*index);
            }
        }
        match &self.values {
            Values::Numbers(numbers) => {
                let wide = self.descr.physical_type() == Type::INT64;
                let bytes = |value: i64| value.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec();
                let values = || named.iter().map(|index| numbers.values[*index as usize]);
                Some((bytes(values().min()?), bytes(values().max()?)))
            }
            Values::Texts(texts) => {
                let values = || named.iter().map(|index| texts.get(*index));
                Some((values().min()?.to_vec(), values().max()?.to_vec()))
            }
        }
    }

    fn end_page(&mut self, codec: &mut Codec) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut buffer = Vec::new();
        let valid: usize = self.levels.iter().filter(|(valid, _)| *valid).map(|(_, rows)| rows).sum();
        if self.descr.max_def_level() > 0 {
            let levels: Vec<u32> = match self.levels.as_slice() {
                [(valid, rows)] => vec![u32::from(*valid); *rows],
                runs => runs.iter().flat_map(|(valid, n)| std::iter::repeat_n(u32::from(*valid), *n)).collect(),
            };
            buffer.extend_from_slice(&[0; 4]);
            hybrid::encode(&levels, 1, &mut buffer);
            let length = buffer.len() as u32 - 4;
            buffer[..4].copy_from_slice(&length.to_le_bytes());
        }
        let (encoding, range) = if self.is_full {
            buffer.append(&mut self.plain);
            (Encoding::PLAIN, self.plain_range.take())
        } else {
            let range = self.range();
            let width = hybrid::width(self.seen.len().saturating_sub(1) as u32);
            buffer.push(width);
            hybrid::encode(&self.indexes, width, &mut buffer);
            self.indexes.clear();
            (Encoding::RLE_DICTIONARY, range)
        };
        let length = buffer.len();
        let page = Page::DataPage {
            buf: codec.compress(buffer.into())?,
            num_values: self.rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, length);
        self.done += page.compressed_size();
        self.pages.push(DonePage { page, rows: self.rows, nulls: self.rows - valid, range });
        self.rows = 0;
        self.levels.clear();
        let bytes = match &self.values {
            Values::Numbers(numbers) => numbers.values.len() * 8,
            Values::Texts(texts) => texts.data.len() + texts.len() * 4,
        };
        self.is_full = bytes > MOST_BYTES;
        Ok(())
    }

    fn dictionary_page(&self, codec: &mut Codec) -> Result<CompressedPage> {
        let mut plain = Vec::new();
        let count = match &self.values {
            Values::Numbers(numbers) => {
                let width = if self.descr.physical_type() == Type::INT64 { 8 } else { 4 };
                numbers.values.iter().for_each(|value| plain.extend_from_slice(&value.to_le_bytes()[..width]));
                numbers.values.len()
            }
            Values::Texts(texts) => {
                for index in 0..texts.len() as u32 {
                    let text = texts.get(index);
                    plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    plain.extend_from_slice(text);
                }
                texts.len()
            }
        };
        let length = plain.len();
        let page = Page::DictionaryPage {
            buf: codec.compress(plain.into())?,
            num_values: count as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        Ok(CompressedPage::new(page, length))
    }

    /// Ends the column: its bytes, and what the file's footer says of them.
    ///
    /// # Errors
    /// The compression's.
    pub(crate) fn close(mut self, codec: &mut Codec) -> Result<(Bytes, ColumnCloseResult)> {
        self.end_page(codec)?;
        let mut out = TrackedWrite::new(Vec::with_capacity(self.done + (64 << 10)));
        let mut sums = Sums::default();
        let mut writer = SerializedPageWriter::new(&mut out);
        sums.add(writer.write_page(self.dictionary_page(codec)?)?);
        let physical = self.descr.physical_type();
        let (mut column_index, mut offset_index) = (ColumnIndexBuilder::new(physical), OffsetIndexBuilder::new());
        let (mut range, mut rows, mut nulls, mut plain) = (None, 0, 0, 0);
        let is_short =
            |range: &Range| range.as_ref().is_none_or(|(min, max)| min.len().max(max.len()) <= LONGEST_STATISTIC);
        for done in std::mem::take(&mut self.pages) {
            plain += i32::from(done.page.encoding() == Encoding::PLAIN);
            let spec = writer.write_page(done.page)?;
            offset_index.append_row_count(done.rows as i64);
            offset_index.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
            sums.add(spec);
            (rows, nulls) = (rows + done.rows, nulls + done.nulls);
            if is_short(&done.range) {
                let (min, max) = done.range.clone().unwrap_or_default();
                column_index.append(done.range.is_none(), min, max, done.nulls as i64);
            } else {
                column_index.to_invalid();
            }
            widen(&mut range, done.range, physical);
            sums.pages += 1;
        }
        let stats = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut pages = vec![
            stats(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1),
            stats(PageType::DATA_PAGE, Encoding::RLE_DICTIONARY, sums.pages - plain),
        ];
        if plain > 0 {
            pages.push(stats(PageType::DATA_PAGE, Encoding::PLAIN, plain));
        }
        let mut metadata = ColumnChunkMetaData::builder(self.descr.clone())
            .set_compression(codec.name())
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_page_encoding_stats(pages)
            .set_total_compressed_size(sums.compressed as i64)
            .set_total_uncompressed_size(sums.uncompressed as i64)
            .set_num_values(rows as i64)
            .set_data_page_offset(sums.data as i64)
            .set_dictionary_page_offset(Some(sums.dictionary as i64));
        if is_short(&range) {
            metadata = metadata.set_statistics(statistics(range, nulls as u64, physical));
        }
        let close = ColumnCloseResult {
            bytes_written: sums.compressed,
            rows_written: rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: if column_index.valid() { Some(column_index.build()?) } else { None },
            offset_index: Some(offset_index.build()),
        };
        Ok((Bytes::from(out.into_inner()?), close))
    }
}

/// What the pages of a chunk come to.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) compressed: u64,
    pub(crate) uncompressed: u64,
    /// Where the dictionary is.
    pub(crate) dictionary: u64,
    /// Where the first of the data pages is, which are so many; whoever adds them counts them.
    pub(crate) data: u64,
    pub(crate) pages: i32,
}

impl Sums {
    pub(crate) fn add(&mut self, spec: PageWriteSpec) {
        self.compressed += spec.compressed_size as u64;
        self.uncompressed += spec.uncompressed_size as u64;
        match spec.page_type {
            PageType::DICTIONARY_PAGE => self.dictionary = spec.offset,
            _ if self.pages == 0 => self.data = spec.offset,
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> i64 {
    let mut word = [if bytes.last().is_some_and(|b| *b & 0x80 != 0) { 0xff } else { 0 }; 8];
    word[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    i64::from_le_bytes(word)
}

/// Makes `range` hold `more` as well.
fn widen(range: &mut Range, more: Range, physical: Type) {
    let Some((min, max)) = more else { return };
    let Some((least, most)) = range else {
        *range = Some((min, max));
        return;
    };
    let less = |a: &[u8], b: &[u8]| match physical {
        Type::BYTE_ARRAY => a < b,
        _ => number(a) < number(b),
    };
    if less(&min, least) {
        *least = min;
    }
    if less(most, &max) {
        *most = max;
    }
}

fn statistics(range: Range, nulls: u64, physical: Type) -> Statistics {
    let (min, max) = range.unzip();
    match physical {
        Type::BYTE_ARRAY => {
            let (min, max) = (min.map(ByteArray::from), max.map(ByteArray::from));
            Statistics::ByteArray(ValueStatistics::new(min, max, None, Some(nulls), false))
        }
        Type::INT64 => {
            let (min, max) = (min.map(|b| number(&b)), max.map(|b| number(&b)));
            Statistics::Int64(ValueStatistics::new(min, max, None, Some(nulls), false))
        }
        _ => {
            let (min, max) = (min.map(|b| number(&b) as i32), max.map(|b| number(&b) as i32));
            Statistics::Int32(ValueStatistics::new(min, max, None, Some(nulls), false))
        }
    }
}
