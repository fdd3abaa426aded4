//! Neither a crash nor another writer doubles a row, loses one, or shows half of them.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema};
use common::{attempt, files, fitted, plan, read, rows, run, task, writer};
use serde_json::{Value, json};
use weir_core::field::{KEY, with_metadata};
use weir_core::{ErrorKind, Receipt, Refused, TaskId};

fn numbers(ids: impl IntoIterator<Item = i64>, text: &str) -> RecordBatch {
    let id = with_metadata(Field::new("id", DataType::Int64, false), KEY, "1");
    let schema = Schema::new(vec![id, Field::new("text", DataType::Utf8, true)]);
    let ids: Int64Array = ids.into_iter().collect::<Vec<_>>().into();
    let texts: StringArray = (0..ids.len()).map(|_| Some(text)).collect();
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(texts)]).unwrap()
}

fn mode(name: &str) -> Value {
    json!({"writeMode": name})
}

fn litter(path: &Path) -> Vec<String> {
    files(path).into_iter().filter(|f| f.contains("_weir")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_splits_are_recorded_until_the_run_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["append", "overwrite", "upsert"] {
        let path = folder.path().join(how);
        let batch = numbers([1, 2], how);
        let first = writer(&path, mode(how));
        let made = plan(first.as_ref(), &batch, "night/1").await.unwrap();
        assert!(made.records_splits);
        assert!(first.recorded(&made).await.unwrap().receipts.is_empty());
        first.prepare(&made).await.unwrap();
        let receipt = task(first.as_ref(), &made, 3, &batch).await.0;
        assert_eq!(receipt.account.epoch, "then");

        // What another process finds.
        let second = writer(&path, mode(how));
        let recorded = second.recorded(&made).await.unwrap();
        assert_eq!((recorded.receipts, recorded.published), (vec![receipt.clone()], false));
        second.prepare(&made).await.unwrap();
        second.commit(&made, std::slice::from_ref(&receipt)).await.unwrap();
        // A crash before the report: published and recorded, and committed once more.
        for _ in 0..2 {
            let recorded = first.recorded(&made).await.unwrap();
            assert_eq!((recorded.receipts.as_slice(), recorded.published), ([receipt.clone()].as_slice(), true));
            first.commit(&made, &recorded.receipts).await.unwrap();
            assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 2, "{how}");
        }
        first.forget(&made).await.unwrap();
        first.forget(&made).await.unwrap();
        assert_eq!(litter(&path), [""; 0], "{how}");
        let recorded = first.recorded(&made).await.unwrap();
        assert!(recorded.receipts.is_empty() && recorded.published);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_file_that_is_gone_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["append", "overwrite"] {
        let path = folder.path().join(how);
        // A folder's name is not spelled as the value is.
        let partitioned = json!({"writeMode": how, "partitionBy": "text"});
        run(&path, json!({"partitionBy": "text"}), "before", &[numbers([1], "old: 10 % ü/")]).await.unwrap();
        let old = files(&path);
        let writer = writer(&path, partitioned);
        let made = plan(writer.as_ref(), &numbers([2], ""), "run").await.unwrap();
        writer.prepare(&made).await.unwrap();
        let receipts = [task(writer.as_ref(), &made, 0, &numbers([2], "new: 10 % ü/")).await.0];
        let data = |file: &&String| file.ends_with(".parquet") && !old.contains(file);
        let lost = path.join(files(&path).iter().find(data).unwrap());
        std::fs::rename(&lost, folder.path().join("elsewhere")).unwrap();
        let error = writer.commit(&made, &receipts).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.message().contains("is gone"), "{how}: {error:?}");
        assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|old: 10 % ü/"], "{how}");
        std::fs::rename(folder.path().join("elsewhere"), &lost).unwrap();
        writer.commit(&made, &receipts).await.unwrap();
        let after = if how == "append" { vec!["1|old: 10 % ü/", "2|new: 10 % ü/"] } else { vec!["2|new: 10 % ü/"] };
        assert_eq!(rows(&read(&path, json!({})).await.unwrap()), after, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_attempts_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["append", "upsert"] {
        let path = folder.path().join(how);
        let batch = numbers([1, 2], how);
        let writer = writer(&path, mode(how));
        let made = plan(writer.as_ref(), &batch, "run").await.unwrap();
        writer.prepare(&made).await.unwrap();
        let id = TaskId { run_id: "run".into(), split: 0, table: "t".into(), attempt: 1 };
        let mut slow = writer.open(&made, &id).await.unwrap();
        slow.write(&fitted(&made, &batch), &mut Refused::default()).await.unwrap();
        // The run's own next attempt, with the same number in another process.
        let receipt = task(writer.as_ref(), &made, 0, &batch).await.0;
        assert_eq!(slow.finish(Default::default()).await.unwrap_err().kind(), ErrorKind::Conflict);
        let again = attempt(writer.as_ref(), &made, 0, 2, &batch).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Conflict);
        assert_eq!(files(&path).iter().filter(|f| f.ends_with(".parquet")).count(), 1, "{how}: {:?}", files(&path));
        writer.commit(&made, &[receipt]).await.unwrap();
        assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 2);
    }
}

/// Does a part of a run and dies of it; see [`a_killed_run_goes_on`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(path) = std::env::var("WEIR_TEST_LAKE") else { return };
    let (path, how, point) =
        (Path::new(&path), std::env::var("WEIR_TEST_MODE").unwrap(), std::env::var("WEIR_TEST_POINT").unwrap());
    let writer = writer(path, mode(&how));
    let made = plan(writer.as_ref(), &numbers([0], ""), "run").await.unwrap();
    std::fs::write(path.with_extension("plan"), serde_json::to_vec(&made).unwrap()).unwrap();
    writer.prepare(&made).await.unwrap();
    let mut receipts: Vec<Receipt> = Vec::new();
    for split in 0..2_u32 {
        receipts.push(task(writer.as_ref(), &made, split, &numbers([i64::from(split)], "new")).await.0);
    }
    if point == "writing" {
        let id = TaskId { run_id: "run".into(), split: 2, table: "t".into(), attempt: 1 };
        let mut open = writer.open(&made, &id).await.unwrap();
        // Large enough to be under way when the process ends.
        for start in 0..20 {
            let batch = numbers(start * 10_000..(start + 1) * 10_000, &format!("{start} lost"));
            open.write(&fitted(&made, &batch), &mut Refused::default()).await.unwrap();
        }
    } else {
        receipts.push(task(writer.as_ref(), &made, 2, &numbers([2], "new")).await.0);
    }
    if point == "published" {
        writer.commit(&made, &receipts).await.unwrap();
    }
    std::process::abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["append", "overwrite", "upsert"] {
        for point in ["writing", "finished", "published"] {
            let path = folder.path().join(format!("{how}-{point}"));
            run(&path, json!({}), "before", &[numbers([1, 7], "old")]).await.unwrap();
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "child", "--nocapture"]).env("WEIR_TEST_LAKE", &path);
            let died = child.env("WEIR_TEST_MODE", how).env("WEIR_TEST_POINT", point).output().unwrap();
            assert!(!died.status.success());
            let made = serde_json::from_slice(&std::fs::read(path.with_extension("plan")).unwrap()).unwrap();

            let writer = writer(&path, mode(how));
            let recorded = writer.recorded(&made).await.unwrap();
            assert_eq!(recorded.published, point == "published");
            assert_eq!(recorded.receipts.len(), if point == "writing" { 2 } else { 3 }, "{how} {point}");
            if !recorded.published {
                assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|old", "7|old"]);
            }
            let mut receipts = recorded.receipts;
            if point == "writing" {
                writer.prepare(&made).await.unwrap();
                receipts.push(attempt(writer.as_ref(), &made, 2, 2, &numbers([2], "new")).await.unwrap().0);
            }
            let done = writer.commit(&made, &receipts).await.unwrap();
            assert!(done.warnings.is_empty(), "{:?}", done.warnings);
            writer.forget(&made).await.unwrap();
            let expected: &[&str] = match how {
                "append" => &["0|new", "1|new", "1|old", "2|new", "7|old"],
                "overwrite" => &["0|new", "1|new", "2|new"],
                _ => &["0|new", "1|new", "2|new", "7|old"],
            };
            assert_eq!(rows(&read(&path, json!({})).await.unwrap()), expected, "{how} {point}");
            let left = files(&path);
            assert_eq!(litter(&path), [""; 0]);
            if how != "upsert" {
                assert_eq!(
                    left.iter().filter(|f| f.contains("_2_1_")).count(),
                    usize::from(point != "writing"),
                    "{left:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    for parameters in [mode("append"), mode("upsert"), json!({"partition": {"pt": "1"}})] {
        let path = folder.path().join("table");
        run(
            &path,
            json!({"partition": parameters.get("partition").cloned().unwrap_or(json!({}))}),
            "other",
            &[numbers([5], "kept")],
        )
        .await
        .unwrap();
        let before = files(&path);
        let batch = numbers([1], "x");
        let writer = writer(&path, parameters.clone());
        let made = plan(writer.as_ref(), &batch, "run").await.unwrap();
        writer.prepare(&made).await.unwrap();
        task(writer.as_ref(), &made, 0, &batch).await;
        // A run whose id begins like this one's has nothing to do with it.
        let longer = plan(writer.as_ref(), &batch, "run-0").await.unwrap();
        let other = task(writer.as_ref(), &longer, 0, &batch).await.0;
        writer.abort(&made, &[]).await.unwrap();
        assert!(writer.recorded(&made).await.unwrap().receipts.is_empty());
        writer.commit(&longer, &[other]).await.unwrap();
        writer.forget(&longer).await.unwrap();
        let others =
            |files: &[String]| files.iter().filter(|f| f.ends_with(".parquet") && !f.contains("run-0")).count();
        assert_eq!(others(&files(&path)), others(&before));
        assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 2);
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_run_that_is_committed_twice_at_once_is_published_once() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["append", "overwrite", "upsert"] {
        for exists in [false, true] {
            let path = folder.path().join(format!("{how}{exists}"));
            if exists {
                run(&path, json!({}), "before", &[numbers([1], "old")]).await.unwrap();
            }
            let batch = numbers([1, 2], "new");
            let writer = writer(&path, mode(how));
            let made = plan(writer.as_ref(), &batch, "run").await.unwrap();
            writer.prepare(&made).await.unwrap();
            let receipts = [task(writer.as_ref(), &made, 0, &batch).await.0];
            let (one, two) = tokio::join!(writer.commit(&made, &receipts), writer.commit(&made, &receipts));
            for done in [one, two] {
                done.unwrap_or_else(|e| panic!("{how} {exists}: {}", e.full()));
            }
            let expected = if how == "append" && exists { 3 } else { 2 };
            assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), expected, "{how} {exists}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_the_same_time_leave_what_one_after_the_other_would() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["overwrite", "upsert"] {
        // Also of an empty table, which gives nobody a file to remove.
        for first in [numbers([], ""), numbers([1, 2, 3], "old")] {
            let path = folder.path().join(format!("{how}{}", first.num_rows()));
            run(&path, json!({}), "first", std::slice::from_ref(&first)).await.unwrap();
            let ended = Arc::new(AtomicBool::new(false));
            let watcher = tokio::spawn({
                let (path, ended, empty) = (path.clone(), ended.clone(), first.num_rows() == 0);
                async move {
                    while !ended.load(Ordering::Relaxed) {
                        let seen = read(&path, json!({})).await.unwrap().num_rows();
                        assert!(seen == 3 || (empty && seen == 0), "a reader saw {seen} rows");
                    }
                }
            });
            let runs: Vec<_> = (0..4)
                .map(|n| {
                    let (path, name) = (path.clone(), format!("run{n}"));
                    let batches = [numbers([1, 2], &name), numbers([3], &name)];
                    tokio::spawn(async move { run(&path, mode(how), &name, &batches).await })
                })
                .collect();
            for run in runs {
                run.await.unwrap().unwrap_or_else(|e| panic!("{how}: {}", e.full()));
            }
            ended.store(true, Ordering::Relaxed);
            watcher.await.unwrap();
            let back = rows(&read(&path, json!({})).await.unwrap());
            let last = back[0].split('|').nth(1).unwrap().to_owned();
            assert_eq!(back, [1, 2, 3].map(|n| format!("{n}|{last}")), "{how}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changed_its_columns_meanwhile_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    run(&path, json!({}), "first", &[numbers([1], "old")]).await.unwrap();
    let batch = numbers([2], "new");
    let writer = writer(&path, json!({}));
    let made = plan(writer.as_ref(), &batch, "run").await.unwrap();
    let receipts = [task(writer.as_ref(), &made, 0, &batch).await.0];
    // Dropped, and made anew with another type.
    std::fs::remove_dir_all(path.join("_delta_log")).unwrap();
    let gone = writer.commit(&made, &receipts).await.unwrap_err();
    assert!(gone.kind() == ErrorKind::Conflict && gone.message().contains("dropped"), "{gone}");
    let other = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec!["y"]))),
    ]);
    run(&path, json!({}), "other", &[other.unwrap()]).await.unwrap();
    let error = writer.commit(&made, &receipts).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.message().contains("`id`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_keeps_to_its_memory_and_one_row_of_each_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let with = |megabytes: u64| json!({"writeMode": "upsert", "mergeMemory": megabytes << 20});
    let parameters = with(48);
    let wide = "x".repeat(800);
    // More than the memory, half of the keys new, some of them twice.
    run(&path, parameters.clone(), "one", &[numbers(0..40_000, &wide)]).await.unwrap();
    let split = |end: &str| numbers(20_000..40_000, &format!("{wide}{end}"));
    let batches = [split("first"), numbers(40_000..60_000, &wide), split("last")];
    // What does not go with so little says so, and changes nothing.
    let error = run(&path, with(8), "little", &batches).await.unwrap_err();
    assert!(error.message().contains("mergeMemory"), "{error:?}");
    assert_eq!(read(&path, json!({})).await.unwrap().num_rows(), 40_000);
    let done = run(&path, parameters, "two", &batches).await.unwrap();
    assert_eq!(done.rows, Some(40_000), "{}", done.description);
    let back = read(&path, json!({"column": ["id", "right(text, 4)"]})).await.unwrap();
    assert_eq!(back.num_rows(), 60_000);
    let endings = back.column(1).as_string::<i32>();
    assert_eq!(endings.iter().filter(|e| *e == Some("last")).count(), 20_000);
    assert_eq!(endings.iter().filter(|e| *e == Some("irst")).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_comes_twice_can_be_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let parameters = json!({"writeMode": "upsert", "duplicateKeys": "error"});
    run(&path, parameters.clone(), "one", &[numbers([1], "a"), numbers([2], "b")]).await.unwrap();
    let error = run(&path, parameters, "two", &[numbers([3, 4], "a"), numbers([4], "b")]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Data && error.full().contains('4'), "{}", error.full());
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|a", "2|b"]);
    // An overwrite looks when it is told to, also where the key is partly in the folders' names.
    let looking = json!({"writeMode": "overwrite", "duplicateKeys": "error", "key": "id"});
    let twice = [numbers([5, 6], "a b%"), numbers([6], "c")];
    let error = run(&path, looking.clone(), "three", &twice).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Data && error.full().contains('6'), "{}", error.full());
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["1|a", "2|b"]);
    run(&path, looking, "four", &twice[..1]).await.unwrap();
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["5|a b%", "6|a b%"]);
    // An append looks at the rows that it brings, and at no others.
    let appending = json!({"writeMode": "append", "duplicateKeys": "error", "key": "id"});
    let error = run(&path, appending.clone(), "five", &twice).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Data && error.full().contains('6'), "{}", error.full());
    run(&path, appending, "six", &twice[1..]).await.unwrap();
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["5|a b%", "6|a b%", "6|c"]);
    let path = folder.path().join("in parts%");
    let looking =
        |key: &[&str]| json!({"writeMode": "overwrite", "duplicateKeys": "error", "key": key, "partitionBy": "text"});
    run(&path, looking(&["id", "text"]), "one", &twice).await.unwrap();
    assert_eq!(rows(&read(&path, json!({})).await.unwrap()), ["5|a b%", "6|a b%", "6|c"]);
    for (run_id, key, there) in [("two", vec!["id"], '6'), ("three", vec!["text"], '1')] {
        let error = run(&path, looking(&key), run_id, &twice).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Data && error.full().contains(there), "{}", error.full());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_of_whole_rows_leaves_files_without_its_keys_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a table%");
    let upsert = json!({"writeMode": "upsert", "key": "id", "partitionBy": "text"});
    run(&path, upsert.clone(), "one", &[numbers(0..10, "a b"), numbers(10..20, "c%20")]).await.unwrap();
    let before = files(&path);
    let done = run(&path, upsert.clone(), "two", &[numbers([15, 16, 30], "c%20")]).await.unwrap();
    assert_eq!(done.rows, Some(3));
    assert!(done.description.contains("2 rows updated, 1 inserted"), "{}", done.description);
    let log = std::fs::read_to_string(path.join("_delta_log/00000000000000000001.json")).unwrap();
    let removed: Vec<&str> = log.lines().filter(|line| line.starts_with("{\"remove\"")).collect();
    assert!(removed.len() == 1 && removed[0].contains("text=c"), "{log}");
    assert!(before.iter().all(|file| files(&path).contains(file)), "what readers may still read stays");
    // A row that changes its partition.
    run(&path, upsert, "three", &[numbers([0], "c%20")]).await.unwrap();
    let back = rows(&read(&path, json!({})).await.unwrap());
    assert_eq!(back.len(), 21);
    assert_eq!(back.iter().filter(|row| row.starts_with("0|")).collect::<Vec<_>>(), ["0|c%20"]);
}
