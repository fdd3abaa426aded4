//! What reading very many columns costs in memory: this process has one test, so that its peak is that test's.
#![cfg(target_os = "linux")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use object_store::local::LocalFileSystem;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use weir_core::{MAX_BATCH_BYTES, batch_bytes};
use weir_files::{ColumnarReader, Format, Store};

const COLUMNS: usize = 1_500;
const ROWS: usize = 4_000;
/// Of each of the row groups that the file is written in.
const GROUP: usize = 3_000;

/// A line of the process's status, in bytes.
fn status(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Rows from `first` on: numbers and texts in turn.
fn rows(first: usize, count: usize) -> RecordBatch {
    let all = first..first + count;
    let number =
        |nth: usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values(all.clone().map(|n| (n + nth) as i64))) };
    // Longer than what a view holds itself, and half of them out of a dictionary.
    let of = |n: usize, nth: usize| if nth % 4 == 1 { n % 50 } else { n };
    let text = |nth: usize| -> ArrayRef {
        let word = |n: usize| format!("a text that fills its forty bytes: {:>5}", of(n, nth));
        Arc::new(StringArray::from_iter_values(all.clone().map(word)))
    };
    let column = |nth: usize| (format!("c{nth}"), if nth.is_multiple_of(2) { number(nth) } else { text(nth) });
    RecordBatch::try_from_iter((0..COLUMNS).map(column)).unwrap()
}

#[tokio::test]
async fn very_many_columns_are_read_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_max_row_group_row_count(Some(GROUP))
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows(0, 1).schema(), Some(properties)).unwrap();
    (0..ROWS).step_by(500).for_each(|first| writer.write(&rows(first, 500)).unwrap());
    writer.close().unwrap();

    let inner = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let io = tokio::runtime::Handle::current();
    let remote = Store::Remote { store: Arc::new(inner), root: "s3://b".into(), is_web: false, io };
    let all: Vec<usize> = (0..COLUMNS).collect();
    for (store, path) in [(Store::Local, path.to_str().unwrap()), (remote, "a.parquet")] {
        // The peak begins anew at what is in use now.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS");
        let reader = ColumnarReader::open(&store, path, Format::Parquet, &Default::default()).await.unwrap();
        let mut reader = reader.start(None, &all, true).await.unwrap();
        let mut read = 0;
        while let Some(batch) = reader.next().await.unwrap() {
            assert!(batch_bytes(&batch) <= MAX_BATCH_BYTES);
            let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            assert_eq!(ids.value(0), read as i64);
            read += batch.num_rows();
        }
        assert_eq!(read, ROWS);
        let peak = status("VmHWM").saturating_sub(before);
        assert!(peak < 96 << 20, "{peak} bytes more than before, {store:?}");
    }
}
