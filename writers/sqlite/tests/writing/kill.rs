//! A process that dies in the middle of a transaction.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use arrow::array::RecordBatch;
use serde_json::json;
use weir_core::{ErrorKind, Refused, TaskId, Writer};

use crate::support::{TestFile, account, pairs, request};

/// Says where the child finds the file and how it is to write.
const CHILD: &str = "WEIR_TEST_SQLITE_CHILD";

/// More than SQLite keeps in memory, so that parts of an open transaction are in the file.
fn large(first: i64) -> RecordBatch {
    let text = "x".repeat(1000);
    let rows: Vec<_> = (first..first + 6000).map(|id| (id, text.as_str())).collect();
    pairs(&rows)
}

/// Not a test by itself: what the other one runs and kills.
#[tokio::test]
async fn child() {
    let Ok(parameters) = std::env::var(CHILD) else { return };
    let parameters = serde_json::from_str(&parameters).unwrap();
    let context = crate::support::context(weir_core::Form::Native);
    let writer = weir_writer_sqlite::SqliteWriter::open(&parameters, &context).unwrap();
    let plan = writer.plan(&request(&pairs(&[]).schema(), Some("id"), "r1")).await.unwrap();
    writer.prepare(&plan).await.unwrap();
    let task = |split| TaskId { run_id: "r1".into(), split, table: "t".into(), attempt: 1 };
    let mut first = writer.open(&plan, &task(0)).await.unwrap();
    first.write(&large(0), &mut Refused::default()).await.unwrap();
    first.finish(account()).await.unwrap();
    let mut second = writer.open(&plan, &task(1)).await.unwrap();
    second.write(&large(10_000), &mut Refused::default()).await.unwrap();
    println!("plan {}", serde_json::to_string(&plan).unwrap());
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[tokio::test]
async fn a_killed_process_leaves_what_it_recorded_and_no_more() {
    for (mode, journal) in [("append", "delete"), ("append", "wal"), ("overwrite", "delete"), ("upsert", "wal")] {
        let file = TestFile::new(&format!(
            "PRAGMA journal_mode = {journal}; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES(-1, 'old')"
        ))
        .await;
        let parameters = json!({ "path": file.path(), "table": "t", "writeMode": mode });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(CHILD, parameters.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.filter_map(|l| l.split_once("plan {").map(|(_, plan)| format!("{{{plan}"))).next();
        child.kill().unwrap();
        child.wait().unwrap();
        let plan = serde_json::from_str(&line.expect("the child wrote")).unwrap();

        let writer = file.writer(json!({ "writeMode": mode }));
        let recorded = writer.recorded(&plan).await.unwrap();
        assert_eq!(recorded.receipts.iter().map(|r| (r.split, r.rows)).collect::<Vec<_>>(), [(0, 6000)], "{mode}");
        writer.prepare(&plan).await.unwrap();
        let rows = file.texts("SELECT count(*) || '' FROM t").await;
        assert_eq!(rows, [if mode == "append" { "6001" } else { "1" }], "{mode}");
        let task = |split, attempt| TaskId { run_id: "r1".into(), split, table: "t".into(), attempt };
        let mut again = writer.open(&plan, &task(0, 2)).await.unwrap();
        assert_eq!(again.write(&large(0), &mut Refused::default()).await.unwrap_err().kind(), ErrorKind::Conflict);
        let mut second = writer.open(&plan, &task(1, 2)).await.unwrap();
        second.write(&large(10_000), &mut Refused::default()).await.unwrap();
        let mut receipts = recorded.receipts;
        receipts.push(second.finish(account()).await.unwrap());
        writer.commit(&plan, &receipts).await.unwrap();
        writer.forget(&plan).await.unwrap();
        let rows = file.texts("SELECT count(*) || ':' || count(DISTINCT id) FROM t").await;
        assert_eq!(rows, [if mode == "overwrite" { "12000:12000" } else { "12001:12001" }], "{mode}");
        assert_eq!(file.texts("PRAGMA integrity_check").await, ["ok"]);
        file.is_clean().await;
    }
}
