//! What reading files of others costs in memory: this process has one test, so that its peak is that test's.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, UnionArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, UnionFields};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use object_store::local::LocalFileSystem;
use weir_core::{MAX_BATCH_BYTES, batch_bytes};
use weir_files::{ColumnarReader, Format, Store};

const ROWS: usize = 100_000;

fn text(n: usize) -> String {
    format!("{n:>9} ").repeat(if n.is_multiple_of(2) { 190 } else { 20 })
}

/// Which value of the dictionary a row has.
fn word(row: usize) -> usize {
    row * 7919 % ROWS
}

/// A file with one batch of 260 MB and a dictionary of 110 MB, in the form with a footer or without.
fn write(path: &Path, packing: Option<CompressionType>, footer: bool) {
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(text)));
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let words = Int32Array::from_iter_values((0..ROWS).map(|row| word(row) as i32));
    let words: ArrayRef = Arc::new(DictionaryArray::new(words, text.clone()));
    let fields = [Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
    let fields = UnionFields::try_new([0, 1], fields).unwrap();
    let ids = (0..ROWS).map(|row| (row % 2) as i8).collect();
    let places = (0..ROWS).map(|row| (row / 2) as i32).collect();
    let long: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS / 2).map(|n| format!("{n:>9} ").repeat(60))));
    let either: ArrayRef = Arc::new(UnionArray::try_new(fields, ids, Some(places), vec![id.clone(), long]).unwrap());
    let columns = [("id", id), ("text", text.clone()), ("words", words), ("either", either), ("unused", text)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(packing).unwrap();
    let file = std::fs::File::create(path).unwrap();
    if footer {
        let mut writer = FileWriter::try_new_with_options(file, batch.schema_ref(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
    } else {
        let mut writer = StreamWriter::try_new_with_options(file, batch.schema_ref(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
    }
}

/// A line of the process's status, in bytes.
fn status(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_batch_and_a_dictionary_of_any_size_are_read_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let inner = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let io = tokio::runtime::Handle::current();
    let remote = Store::Remote { store: Arc::new(inner), root: "s3://b".into(), is_web: false, io };
    let (lz4, zstd) = (Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD));
    for (packing, footer) in [(None, true), (lz4, true), (zstd, true), (None, false), (zstd, false)] {
        let path = folder.path().join("a.arrow");
        write(&path, packing, footer);
        for (store, path) in [(Store::Local, path.to_str().unwrap()), (remote.clone(), "a.arrow")] {
            // The peak begins anew at what is in use now.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = status("VmRSS");
            let reader = ColumnarReader::open(&store, path, Format::Arrow, &Default::default()).await.unwrap();
            let mut reader = reader.start(None, &[0, 1, 2, 3], false).await.unwrap();
            let (mut rows, mut bytes) = (0, 0);
            while let Some(batch) = reader.next().await.unwrap() {
                assert!(batch_bytes(&batch) <= MAX_BATCH_BYTES);
                let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
                assert_eq!(ids.value(0), rows as i64);
                let words = batch.column(2).as_any().downcast_ref::<DictionaryArray<Int32Type>>().unwrap();
                assert_eq!(words.downcast_dict::<StringArray>().unwrap().value(0), text(word(rows)));
                rows += batch.num_rows();
                bytes += batch_bytes(&batch);
            }
            assert_eq!(rows, ROWS);
            assert!(bytes > 100_000_000);
            let peak = status("VmHWM").saturating_sub(before);
            // What the allocator keeps for each thread comes on top.
            assert!(peak < 96 << 20, "{peak} bytes more than before, {packing:?} {footer} {store:?}");
        }
    }
}
