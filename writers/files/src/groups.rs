//! A Parquet file, row group by row group: columns whose values repeat by our own writer, all others by the library's.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::Compression;
use parquet::errors::Result;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnDescPtr;

use crate::codec::Codec;
use crate::dictionary::Dictionary;
use crate::gathered::{self, Gathered, MANY};
use crate::parquet::properties;
use crate::recompressed;

/// The most rows of a row group, but for those of its last batch.
const GROUP_ROWS: usize = 1 << 20;

/// Writes a file into memory, from where [`Groups::inner_mut`] takes what is complete.
pub(crate) struct Groups {
    file: SerializedFileWriter<Vec<u8>>,
    properties: WriterPropertiesPtr,
    schema: SchemaRef,
    /// Which columns we write ourselves.
    repeating: Vec<bool>,
    codec: Option<Codec>,
    compression: Compression,
    group: Option<Vec<Column>>,
    /// Where there are very many columns; then there is no `group`.
    gathered: Option<Gathered>,
    rows: usize,
    finished: usize,
}

/// A column of the schema in the row group that is being written.
enum Column {
    Repeating(Box<Dictionary>),
    /// One for each leaf.
    Other(Vec<ArrowColumnWriter>),
    /// The same, whose pages we compress, and the file that they are of.
    Uncompressed(Vec<ArrowColumnWriter>, Box<SerializedFileWriter<Vec<u8>>>),
}

impl Column {
    /// The column of a field, whose leaves in the file's schema come next.
    fn new(
        field: &FieldRef,
        repeating: bool,
        leaves: &mut impl Iterator<Item = ColumnDescPtr>,
        properties: &WriterPropertiesPtr,
        compressed_by_us: bool,
    ) -> Result<Self> {
        if let Some(leaf) = repeating.then(|| leaves.next()).flatten() {
            return Ok(Self::Repeating(Box::new(Dictionary::new(leaf))));
        }
        let (alone, writers) = gathered::alone(field, properties)?;
        leaves.take(writers.len()).for_each(drop);
        Ok(if compressed_by_us { Self::Uncompressed(writers, Box::new(alone)) } else { Self::Other(writers) })
    }

    fn write(&mut self, field: &FieldRef, array: &ArrayRef, codec: &mut Option<Codec>) -> Result<()> {
        match (self, codec) {
            (Self::Repeating(dictionary), Some(codec)) => dictionary.write(array, codec)?,
            (Self::Repeating(_), None) => {}
            (Self::Other(writers) | Self::Uncompressed(writers, _), _) => {
                for (writer, leaf) in writers.iter_mut().zip(compute_leaves(field, array)?) {
                    writer.write(&leaf)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the column, and puts it behind those that the row group has.
    fn append(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, codec: &mut Option<Codec>) -> Result<()> {
        match (self, codec) {
            (Self::Repeating(dictionary), Some(codec)) => {
                let (bytes, close) = dictionary.close(codec)?;
                group.append_column(&bytes, close)?;
            }
            (Self::Uncompressed(writers, alone), Some(codec)) => {
                let leaves = writers.into_iter().map(ArrowColumnWriter::close).collect::<Result<_>>()?;
                for (bytes, close) in recompressed::compress(leaves, *alone, codec)? {
                    group.append_column(&bytes, close)?;
                }
            }
            (Self::Other(writers), _) => {
                for writer in writers {
                    writer.close()?.append_to_row_group(group)?;
                }
            }
            (Self::Repeating(_) | Self::Uncompressed(..), None) => {}
        }
        Ok(())
    }
}

impl Groups {
    /// Begins a file whose first rows are these, if any come.
    ///
    /// # Errors
    /// Columns that Parquet does not have.
    pub(crate) fn new(schema: SchemaRef, compression: Compression, first: Option<&RecordBatch>) -> Result<Self> {
        // Very many columns are looked at when their row group is complete.
        let first = first.filter(|_| schema.fields().len() <= MANY).map_or(&[][..], std::slice::from_ref);
        let (properties, repeating) = properties(compression, &schema, first);
        Self::with(schema, properties, repeating, compression)
    }

    /// `repeating`: which columns to write by [`Dictionary`], where `compression` allows it.
    fn with(
        schema: SchemaRef,
        mut properties: WriterProperties,
        repeating: Vec<bool>,
        compression: Compression,
    ) -> Result<Self> {
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let parquet = ArrowSchemaConverter::new().convert(&schema)?;
        let properties = Arc::new(properties);
        let file = SerializedFileWriter::new(Vec::new(), parquet.root_schema_ptr(), properties.clone())?;
        let gathered = (schema.fields().len() > MANY).then(Gathered::default);
        Ok(Self {
            file,
            properties,
            schema,
            repeating,
            codec: Codec::new(compression)?,
            compression,
            group: None,
            gathered,
            rows: 0,
            finished: 0,
        })
    }

    fn begin(&self) -> Result<Vec<Column>> {
        let mut leaves = self.file.schema_descr().columns().iter().cloned();
        let fields = self.schema.fields().iter().enumerate();
        let columns = fields.map(|(i, field)| {
            let own = self.repeating.get(i) == Some(&true) && self.codec.is_some();
            Column::new(field, own, &mut leaves, &self.properties, false)
        });
        columns.collect()
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Values that Parquet does not have.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if let Some(gathered) = &mut self.gathered {
            gathered.add(batch);
            self.rows += batch.num_rows();
            return if self.rows >= GROUP_ROWS { self.flush() } else { Ok(()) };
        }
        let mut columns = match self.group.take() {
            Some(columns) => columns,
            None => self.begin()?,
        };
        for ((column, array), field) in columns.iter_mut().zip(batch.columns()).zip(self.schema.fields()) {
            column.write(field, array, &mut self.codec)?;
        }
        self.rows += batch.num_rows();
        self.group = Some(columns);
        if self.rows >= GROUP_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Bytes in memory that wait for their row group to be complete.
    pub(crate) fn memory_size(&self) -> usize {
        let size = |column: &Column| match column {
            Column::Repeating(dictionary) => dictionary.memory_size(),
            Column::Other(writers) | Column::Uncompressed(writers, _) => {
                writers.iter().map(ArrowColumnWriter::memory_size).sum()
            }
        };
        let waiting = self.gathered.as_ref().map_or(0, |gathered| gathered.bytes);
        waiting + self.group.iter().flatten().map(size).sum::<usize>()
    }

    /// About how many bytes the row group will have.
    pub(crate) fn in_progress_size(&self) -> usize {
        let size = |column: &Column| match column {
            Column::Repeating(dictionary) => dictionary.size(),
            Column::Other(writers) | Column::Uncompressed(writers, _) => {
                writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
            }
        };
        // Encoded and compressed it is less.
        let waiting = self.gathered.as_ref().map_or(0, |gathered| gathered.bytes / 2);
        waiting + self.group.iter().flatten().map(size).sum::<usize>()
    }

    /// Writes the rows that wait, a column at a time. They say themselves which columns repeat: of very many columns the
    /// file's first batch has too few rows to tell.
    fn flush_gathered(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let by_us = self.codec.is_some() && self.compression != Compression::UNCOMPRESSED;
        let compression = if by_us { Compression::UNCOMPRESSED } else { self.compression };
        let (properties, repeating) = properties(compression, &self.schema, batches);
        let properties = Arc::new(properties);
        let leaves = self.file.schema_descr().columns().to_vec();
        let mut leaves = leaves.into_iter();
        let mut group = self.file.next_row_group()?;
        for (i, field) in self.schema.fields().iter().enumerate() {
            let own = repeating.get(i) == Some(&true) && self.codec.is_some();
            let mut column = Column::new(field, own, &mut leaves, &properties, by_us)?;
            batches.iter().try_for_each(|batch| column.write(field, batch.column(i), &mut self.codec))?;
            column.append(&mut group, &mut self.codec)?;
        }
        group.close()?;
        self.finished += 1;
        self.rows = 0;
        Ok(())
    }

    /// Ends the row group, if there is one.
    ///
    /// # Errors
    /// As `write`.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if let Some(gathered) = self.gathered.as_mut().map(std::mem::take).filter(|g| !g.batches.is_empty()) {
            return self.flush_gathered(&gathered.batches);
        }
        let Some(columns) = self.group.take() else { return Ok(()) };
        let mut group = self.file.next_row_group()?;
        for column in columns {
            column.append(&mut group, &mut self.codec)?;
        }
        group.close()?;
        self.finished += 1;
        self.rows = 0;
        Ok(())
    }

    /// What is complete; whoever takes it keeps it.
    pub(crate) fn inner_mut(&mut self) -> &mut Vec<u8> {
        self.file.inner_mut()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As `write`.
    pub(crate) fn into_inner(mut self) -> Result<Vec<u8>> {
        self.flush()?;
        self.file.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, Int32Array, Int64Array, ListArray, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

    /// Columns that repeat, with and without NULLs, one that outgrows its dictionary, and some of the library's.
    fn batch(start: i64, rows: i64) -> RecordBatch {
        let all = || start..start + rows;
        let words = ["", "a", "ab", "abc", "MAIL      ", "TAKE BACK RETURN         ", "none at all, a long one", "é"];
        let column = |array: Arc<dyn Array>| array;
        let few = |n: i64| (n / 3) % 50 - 20;
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("id", column(Arc::new(Int64Array::from_iter_values(all()))), false),
            ("few", column(Arc::new(Int32Array::from_iter_values(all().map(|n| few(n) as i32)))), false),
            ("long", column(Arc::new(all().map(|n| (n % 7 > 0).then(|| few(n) << 40)).collect::<Int64Array>())), true),
            (
                "day",
                column(Arc::new(Date32Array::from_iter_values(all().map(|n| (n * 31 % 2500) as i32 - 900)))),
                false,
            ),
            (
                "at",
                column(Arc::new(TimestampMicrosecondArray::from_iter_values(all().map(few)).with_timezone("UTC"))),
                false,
            ),
            (
                "price",
                column(Arc::new(
                    all()
                        .map(|n| Some(few(n).into()))
                        .collect::<Decimal128Array>()
                        .with_precision_and_scale(15, 2)
                        .unwrap(),
                )),
                false,
            ),
            (
                "small",
                column(Arc::new(
                    all()
                        .map(|n| Some(few(n).into()))
                        .collect::<Decimal128Array>()
                        .with_precision_and_scale(4, 2)
                        .unwrap(),
                )),
                false,
            ),
            (
                "wide",
                column(Arc::new(
                    all()
                        .map(|n| Some(few(n).into()))
                        .collect::<Decimal128Array>()
                        .with_precision_and_scale(30, 2)
                        .unwrap(),
                )),
                false,
            ),
            (
                "word",
                column(Arc::new(StringArray::from_iter_values(all().map(|n| words[(n * n % 11 % 8) as usize])))),
                false,
            ),
            // No value at all on the second page.
            (
                "seldom",
                column(Arc::new(
                    all()
                        .map(|n| (n / 65_536 != 1 && n % 5 == 0).then(|| words[n as usize % 8]))
                        .collect::<StringArray>(),
                )),
                true,
            ),
            (
                "bytes",
                column(Arc::new(all().map(|n| (n % 3 > 0).then_some([n as u8 % 5, 0xff])).collect::<BinaryArray>())),
                true,
            ),
            ("nothing", column(Arc::new(StringArray::new_null(rows as usize))), true),
            // Repeats at first, and then never.
            (
                "growing",
                column(Arc::new(StringArray::from_iter_values(all().map(|n| match n {
                    0..10_000 => format!("{}", n % 100),
                    n => format!("a value of its own: {n:030}"),
                })))),
                false,
            ),
            (
                "list",
                column(Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                    all().map(|n| (n % 4 > 0).then(|| vec![Some(n as i32 % 3); n as usize % 3])),
                ))),
                true,
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    /// A file whose first batches, so many, say which columns repeat.
    fn file(batches: &[RecordBatch], first: usize, compression: Compression, ours: bool) -> bytes::Bytes {
        let (properties, mut repeating) = properties(compression, batches[0].schema_ref(), &batches[..first]);
        repeating.iter_mut().for_each(|repeats| *repeats &= ours);
        let mut groups = Groups::with(batches[0].schema(), properties, repeating, compression).unwrap();
        let mut out = Vec::new();
        for batch in batches {
            groups.write(batch).unwrap();
            out.append(groups.inner_mut());
        }
        out.append(&mut groups.into_inner().unwrap());
        out.into()
    }

    fn read(file: &bytes::Bytes) -> (Vec<RecordBatch>, Arc<ParquetMetaData>) {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
        let metadata = builder.metadata().clone();
        (builder.with_batch_size(50_000).build().unwrap().map(std::result::Result::unwrap).collect(), metadata)
    }

    #[test]
    fn our_columns_are_what_the_librarys_are() {
        let batches: Vec<RecordBatch> =
            (0..5i64).map(|i| batch(i * 50_000, if i == 4 { 13 } else { 50_000 })).collect();
        for compression in [Compression::ZSTD(Default::default()), Compression::SNAPPY, Compression::UNCOMPRESSED] {
            let (ours, library) = (file(&batches, 1, compression, true), file(&batches, 1, compression, false));
            let ((rows, ours), (_, library)) = (read(&ours), read(&library));
            let schema = batches[0].schema();
            assert_eq!(rows[0].schema(), schema);
            let one = |batches: &[RecordBatch]| arrow::compute::concat_batches(&schema, batches).unwrap();
            assert!(one(&rows) == one(&batches));
            let (group, other) = (ours.row_group(0), library.row_group(0));
            let (ours_pages, other_pages) = (ours.offset_index().unwrap(), library.offset_index().unwrap());
            for (i, (column, other)) in group.columns().iter().zip(other.columns()).enumerate() {
                let name = column.column_path().string();
                assert_eq!(
                    (column.num_values(), column.compression_codec()),
                    (other.num_values(), other.compression_codec())
                );
                let (mine, theirs) = (column.statistics().unwrap(), other.statistics().unwrap());
                assert_eq!(mine.null_count_opt(), theirs.null_count_opt(), "{name}");
                assert_eq!(mine.min_bytes_opt(), theirs.min_bytes_opt(), "{name}");
                assert_eq!(mine.max_bytes_opt(), theirs.max_bytes_opt(), "{name}");
                let first = |pages: &parquet::file::page_index::offset_index::OffsetIndexMetaData| {
                    pages.page_locations().iter().map(|p| p.first_row_index).collect::<Vec<_>>()
                };
                // The library fills a page to the next of its own steps.
                let starts = first(&ours_pages[0][i]);
                assert_eq!((starts[0], starts.is_sorted()), (0, true), "{name}");
                assert!(
                    ["growing", "nothing"].contains(&name.as_str()) || starts.len() == first(&other_pages[0][i]).len(),
                    "{name}"
                );
            }
            let index = &ours.column_index().unwrap()[0][9];
            assert!(index.is_null_page(1) && !index.is_null_page(0) && index.null_count(1) == Some(65_536));
        }
    }

    #[test]
    fn a_full_row_group_is_written_before_the_file_ends() {
        let rows = 300_000;
        let batches: Vec<RecordBatch> = (0..5).map(|i| batch(i * rows, rows)).collect();
        let (read, metadata) = read(&file(&batches, 1, Compression::SNAPPY, true));
        assert_eq!(metadata.row_groups().iter().map(|g| g.num_rows()).sum::<i64>(), 5 * rows);
        assert!(metadata.num_row_groups() > 1);
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 5 * rows as usize);
    }

    #[test]
    fn very_many_columns_are_what_few_are() {
        // The same columns many times over, and the first of them again by themselves.
        // More rows than a page has.
        let narrow = |start| batch(start, 33_000);
        let wide = |start| {
            let narrow = narrow(start);
            let schema = narrow.schema();
            let times = MANY / narrow.num_columns() + 1;
            let columns = (0..times).flat_map(|n| {
                let named = schema.fields().iter().map(move |f| (format!("{} {n}", f.name()), f.is_nullable()));
                named.zip(narrow.columns().to_vec()).map(|((name, nullable), column)| (name, column, nullable))
            });
            RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap()
        };
        assert!(wide(0).num_columns() > MANY);
        for compression in [Compression::ZSTD(Default::default()), Compression::UNCOMPRESSED] {
            let of = |make: &dyn Fn(i64) -> RecordBatch| {
                file(&[make(0), make(33_000), make(66_000).slice(5, 700)], 3, compression, true)
            };
            let ((rows, many), (expected, few)) = (read(&of(&wide)), read(&of(&narrow)));
            let one = |batches: &[RecordBatch]| arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap();
            let (rows, expected) = (one(&rows), one(&expected));
            for (i, column) in rows.columns().iter().enumerate() {
                assert_eq!(column, expected.column(i % expected.num_columns()));
            }
            let leaves = few.row_group(0).num_columns();
            for (i, column) in many.row_group(0).columns().iter().enumerate() {
                let other = few.row_group(0).column(i % leaves);
                assert_eq!(column.statistics(), other.statistics());
                assert_eq!(column.compressed_size(), other.compressed_size());
                assert_eq!(column.dictionary_page_offset().is_some(), other.dictionary_page_offset().is_some());
                let pages = |file: &ParquetMetaData, i: usize| {
                    let start = file.row_group(0).column(i).byte_range().0 as i64;
                    let places = file.offset_index().unwrap()[0][i].page_locations().iter();
                    places.map(|p| (p.offset - start, p.compressed_page_size, p.first_row_index)).collect::<Vec<_>>()
                };
                assert_eq!(pages(&many, i), pages(&few, i % leaves));
                assert!(pages(&many, i).len() > 1);
            }
            assert_eq!((many.num_row_groups(), many.row_group(0).num_rows()), (1, 66_700));
        }
    }
}
