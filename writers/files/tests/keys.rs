//! Rows of equal keys: found before anything is published, and only where the job says so.

mod common;

use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use serde_json::{Value, json};
use weir_core::*;

use common::{read, stage, writer};

type Row = (Option<i64>, Option<&'static str>);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("id", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()), true),
        ("v", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)), true),
        ("name", Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// A run of two splits; its staging is there until it is aborted or forgotten.
async fn run(target: &Value, run_id: &str, splits: [&[Row]; 2]) -> (Arc<dyn Writer>, WritePlan, Result<Vec<Receipt>>) {
    let splits = splits.map(|rows| vec![batch(rows)]);
    let schema = splits[0][0].schema();
    let (writer, plan, receipts, _) = stage(Form::Native, target, run_id, &schema, &splits).await.unwrap();
    let done = writer.commit(&plan, &receipts).await.map(|_| receipts);
    (writer, plan, done)
}

/// Everything below a folder, with its content.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(tree(&entry)),
            false => found.push((entry.display().to_string(), std::fs::read(&entry).unwrap())),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_key_that_comes_twice_publishes_nothing() {
    for format in ["parquet", "arrow"] {
        for (mode, place) in [("truncate", "t/"), ("append", "t/"), ("truncate", "t"), ("append", "t")] {
            let folder = tempfile::tempdir().unwrap();
            let many = place.ends_with('/');
            let path = folder.path().join(if many { place.to_owned() } else { format!("{place}.{format}") });
            let target = json!({
                "path": path, "format": format, "writeMode": mode, "key": ["id", "name"], "duplicateKeys": "error",
            });
            let old: [&[Row]; 2] = [&[(Some(1), Some("a"))], &[(Some(1), Some("b")), (None, Some("a"))]];
            let (first, plan, done) = run(&target, "old", old).await;
            done.unwrap();
            first.forget(&plan).await.unwrap();
            let (rows, before) = (read(&json!({"path": path})).await, tree(folder.path()));
            assert_eq!(rows.len(), 3);

            let clash: [&[Row]; 2] = [&[(Some(2), Some("x")), (Some(3), Some("x"))], &[(Some(2), Some("x"))]];
            let (second, plan, done) = run(&target, "clash", clash).await;
            let error = done.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            for part in ["more than once", "\"id\":\"2\"", "\"name\":\"x\""] {
                assert!(error.full().contains(part), "{}", error.full());
            }
            let recorded = second.recorded(&plan).await.unwrap();
            assert!(!recorded.published && recorded.receipts.len() == 2);
            // A second try comes to the same.
            let again = second.commit(&plan, &recorded.receipts).await;
            assert_eq!(again.unwrap_err().kind(), ErrorKind::Data);
            assert_eq!(read(&json!({"path": path})).await, rows, "{format} {mode} {place}");
            second.abort(&plan, &recorded.receipts).await.unwrap();
            assert_eq!(tree(folder.path()), before, "{format} {mode} {place}");

            // Mended; and an append looks at the rows that it brings, and at no others.
            let mended: [&[Row]; 2] = [&[(Some(1), Some("a")), (None, Some("x"))], &[(None, Some("x"))]];
            let (third, plan, done) = run(&target, "mended", mended).await;
            let receipts = done.unwrap();
            third.commit(&plan, &receipts).await.unwrap();
            third.forget(&plan).await.unwrap();
            let expected = if mode == "append" { 6 } else { 3 };
            assert_eq!(read(&json!({"path": path})).await.len(), expected, "{format} {mode} {place}");
        }
    }
}

#[tokio::test]
async fn a_publication_that_has_begun_is_ended_without_another_look() {
    for mode in ["truncate", "append"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let target = json!({
            "path": path, "format": "parquet", "writeMode": mode, "key": "id", "duplicateKeys": "error",
        });
        let rows: [&[Row]; 2] = [&[(Some(1), None)], &[(Some(2), None)]];
        let (writer, plan, done) = run(&target, "r", rows).await;
        let receipts = done.unwrap();
        // As if the process had died just before it said so: the parts are in their places, and gone from where they were.
        let records = path.join(".weir-r/parts");
        std::fs::remove_file(records.join("published")).unwrap();
        assert!(tree(&records).iter().all(|(name, _)| !name.ends_with(".part")));
        if mode == "append" {
            writer.commit(&plan, &receipts).await.unwrap();
            assert_eq!(read(&json!({"path": path, "format": "parquet"})).await.len(), 2);
        }
        // Before the journal was written, parts that are gone are another matter.
        std::fs::remove_file(records.join("journal")).unwrap();
        let _ = std::fs::remove_file(records.join("published"));
        let error = writer.commit(&plan, &receipts).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.full().contains("--fresh"), "{}", error.full());
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_before_the_run() {
    let faults = |target: Value| {
        let faults = writer(Form::Native, &target).err().unwrap();
        faults.0.into_iter().map(|fault| (fault.pointer, fault.message)).collect::<Vec<_>>()
    };
    for format in ["csv", "text", "jsonl"] {
        let found = faults(json!({
            "path": "t", "format": format, "writeMode": "append", "duplicateKeys": "error", "key": "id",
        }));
        assert!(matches!(&found[..], [(at, text)] if at == "/duplicateKeys" && text.contains("Parquet")), "{found:?}");
    }
    let idle = faults(json!({"path": "t.parquet", "writeMode": "append", "key": "id"}));
    assert!(matches!(&idle[..], [(at, _)] if at == "/key"), "{idle:?}");
    let unnamed = faults(json!({"path": "t", "writeMode": "append", "duplicateKeys": "error"}));
    assert!(matches!(&unnamed[..], [(at, _)] if at == "/format"), "{unnamed:?}");
    let folder = tempfile::tempdir().unwrap();
    for key in [json!([]), json!("other")] {
        let target = json!({
            "path": folder.path().join("t.arrow"), "writeMode": "append", "duplicateKeys": "error", "key": key,
        });
        let schema = batch(&[]).schema();
        let error = stage(Form::Native, &target, "r", &schema, &[]).await.err().unwrap();
        assert!(error.kind() == ErrorKind::Schema && error.full().contains("`key`"), "{}", error.full());
    }
}
