//! Versions that the store has not said to have made, and makes later.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema};
use common::{files, plan, read, rows, run, task, writer};
use serde_json::{Value, json};
use weir_core::field::{KEY, with_metadata};
use weir_core::{Receipt, WritePlan, Writer};
use weir_plugins_test::s3::{ACCESS_KEY, Bucket, REGION, SECRET_KEY, fresh_bucket};

fn people(ids: &[i64], name: &str) -> RecordBatch {
    let id = with_metadata(Field::new("id", DataType::Int64, false), KEY, "1");
    let schema = Schema::new(vec![id, Field::new("name", DataType::Utf8, true)]);
    let names: StringArray = ids.iter().map(|_| Some(name)).collect();
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)]).unwrap()
}

/// The ways of writing, each with a table of its own.
const WAYS: [&str; 4] = ["append", "overwrite", "upsert", "part"];

struct Table<'a> {
    bucket: &'a Bucket,
    name: &'static str,
    url: String,
}

impl<'a> Table<'a> {
    fn new(bucket: &'a Bucket, name: &'static str) -> Self {
        Self { bucket, name, url: bucket.url(name) }
    }

    /// A table with one row.
    async fn filled(bucket: &'a Bucket, name: &'static str) -> Self {
        let table = Self::new(bucket, name);
        run(Path::new(&table.url), table.parameters("append"), "before", &[people(&[1], "old")]).await.unwrap();
        table
    }

    fn parameters(&self, way: &str) -> Value {
        let mut parameters = json!({"storageOptions": {
            "endpoint": self.bucket.endpoint(),
            "accessKeyId": ACCESS_KEY,
            "secretAccessKey": SECRET_KEY,
            "region": REGION,
        }});
        parameters["writeMode"] = json!(if way == "part" { "upsert" } else { way });
        if way == "part" {
            parameters["column"] = json!(["id"]);
        }
        parameters
    }

    fn writer(&self) -> Arc<dyn Writer> {
        writer(Path::new(&self.url), self.parameters(self.name))
    }

    fn version(&self, number: u32) -> String {
        format!("{}/_delta_log/{number:020}.json", self.name)
    }

    async fn rows(&self) -> Vec<String> {
        rows(
            &read(Path::new(&self.url), json!({"storageOptions": self.parameters("")["storageOptions"]}))
                .await
                .unwrap(),
        )
    }

    /// The run's files that are there.
    fn left(&self) -> Vec<String> {
        let mut left = files(&self.bucket.folder().join(self.name));
        left.retain(|file| file.contains("weir_late_"));
        left
    }

    /// A run that has moved its rows.
    async fn moved(&self, writer: &dyn Writer) -> (WritePlan, [Receipt; 1]) {
        let columns: &[usize] = if self.name == "part" { &[0] } else { &[0, 1] };
        let batch = people(&[1, 2], "new").project(columns).unwrap();
        let made = plan(writer, &batch, "late").await.unwrap();
        writer.prepare(&made).await.unwrap();
        let receipts = [task(writer, &made, 0, &batch).await.0];
        (made, receipts)
    }

    fn published(&self) -> &'static [&'static str] {
        match self.name {
            "append" => &["1|new", "1|old", "2|new"],
            "part" => &["1|old", "2|NULL"],
            _ => &["1|new", "2|new"],
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_given_up_does_not_come_later() {
    let bucket = fresh_bucket("late");
    for name in WAYS {
        let table = Table::filled(&bucket, name).await;
        let writer = table.writer();
        let (made, receipts) = table.moved(writer.as_ref()).await;
        bucket.hold(&table.version(1));
        writer.commit(&made, &receipts).await.unwrap_err();
        assert_ne!(table.left(), [""; 0], "{name}");
        writer.abort(&made, &receipts).await.unwrap();
        assert_eq!(table.left(), [""; 0], "{name}");
        assert!(!bucket.land(&table.version(1)), "{name}");
        assert_eq!(table.rows().await, ["1|old"], "{name}");
        // The table goes on from there.
        run(Path::new(&table.url), table.parameters("append"), "after", &[people(&[3], "c")]).await.unwrap();
        assert_eq!(table.rows().await, ["1|old", "3|c"], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_kept_while_their_version_may_still_come() {
    let bucket = fresh_bucket("kept");
    for name in WAYS {
        let table = Table::filled(&bucket, name).await;
        let writer = table.writer();
        let (made, receipts) = table.moved(writer.as_ref()).await;
        // What is to be put into its place gets no answer either, nor does a second attempt.
        for _ in 0..3 {
            bucket.hold(&table.version(1));
        }
        for _ in 0..2 {
            writer.commit(&made, &receipts).await.unwrap_err();
        }
        let error = writer.abort(&made, &receipts).await.unwrap_err();
        assert!(error.message().contains("are kept"), "{name}: {}", error.full());
        assert!(bucket.land(&table.version(1)), "{name}");
        assert_eq!(table.rows().await, table.published(), "{name}");
        // What another process finds.
        let later = table.writer();
        assert!(later.recorded(&made).await.unwrap().published, "{name}");
        later.abort(&made, &receipts).await.unwrap();
        assert_eq!(table.rows().await, table.published(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_attempt_finds_what_came_of_the_first() {
    let bucket = fresh_bucket("again");
    for name in WAYS {
        for comes in [true, false] {
            let table = Table::filled(&bucket, name).await;
            let writer = table.writer();
            let (made, receipts) = table.moved(writer.as_ref()).await;
            bucket.hold(&table.version(1));
            writer.commit(&made, &receipts).await.unwrap_err();
            assert!(!comes || bucket.land(&table.version(1)));
            writer.commit(&made, &receipts).await.unwrap();
            assert!(comes || !bucket.land(&table.version(1)));
            assert_eq!(table.rows().await, table.published(), "{name}");
            writer.forget(&made).await.unwrap();
            assert_eq!(table.rows().await, table.published(), "{name}");
            std::fs::remove_dir_all(bucket.folder().join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_process_gives_a_run_up_for_good() {
    let bucket = fresh_bucket("later");
    for name in WAYS {
        let table = Table::filled(&bucket, name).await;
        let first = table.writer();
        let (made, receipts) = table.moved(first.as_ref()).await;
        bucket.hold(&table.version(1));
        first.commit(&made, &receipts).await.unwrap_err();
        table.writer().abort(&made, &[]).await.unwrap();
        assert_eq!(table.left(), [""; 0], "{name}");
        assert!(!bucket.land(&table.version(1)), "{name}");
        assert_eq!(table.rows().await, ["1|old"], "{name}");
        // With nothing left to be found there is no doubt any more, and with nothing asked for there was none.
        table.writer().abort(&made, &[]).await.unwrap();
        let writer = table.writer();
        let (made, receipts) = table.moved(writer.as_ref()).await;
        writer.abort(&made, &receipts).await.unwrap();
        assert!(bucket.get(&table.version(1)).is_some() && bucket.get(&table.version(2)).is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_may_still_be_created_keeps_its_files() {
    let bucket = fresh_bucket("first");
    for name in ["append", "upsert"] {
        for comes in [true, false] {
            let table = Table::new(&bucket, name);
            let writer = table.writer();
            let (made, receipts) = table.moved(writer.as_ref()).await;
            bucket.hold(&table.version(0));
            writer.commit(&made, &receipts).await.unwrap_err();
            let error = writer.abort(&made, &receipts).await.unwrap_err();
            assert!(error.message().contains("are kept"), "{name}: {}", error.full());
            assert_ne!(table.left(), [""; 0], "{name}");
            if comes {
                assert!(bucket.land(&table.version(0)), "{name}");
                writer.abort(&made, &receipts).await.unwrap();
                assert_eq!(table.rows().await, ["1|new", "2|new"], "{name}");
                std::fs::remove_dir_all(bucket.folder().join(name)).unwrap();
            } else {
                // The job's next run.
                table.writer().abort(&made, &[]).await.unwrap();
                assert_eq!(table.left(), [""; 0], "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_no_version() {
    let bucket = fresh_bucket("clash");
    for name in ["overwrite", "upsert", "part"] {
        let table = Table::filled(&bucket, name).await;
        let writer = table.writer();
        let (made, receipts) = table.moved(writer.as_ref()).await;
        // More often than it is tried.
        for _ in 0..30 {
            bucket.clash(&table.version(1));
        }
        writer.commit(&made, &receipts).await.unwrap_err();
        let error = writer.abort(&made, &receipts).await.unwrap_err();
        assert!(error.message().contains("are kept"), "{name}: {}", error.full());
        assert!(bucket.land(&table.version(1)), "{name}");
        assert_eq!(table.rows().await, table.published(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_given_up_starts_again() {
    let bucket = fresh_bucket("anew");
    for name in WAYS {
        let table = Table::filled(&bucket, name).await;
        for _ in 0..2 {
            let writer = table.writer();
            let (made, receipts) = table.moved(writer.as_ref()).await;
            let version = (1..).find(|n| bucket.get(&table.version(*n)).is_none()).unwrap();
            bucket.hold(&table.version(version));
            writer.commit(&made, &receipts).await.unwrap_err();
            table.writer().abort(&made, &[]).await.unwrap();
            assert_eq!(table.left(), [""; 0], "{name}");
        }
        let writer = table.writer();
        let (made, receipts) = table.moved(writer.as_ref()).await;
        assert!(!writer.recorded(&made).await.unwrap().published, "{name}");
        writer.commit(&made, &receipts).await.unwrap();
        assert_eq!(table.rows().await, table.published(), "{name}");
    }
}
