//! Windows against arrow's own reader, and against files that lie.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, concat, concat_batches};
use arrow::datatypes::*;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};
use weir_core::batch_bytes;

use super::blocks::Extent;
use super::*;
use crate::testing::Watched;
use crate::{ByteStream, RangeSource, Store, spool};

const PACKINGS: [Option<CompressionType>; 3] = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn nulls(&mut self, rows: usize) -> NullBuffer {
        (0..rows).map(|_| self.roll(5) > 0).collect()
    }

    fn numbers(&mut self, rows: usize) -> ArrayRef {
        Arc::new(Int64Array::from_iter((0..rows).map(|_| (self.roll(6) > 0).then(|| self.roll(80) as i64))))
    }

    fn texts(&mut self, rows: usize) -> ArrayRef {
        let mut text = || (self.roll(6) > 0).then(|| "täxt, ".repeat(self.roll(7) as usize));
        Arc::new(StringArray::from_iter((0..rows).map(|_| text())))
    }

    fn offsets(&mut self, rows: usize) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths((0..rows).map(|_| self.roll(4) as usize))
    }

    fn list(&mut self, rows: usize, child: impl Fn(&mut Self, usize) -> ArrayRef) -> ArrayRef {
        let offsets = self.offsets(rows);
        let items = child(self, *offsets.last().unwrap() as usize);
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        Arc::new(ListArray::new(field, offsets, items, Some(self.nulls(rows))))
    }

    fn map(&mut self, rows: usize) -> ArrayRef {
        let offsets = self.offsets(rows);
        let count = *offsets.last().unwrap() as usize;
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(|n| format!("key {n}"))));
        let fields = vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int64, true)];
        let entries = StructArray::new(fields.into(), vec![keys, self.numbers(count)], None);
        let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        Arc::new(MapArray::new(field, offsets, entries, Some(self.nulls(rows)), false))
    }

    fn list_view(&mut self, rows: usize) -> ArrayRef {
        let items = self.texts(rows + 4);
        let field = Arc::new(Field::new("item", DataType::Utf8, true));
        let offsets: ScalarBuffer<i32> = (0..rows).map(|_| self.roll(rows as u64) as i32).collect();
        let sizes: ScalarBuffer<i32> = (0..rows).map(|_| self.roll(4) as i32).collect();
        Arc::new(ListViewArray::new(field, offsets, sizes, items, Some(self.nulls(rows))))
    }

    fn runs(&mut self, rows: usize) -> ArrayRef {
        let ends = (1..rows).filter(|_| self.roll(4) == 0).map(|end| end as i32).chain([rows as i32]);
        let ends = Int32Array::from_iter_values(ends.collect::<Vec<_>>());
        let values = self.texts(ends.len());
        Arc::new(RunArray::try_new(&ends, &values).unwrap())
    }

    fn union(&mut self, rows: usize, dense: bool) -> ArrayRef {
        let fields = [(3, Field::new("a", DataType::Int64, true)), (1, Field::new("b", DataType::Utf8, true))];
        let fields: UnionFields = fields.into_iter().map(|(id, field)| (id, Arc::new(field))).collect();
        let ids: ScalarBuffer<i8> = (0..rows).map(|_| if self.roll(3) > 0 { 3 } else { 1 }).collect();
        let offsets = dense.then(|| {
            let mut next = HashMap::<i8, i32>::new();
            let next = |id: &i8| {
                let next = next.entry(*id).or_default();
                *next += 1;
                *next - 1
            };
            ids.iter().map(next).collect::<ScalarBuffer<i32>>()
        });
        let children = vec![self.numbers(rows), self.texts(rows)];
        Arc::new(UnionArray::try_new(fields, ids, offsets, children).unwrap())
    }

    fn structs(&mut self, rows: usize, columns: Vec<ArrayRef>) -> ArrayRef {
        let field = |(n, column): (usize, &ArrayRef)| Field::new(n.to_string(), column.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        Arc::new(StructArray::new(fields.into(), columns, Some(self.nulls(rows))))
    }
}

/// A batch with a column of each type.
fn sample(rows: usize, seed: u64) -> RecordBatch {
    use DataType as T;
    let mut dice = Dice(seed);
    let mut columns = Vec::new();
    let numbers = [
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt64,
        T::Float32,
        T::Float64,
        T::Boolean,
        T::Date32,
        T::Date64,
        T::Time32(TimeUnit::Second),
        T::Time64(TimeUnit::Nanosecond),
        T::Duration(TimeUnit::Second),
        T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Decimal128(20, 3),
        T::Decimal256(50, 1),
    ];
    for to in numbers {
        // Times are made of numbers of their own width only.
        let from = if matches!(to, T::Time32(_)) { T::Int32 } else { T::Int64 };
        columns.push(cast(&cast(&dice.numbers(rows), &from).unwrap(), &to).unwrap());
    }
    let dictionary = |index: T, value: T| T::Dictionary(Box::new(index), Box::new(value));
    let texts = [
        T::Utf8,
        T::LargeUtf8,
        T::Utf8View,
        T::Binary,
        T::LargeBinary,
        T::BinaryView,
        dictionary(T::Int8, T::Utf8),
        dictionary(T::UInt32, T::LargeUtf8),
    ];
    columns.extend(texts.map(|to| cast(&dice.texts(rows), &to).unwrap()));
    columns.push(Arc::new(NullArray::new(rows)));
    let pair = IntervalMonthDayNano::new(1, 2, 3);
    columns.push(Arc::new(IntervalMonthDayNanoArray::from_iter((0..rows).map(|n| (n % 3 > 0).then_some(pair)))));
    let fixed = (0..rows).map(|n| (n % 4 > 0).then_some([n as u8; 5]));
    columns.push(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 5).unwrap()));
    let items = Arc::new(Field::new("item", T::Int64, true));
    let nulls = Some(dice.nulls(rows));
    columns.push(Arc::new(FixedSizeListArray::new(items, 3, dice.numbers(rows * 3), nulls)));
    columns.push(dice.list(rows, Dice::numbers));
    let list = dice.list(rows, |dice, rows| dice.list(rows, Dice::texts));
    columns.push(cast(&list, &T::LargeList(Arc::new(Field::new("item", inner(&list), true)))).unwrap());
    columns.push(dice.list(rows, |dice, rows| cast(&dice.texts(rows), &T::Utf8View).unwrap()));
    columns.push(dice.list(rows, |dice, rows| cast(&dice.texts(rows), &dictionary(T::Int16, T::Utf8)).unwrap()));
    columns.push(dice.map(rows));
    columns.push(dice.list_view(rows));
    let (a, b, c) = (dice.texts(rows), dice.map(rows), dice.list(rows, Dice::texts));
    let inner = dice.structs(rows, vec![a, b]);
    columns.push(dice.structs(rows, vec![inner, c]));
    columns.push(dice.list(rows, |dice, rows| {
        let (a, b) = (dice.numbers(rows), dice.texts(rows));
        dice.structs(rows, vec![a, b])
    }));
    columns.extend([dice.union(rows, false), dice.union(rows, true)]);
    columns.push(dice.list(rows, |dice, rows| dice.union(rows, true)));
    named(columns)
}

fn named(columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().enumerate().map(|(n, c)| (n.to_string(), c, true)))
        .unwrap()
}

/// A batch with columns of runs, of which arrow's writer writes no empty slices.
fn runs(rows: usize) -> RecordBatch {
    let mut dice = Dice(9);
    let (a, b, c) = (dice.runs(rows), dice.runs(rows), dice.texts(rows));
    let wide = cast(&dice.texts(rows), &DataType::Utf8View).unwrap();
    let ends = Int16Array::from_iter_values(1..=rows as i16);
    let short: ArrayRef = Arc::new(RunArray::try_new(&ends, &wide).unwrap());
    named(vec![a, short, dice.structs(rows, vec![b, c])])
}

fn inner(list: &ArrayRef) -> DataType {
    list.as_list::<i32>().values().data_type().clone()
}

fn write(batches: &[RecordBatch], packing: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(packing).unwrap();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), batches[0].schema_ref(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn expected(file: &[u8], columns: &[usize]) -> RecordBatch {
    let batches: Vec<_> = FileReader::try_new(Cursor::new(file), None).unwrap().map(|b| b.unwrap()).collect();
    concat_batches(batches[0].schema_ref(), &batches).unwrap().project(columns).unwrap()
}

async fn read(source: RangeSource, bounds: Bounds, columns: &[usize]) -> Result<Vec<RecordBatch>> {
    let mut blocks = Blocks::open(source, "a file", bounds).await?;
    blocks.choose(columns);
    let mut batches = Vec::new();
    while let Some(batch) = blocks.next().await? {
        batches.push(batch);
    }
    Ok(batches)
}

async fn local(file: &[u8]) -> (tempfile::NamedTempFile, RangeSource) {
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), file).unwrap();
    let source = RangeSource::open(&Store::Local, named.path().to_str().unwrap(), &Default::default()).await.unwrap();
    (named, source)
}

/// Reads everything and each column, from here and from a store, and compares.
async fn compare(batches: &[RecordBatch], packing: Option<CompressionType>) {
    let file = write(batches, packing);
    let store = Watched::default();
    let count = batches[0].num_columns();
    let mut choices: Vec<Vec<usize>> = (0..count).map(|column| vec![column]).collect();
    choices.push((0..count).collect());
    choices.push((0..count).step_by(3).collect());
    for columns in choices {
        let (_kept, here) = local(&file).await;
        let bounds = Bounds { whole: 0, window: if columns.len() > 1 { 2000 } else { 40 } };
        for source in [here, store.put("a", file.clone()).await] {
            let expected = expected(&file, &columns);
            let read = read(source, bounds, &columns).await.unwrap();
            let types: Vec<_> = expected.schema_ref().fields().iter().map(|f| f.data_type().clone()).collect();
            assert!(read.len() > 5 || matches!(types[..], [DataType::Null | DataType::Boolean]), "{types:?}");
            assert_eq!(concat_batches(expected.schema_ref(), &read).unwrap(), expected, "{types:?} {packing:?}");
        }
    }
}

#[tokio::test]
async fn windows_hold_what_the_block_holds() {
    for (n, packing) in PACKINGS.into_iter().enumerate() {
        // Of one sample, for a file has one dictionary for each column. Every slice of bits and offsets begins elsewhere.
        let all = sample(200, n as u64 + 1);
        let (large, sliced) = (all.slice(0, 130), all.slice(113, 70));
        let batches = [large.clone(), large.slice(0, 0), sliced, large.slice(7, 1)];
        compare(&batches, packing).await;
        let runs = runs(200);
        compare(&[runs.clone(), runs.slice(113, 70)], packing).await;
    }
}

#[tokio::test]
async fn streams_are_read_as_files_are() {
    for packing in PACKINGS {
        let batches = [sample(230, 7), sample(100, 8)];
        let options = IpcWriteOptions::default().try_with_compression(packing).unwrap();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), batches[0].schema_ref(), options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        let file = writer.into_inner().unwrap();
        let all: Vec<usize> = (0..batches[0].num_columns()).collect();
        for (columns, bounds) in [
            (&all[..], Bounds { whole: 0, window: 700 }),
            (&all[3..20], Bounds { whole: 0, window: 700 }),
            (&all, Bounds::default()),
        ] {
            let store = Watched::default();
            store.put("a", file.clone()).await;
            let cancel = Default::default();
            let bytes = ByteStream::open(&store.store(), "a", &cancel).await.unwrap();
            let mut messages = Messages::open(bytes, "a", &cancel, bounds).await.unwrap();
            messages.choose(columns);
            let mut read = Vec::new();
            while let Some(batch) = messages.next().await.unwrap() {
                read.push(batch);
            }
            assert_eq!(read.len() > 2, bounds.whole == 0);
            let expected = concat_batches(batches[0].schema_ref(), &batches).unwrap().project(columns).unwrap();
            assert_eq!(concat_batches(expected.schema_ref(), &read).unwrap(), expected);
        }
        for end in (0..file.len() - 8).step_by(file.len() / 50) {
            let store = Watched::default();
            store.put("a", file[..end].to_vec()).await;
            let cancel = Default::default();
            let bytes = ByteStream::open(&store.store(), "a", &cancel).await.unwrap();
            let Ok(mut messages) = Messages::open(bytes, "a", &cancel, Bounds { whole: 0, window: 700 }).await else {
                continue;
            };
            let mut rows = 0;
            while let Ok(Some(batch)) = messages.next().await {
                rows += batch.num_rows();
            }
            assert!(rows == 0 || rows == 230, "{rows}");
        }
    }
}

#[tokio::test]
async fn a_dictionary_may_grow_beyond_what_memory_holds() {
    let words: Vec<String> = (0..300).map(|n| format!("word {n}")).collect();
    let batch = |count: usize| {
        let keys = Int32Array::from_iter((0..200).map(|n| (n % 7 > 0).then_some((n * 13 % count) as i32)));
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(&words[..count]));
        named(vec![Arc::new(DictionaryArray::new(keys, values))])
    };
    let batches = [100, 200, 300].map(batch);
    let text = |batch: &RecordBatch| cast(batch.column(0), &DataType::Utf8).unwrap();
    for packing in PACKINGS {
        let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let options = options.try_with_compression(packing).unwrap();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), batches[0].schema_ref(), options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        let file = writer.into_inner().unwrap();
        // All of it is away, all but the first part, nothing.
        for whole in [0, 1500, 1 << 20] {
            let store = Watched::default();
            store.put("a", file.clone()).await;
            let cancel = Default::default();
            let bytes = ByteStream::open(&store.store(), "a", &cancel).await.unwrap();
            let mut messages = Messages::open(bytes, "a", &cancel, Bounds { whole, window: 2000 }).await.unwrap();
            let mut read = Vec::new();
            while let Some(batch) = messages.next().await.unwrap() {
                read.push(text(&batch));
            }
            assert_eq!(messages.away(), whole < 1 << 20);
            let read: Vec<_> = read.iter().map(AsRef::as_ref).collect();
            let expected = batches.each_ref().map(text);
            let expected = concat(&expected.each_ref().map(AsRef::as_ref)).unwrap();
            assert_eq!(&concat(&read).unwrap(), &expected, "{packing:?} {whole}");
        }
    }
}

/// A column whose dictionary's values are lists, `count` of them, of what is in a dictionary of all these words. Two are of
/// NULLs.
fn nested(words: &[String], count: usize) -> ArrayRef {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let keys = Int32Array::from_iter((0..count * 2).map(|n| (n > 3).then_some((n * 37 % words.len()) as i32)));
    let items: ArrayRef = Arc::new(DictionaryArray::new(keys, texts));
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(vec![2; count]);
    let lists: ArrayRef = Arc::new(ListArray::new(field, offsets, items, None));
    let keys = Int8Array::from_iter((0..50).map(|n| (n % 7 > 0).then_some((n * 3 % count) as i8)));
    Arc::new(DictionaryArray::new(keys, lists))
}

fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), batches[0].schema_ref(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

async fn messages(file: Vec<u8>, bounds: Bounds) -> Messages {
    let store = Watched::default();
    store.put("a", file).await;
    let cancel = Default::default();
    let bytes = ByteStream::open(&store.store(), "a", &cancel).await.unwrap();
    Messages::open(bytes, "a", &cancel, bounds).await.unwrap()
}

#[tokio::test]
async fn a_dictionary_in_the_place_of_another_has_its_room() {
    let bounds = Bounds { whole: 5000, window: 20_000 };
    let words = |from: usize, count: usize| (from..from + count).map(|n| format!("word {n}")).collect::<Vec<_>>();
    // The third is too large.
    let counts = [250, 250, 900, 250, 250];
    let batch = |(n, count): (usize, &usize)| {
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(words(n * 1000, *count)));
        let keys = Int32Array::from_iter_values(0..200);
        named(vec![Arc::new(DictionaryArray::new(keys, values))])
    };
    let batches: Vec<_> = counts.iter().enumerate().map(batch).collect();
    for packing in PACKINGS {
        let file = stream(&batches, IpcWriteOptions::default().try_with_compression(packing).unwrap());
        let mut messages = messages(file, bounds).await;
        for (batch, count) in batches.iter().zip(counts) {
            assert_eq!(messages.next().await.unwrap().as_ref(), Some(batch));
            assert_eq!(messages.away(), count == 900, "{packing:?}");
        }
    }
    // The values that were there before still use what was in the place of the inner one.
    let batches = [(1000, 2), (2000, 4), (3000, 6)].map(|(from, count)| named(vec![nested(&words(from, 250), count)]));
    let file = stream(&batches, IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta));
    let mut messages = messages(file, bounds).await;
    for (n, batch) in batches.iter().enumerate() {
        assert_eq!(messages.next().await.unwrap().as_ref(), Some(batch));
        assert_eq!(messages.away(), n > 0);
    }
}

#[tokio::test]
async fn a_small_dictionary_may_have_a_large_one_within() {
    let words = |from: usize| (from..from + 300).map(|n| format!("word {n}")).collect::<Vec<_>>();
    let batches = [(0, 10), (0, 20), (1000, 20), (2000, 5)];
    let batches = batches.map(|(from, count)| named(vec![nested(&words(from), count)]));
    let schema = batches[0].schema_ref();
    for packing in PACKINGS {
        // Both are away, the inner one, nothing.
        for whole in [0, 1500, 1 << 20] {
            let bounds = Bounds { whole, window: 2000 };
            let (_kept, source) = local(&write(&batches[..1], packing)).await;
            let read = read(source, bounds, &[0]).await.unwrap();
            assert_eq!(concat_batches(schema, &read).unwrap(), batches[0], "{packing:?} {whole}");
            for handling in [DictionaryHandling::Resend, DictionaryHandling::Delta] {
                let options = IpcWriteOptions::default().with_dictionary_handling(handling);
                let file = stream(&batches, options.try_with_compression(packing).unwrap());
                let mut messages = messages(file, bounds).await;
                let mut read = Vec::new();
                while let Some(batch) = messages.next().await.unwrap() {
                    read.push(batch);
                }
                assert_eq!(messages.away(), whole < 1 << 20);
                let expected = concat_batches(schema, &batches).unwrap();
                assert_eq!(concat_batches(schema, &read).unwrap(), expected, "{packing:?} {whole}");
            }
        }
    }
}

#[tokio::test]
async fn a_dictionary_that_is_used_within_itself_is_refused() {
    let words: Vec<String> = (0..30).map(|n| format!("word {n}")).collect();
    let text = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    // Not the first, for there the number would be 0, which is not written.
    let batches = [2, 4].map(|count| named(vec![cast(&Dice(1).texts(50), &text).unwrap(), nested(&words, count)]));
    let file = stream(&batches, IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta));
    // Its inner dictionary is left out, and is said to be the outer one.
    let (mut lying, mut at, mut inner, mut left_out) = (Vec::new(), 0, 0, 0);
    while at + 8 < file.len() {
        let length = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
        let mut head = file[at + 8..at + 8 + length].to_vec();
        let message = arrow::ipc::root_as_message(&head).unwrap();
        let end = at + 8 + length + message.bodyLength() as usize;
        if message.header_as_dictionary_batch().is_some_and(|dictionary| dictionary.id() == inner) {
            (at, left_out) = (end, left_out + 1);
            continue;
        }
        if let Some(schema) = message.header_as_schema() {
            let field = schema.fields().unwrap().get(1);
            let outer = field.dictionary().unwrap().id();
            let of_inner = field.children().unwrap().get(0).dictionary().unwrap();
            inner = of_inner.id();
            let place = of_inner._tab.vtable().get(arrow::ipc::DictionaryEncoding::VT_ID);
            let place = of_inner._tab.loc() + place as usize;
            head[place..place + 8].copy_from_slice(&outer.to_le_bytes());
        }
        lying.extend_from_slice(&file[at..at + 8]);
        lying.extend_from_slice(&head);
        lying.extend_from_slice(&file[at + 8 + length..end]);
        at = end;
    }
    assert!(inner > 0 && left_out > 0);
    for whole in [0, 1 << 20] {
        let mut messages = messages(lying.clone(), Bounds { whole, window: 2000 }).await;
        let error = loop {
            match messages.next().await {
                Ok(batch) => assert!(batch.is_some()),
                Err(error) => break std::error::Error::source(&error).unwrap().to_string(),
            }
        };
        assert!(error.contains(r#"the dictionary of "1" is used within itself"#), "{error}");
    }
}

#[tokio::test]
async fn ends_of_runs_that_are_no_numbers_are_refused() {
    let (_kept, source) = local(&write(&[runs(60)], None)).await;
    let mut blocks = Blocks::open(source, "a file", Bounds { whole: 0, window: 2000 }).await.unwrap();
    let ends = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let (ends, values) = (Field::new("run_ends", ends, false), Field::new("values", DataType::Utf8, true));
    let mut fields = blocks.schema().fields().to_vec();
    fields[0] = Arc::new(Field::new("0", DataType::RunEndEncoded(ends.into(), values.into()), true));
    blocks.decoder.schema = Arc::new(Schema::new(fields));
    let error = std::error::Error::source(&blocks.next().await.unwrap_err()).unwrap().to_string();
    assert!(error.contains("the ends of runs are no whole numbers"), "{error}");
}

#[tokio::test]
async fn a_small_block_that_unpacks_to_a_large_one_is_read_in_windows() {
    for packing in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|_| "a".repeat(1000))));
        let batch = RecordBatch::try_from_iter([("a", texts)]).unwrap();
        let bounds = Bounds { whole: 100_000, window: 50_000 };
        let (_kept, source) = local(&write(std::slice::from_ref(&batch), Some(packing))).await;
        assert!(source.size() < bounds.whole);
        let read = read(source, bounds, &[0]).await.unwrap();
        assert!(read.iter().all(|batch| batch_bytes(batch) < 51_000), "{}", read.len());
        assert_eq!(concat_batches(batch.schema_ref(), &read).unwrap(), batch);
    }
}

#[tokio::test]
async fn rows_without_columns_are_counted() {
    let (_kept, source) = local(&write(&[sample(100, 1)], None)).await;
    let read = read(source, Bounds { whole: 0, window: 10 }, &[]).await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
}

#[tokio::test]
async fn very_wide_rows_make_narrow_windows() {
    let width = |n: usize| if n.is_multiple_of(100) { 20_000 } else { 3 };
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|n| "b".repeat(width(n)))));
    let views = cast(&texts, &DataType::Utf8View).unwrap();
    let lists = Dice(1).list(1000, |dice, rows| cast(&dice.texts(rows), &DataType::BinaryView).unwrap());
    let batch = RecordBatch::try_from_iter([("a", texts), ("b", views), ("c", lists)]).unwrap();
    let (_kept, source) = local(&write(std::slice::from_ref(&batch), None)).await;
    let read = read(source, Bounds { whole: 0, window: 10_000 }, &[0, 1, 2]).await.unwrap();
    assert!(read.iter().all(|batch| batch.num_rows() == 1 || batch_bytes(batch) <= 10_000));
    assert_eq!(concat_batches(batch.schema_ref(), &read).unwrap(), batch);
}

#[tokio::test]
async fn a_large_block_of_a_store_is_fetched_in_pieces_and_only_what_is_wanted() {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..10_000).map(|n| format!("{n:>9} ").repeat(200))));
    let batch =
        RecordBatch::try_from_iter([("a", Dice(1).numbers(10_000)), ("b", texts.clone()), ("c", texts)]).unwrap();
    for packing in [None, Some(CompressionType::ZSTD)] {
        let store = Watched::default();
        let file = write(std::slice::from_ref(&batch), packing);
        let size = file.len() as u64;
        let bounds = if packing.is_none() { Bounds::default() } else { Bounds { whole: 1000, ..Bounds::default() } };
        let read = read(store.put("a", file).await, bounds, &[0, 1]).await.unwrap();
        assert!(read.iter().all(|batch| batch_bytes(batch) as u64 <= bounds.window) && read.len() > 4);
        assert_eq!(concat_batches(read[0].schema_ref(), &read).unwrap(), batch.project(&[0, 1]).unwrap());
        let asked = store.asked();
        let fetched: u64 = asked.iter().sum();
        assert!(asked.iter().all(|bytes| *bytes <= spool::PIECE), "{asked:?}");
        assert!(fetched < size * 2 / 3, "{fetched} of {size}");
    }
}

/// One block, read in windows from memory.
async fn windows(blocks: &Blocks, place: Extent, block: &[u8]) -> Result<()> {
    let at = place.head as usize;
    let wrong = |e| fault(e, "a file");
    let message = blocks.message(&block[..at])?;
    let body = bytes::Bytes::copy_from_slice(&block[at..]);
    message.batch().and_then(|batch| Message::unpacked(batch, &body)).map_err(wrong)?;
    let mut layout = blocks.decoder.layout(&message, place.body)?;
    let body = Body::Memory(body).unpacked(&mut layout, &blocks.decoder.cancel, "a file").await?;
    let mut windows = Windows::new(layout, body, blocks.decoder.schema.clone(), 3000);
    while let Some(batch) = windows.next().map_err(wrong)? {
        // Whoever uses it must not fall either.
        batch_bytes(&batch);
        assert_eq!(batch, batch.slice(0, batch.num_rows()));
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_lies_is_an_error_and_no_panic() {
    for (batch, packing) in PACKINGS.map(|packing| (sample(20, 4), packing)).into_iter().chain([(runs(60), None)]) {
        let file = write(&[batch], packing);
        let (_kept, source) = local(&file).await;
        // What dictionaries hold is away, or in memory.
        let whole = if packing.is_none() { 0 } else { Bounds::default().whole };
        let mut blocks = Blocks::open(source, "a file", Bounds { whole, ..Bounds::default() }).await.unwrap();
        let block = blocks.blocks.next().unwrap();
        let place = blocks.place(&block).unwrap();
        let whole = &file[place.start as usize..place.body().end as usize];
        windows(&blocks, place, whole).await.unwrap();
        let (mut failed, mut dice) = (0, Dice(5));
        // The head says where everything is. Of the body, and of what needs unpacking, some is enough.
        let (heads, bodies) = if packing.is_none() { (2, 60) } else { (20, 200) };
        for at in 0..whole.len() {
            if dice.roll(if at < place.head as usize { heads } else { bodies }) > 0 {
                continue;
            }
            for flip in [0xff, 0x80, 1 << dice.roll(8)] {
                let mut block = whole.to_vec();
                block[at] ^= flip;
                failed += usize::from(windows(&blocks, place, &block).await.is_err());
            }
        }
        assert!(failed > 100, "{failed}");
    }
}
