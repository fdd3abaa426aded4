//! The harness and the in-memory connectors: what they do well, and that they misbehave as told.

use std::time::Duration;

use serde_json::json;
use weir_core::{ErrorKind, WriteMode};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{self, WriteOptions};
use weir_plugins_test::memory::{self, Step, Trouble};

#[tokio::test]
async fn rows_go_through_in_splits_and_rejected_rows_are_kept() {
    let trouble = Trouble::none().refuse_row(3);
    memory::source("through").splits(3).batch_rows(10).numbers(95).trouble(trouble).put();
    let reader = harness::open_reader("memory", json!({ "key": "through" })).unwrap();
    let read = harness::read_all(&reader).await.unwrap();
    assert_eq!((read.splits.len(), read.rows(), read.rejected().len()), (3, 92, 3));
    let writer = harness::open_writer("memory", json!({ "key": "through" })).unwrap();
    let written = harness::write_all(&writer, read.batches(), WriteOptions::default()).await.unwrap();
    assert_eq!(written.rows(), 92);
    assert_eq!(memory::published("through"), read.cells());
    assert!(memory::created("through"));
}

#[tokio::test]
async fn modes_keep_their_meaning_and_a_second_commit_publishes_nothing() {
    memory::source("modes").numbers(20).put();
    let reader = harness::open_reader("memory", json!({ "key": "modes" })).unwrap();
    let batches = harness::read_all(&reader).await.unwrap().batches();
    let rows = [(WriteMode::Append, 20), (WriteMode::Append, 40), (WriteMode::Upsert, 20), (WriteMode::Ignore, 20)];
    for (mode, expected) in rows.into_iter().chain([(WriteMode::Append, 40), (WriteMode::Overwrite, 20)]) {
        let writer = harness::open_writer("memory", json!({ "key": "modes", "writeMode": mode.name() })).unwrap();
        let staged = harness::stage(&writer, batches.clone(), WriteOptions::default()).await.unwrap();
        staged.commit().await.unwrap();
        staged.commit().await.unwrap();
        assert_eq!(memory::published("modes").len(), expected, "{mode:?}");
    }
}

#[tokio::test]
async fn trouble_comes_when_it_is_due() {
    memory::source("trouble").batch_rows(10).numbers(30).trouble(Trouble::none().fail_at_row_times(15, 1)).put();
    let reader = harness::open_reader("memory", json!({ "key": "trouble" })).unwrap();
    let error = harness::read_all(&reader).await.err().unwrap();
    assert!(error.kind() == ErrorKind::Unreachable && error.is_retryable());
    let batches = harness::read_all(&reader).await.unwrap().batches();

    memory::target("trouble").trouble(Trouble::none().fail_at(Step::Commit)).put();
    let writer = harness::open_writer("memory", json!({ "key": "trouble" })).unwrap();
    assert!(harness::write_all(&writer, batches.clone(), WriteOptions::default()).await.is_err());
    assert!(memory::published("trouble").is_empty());
    assert_eq!((memory::commits("trouble"), memory::aborts("trouble")), (0, 1));

    memory::target("trouble").trouble(Trouble::none().panic_at_row(5)).put();
    let error = harness::write_all(&writer, batches, WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_reader_that_hangs_ends_with_the_run() {
    memory::source("hangs").numbers(5).trouble(Trouble::none().hang_at_row(2)).put();
    let context = harness::context();
    let reader = harness::open_reader_in("memory", json!({ "key": "hangs" }), &context).unwrap();
    let begun = Stopwatch::start();
    let (read, ()) = tokio::join!(harness::read_all(&reader), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        context.cancel.cancel();
    });
    assert_eq!(read.err().unwrap().kind(), ErrorKind::Cancelled);
    assert!(begun.is_within(Duration::from_secs(1)), "{:?}", begun.elapsed());
}
