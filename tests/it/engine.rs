//! What the engine promises whatever the connectors are: limits, dirty rows, stopping, jobs side by side.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{Event, Observer, Quarantine, QuarantineRow, RunOptions, Status};
use weir_plugins_test::Stopwatch;

use crate::support::{counts, job_of, load, run, run_failing, run_ok};

fn stream(rows: u64) -> Value {
    json!({"column": [{"value": "x", "type": "string"}, {"random": "1,100", "type": "long"}], "sliceRecordCount": rows})
}

#[tokio::test]
async fn the_job_has_one_budget_of_rows_for_all_channels() {
    let mut job = job_of("stream", stream(2_500), "stream", json!({}));
    job["job"]["setting"]["speed"] = json!({"channel": 2, "record": 2_500});
    let started = Stopwatch::start();
    let report = run_ok(&job).await;
    assert_eq!(counts(&report), (5_000, 5_000, 0));
    let (took, in_time) = (started.elapsed(), started.is_within(Duration::from_millis(2_600)));
    assert!(took > Duration::from_millis(1_900) && in_time, "{took:?} for 5,000 rows at 2,500 rows/s");
}

#[tokio::test]
async fn a_limited_run_takes_just_so_many_rows() {
    let job = load(&job_of("stream", stream(1_000_000), "stream", json!({})));
    let options = RunOptions { limit: Some(10), quarantine: Quarantine::Off, ..RunOptions::default() };
    let report = weir::run(&job, options).await;
    assert_eq!((report.status, report.rows_written), (Status::Succeeded, 10));
}

fn ragged(folder: &std::path::Path) -> Value {
    let file = folder.join("in.csv");
    std::fs::write(&file, "id,n\n1,10\n2,x\n3,30\n4,4.5\n5,50\n").unwrap();
    let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
    json!({"path": file, "format": "csv", "header": true, "column": columns})
}

#[tokio::test]
async fn the_first_dirty_row_fails_the_job_and_nothing_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let job = job_of("files", ragged(folder.path()), "files", json!({"path": out, "writeMode": "truncate"}));
    let error = run_failing(&job).await;
    assert_eq!(error.kind, ErrorKind::DirtyLimit);
    assert!(error.message.contains("errorLimit"), "{}", error.message);
    assert_eq!(error.context["column"], "n");
    assert!(!out.exists());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["in.csv"], "nothing is left behind");
}

/// The row that is one too many ends all channels, not only its own: what they read beyond is the batches they have in hand.
#[tokio::test]
async fn the_record_limit_holds_at_once_in_all_channels() {
    const CHANNELS: u64 = 4;
    const LIMIT: u64 = 10;
    // Of each file; the bad rows come late.
    const ROWS: u64 = 400_000;
    const GOOD: u64 = 100_000;
    const BATCH: u64 = 65_536;
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir_all(&from).unwrap();
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("old.csv"), "id,n\n0,0\n").unwrap();
    for file in 0..CHANNELS {
        let mut text = String::from("id,n\n");
        for row in 0..ROWS {
            let n = if row > GOOD && row % 100 == 0 { "x".to_owned() } else { row.to_string() };
            text += &format!("{row},{n}\n");
        }
        std::fs::write(from.join(format!("{file}.csv")), text).unwrap();
    }
    let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
    let from = json!({"path": from, "format": "csv", "header": true, "column": columns});
    for mode in ["truncate", "append"] {
        let to = json!({"path": out, "format": "csv", "writeMode": mode});
        let mut job = job_of("files", from.clone(), "files", to);
        job["job"]["setting"] = json!({"speed": {"channel": CHANNELS}, "errorLimit": {"record": LIMIT}});
        let report = run(&job).await;
        assert_eq!(report.error.as_ref().unwrap().kind, ErrorKind::DirtyLimit, "{report:#?}");
        assert_eq!(report.rows_dirty, LIMIT + 1);
        let most = CHANNELS * (GOOD + 3 * BATCH);
        assert!(report.rows_read <= most, "{} of {} rows were read", report.rows_read, CHANNELS * ROWS);
        assert_eq!(report.rows_written, 0);
        let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["old.csv"], "{mode}: something was published, or is left behind");
    }
}

#[tokio::test]
async fn tolerated_dirty_rows_are_kept_with_their_values_and_the_rest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (out, kept) = (folder.path().join("out.jsonl"), folder.path().join("dirty.jsonl"));
    let mut job = job_of("files", ragged(folder.path()), "files", json!({"path": out, "writeMode": "truncate"}));
    job["job"]["setting"]["errorLimit"] = json!({"record": 2});
    let options = RunOptions { quarantine: Quarantine::Path(kept.clone()), ..RunOptions::default() };
    let report = weir::run(&load(&job), options).await;
    assert_eq!(report.status, Status::Succeeded, "{report:#?}");
    assert_eq!(counts(&report), (5, 3, 2));
    assert_eq!(report.quarantine.as_deref(), Some(kept.as_path()));
    let lines = std::fs::read_to_string(&kept).unwrap();
    let rows: Vec<QuarantineRow> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].column.as_deref(), rows[0].values["n"].as_str()), (Some("n"), Some("x")));
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn transformers_change_and_filter_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    std::fs::write(&from, "name,n\nabcdef,1\nghijkl,2\nmnopqr,3\n").unwrap();
    let mut job = job_of(
        "files",
        json!({"path": from, "header": true}),
        "files",
        json!({"path": to, "header": true, "writeMode": "truncate"}),
    );
    job["job"]["content"][0]["transformer"] = json!([
        {"name": "dx_substr", "parameter": {"columnIndex": 0, "paras": ["1", "3"]}},
        {"name": "dx_filter", "parameter": {"columnIndex": 1, "paras": ["=", "2"]}}
    ]);
    let report = run_ok(&job).await;
    assert_eq!((report.rows_filtered, report.rows_written), (1, 2));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "name,n\nbcd,1\nnop,3\n");
}

#[tokio::test]
async fn a_stopped_run_ends_within_two_seconds() {
    let mut job = job_of("stream", stream(1_000_000_000), "stream", json!({}));
    job["job"]["setting"]["speed"] = json!({"channel": 2, "record": 1_000});
    let options = RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() };
    let cancel = options.cancel.clone();
    let job = load(&job);
    let running = tokio::spawn(async move { weir::run(&job, options).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Stopwatch::start();
    cancel.cancel();
    let report = running.await.unwrap();
    assert!(asked.is_within(Duration::from_secs(2)), "{:?}", asked.elapsed());
    assert_eq!(report.status, Status::Stopped);
}

#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<String>>);

impl Observer for Seen {
    fn event(&self, event: &Event<'_>) {
        if let Event::Started { run_id, .. } = event {
            self.0.lock().unwrap().push((*run_id).to_owned());
        }
    }
}

#[tokio::test]
async fn two_jobs_in_one_process_share_nothing() {
    let one = load(&job_of("stream", stream(1_000), "stream", json!({})));
    let mut many = job_of("stream", stream(50_000), "stream", json!({}));
    many["job"]["setting"]["speed"]["channel"] = 2.into();
    let many = load(&many);
    let seen = Arc::new(Seen::default());
    let options = || RunOptions { observer: seen.clone(), quarantine: Quarantine::Off, ..RunOptions::default() };
    let (a, b) = tokio::join!(weir::run(&one, options()), weir::run(&many, options()));
    assert_ne!(a.run_id, b.run_id);
    assert_eq!(seen.0.lock().unwrap().len(), 2);
    assert_eq!(b.rows_written, 100_000);
    assert_eq!(a.rows_written % 1_000, 0);
}

#[tokio::test]
async fn one_table_that_fails_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.csv");
    let job = json!({"job": {"setting": {"speed": {"channel": 1}}, "content": [
        {
            "reader": {"name": "stream", "parameter": stream(10)},
            // Planned without a fault: only the statement before the load is wrong.
            "writer": {"name": "sqlite", "parameter": {
                "path": folder.path().join("bad.db"), "table": "t", "preSql": ["delete from nowhere"]}}
        },
        {
            "reader": {"name": "stream", "parameter": stream(10)},
            "writer": {"name": "files", "parameter": {"path": good, "writeMode": "truncate"}}
        }
    ]}});
    let report = crate::support::run(&job).await;
    assert_eq!(report.status, Status::PartiallyFailed, "{report:#?}");
    assert!(report.error.unwrap().message.contains("nowhere"));
    assert_eq!(report.tables.iter().map(|t| t.status).collect::<Vec<_>>(), [Status::Failed, Status::Succeeded]);
    assert!(good.exists());
}

#[tokio::test]
async fn a_limited_run_still_fails_at_a_dirty_row() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let mut from = ragged(folder.path());
    // Read as text, so that it is the conversion for the target that finds the dirty row.
    from["column"] = json!([{"name": "id", "type": "string"}, {"name": "n", "type": "string"}]);
    let to = json!({"path": folder.path().join("t.db"), "table": "t", "writeMode": "append",
        "preSql": "create table if not exists t (id integer, n integer)", "createTable": false});
    run_ok(&job_of("stream", stream(1), "sqlite", json!({"path": folder.path().join("t.db"), "table": "u"}))).await;
    run_failing(&job_of("files", from.clone(), "sqlite", to.clone())).await;
    let make =
        json!({"path": folder.path().join("t.db"), "table": "u", "preSql": "create table t (id integer, n integer)"});
    run_ok(&job_of("stream", stream(1), "sqlite", make)).await;
    let job = load(&job_of("files", from, "sqlite", to));
    let options = RunOptions { limit: Some(3), quarantine: Quarantine::Off, ..RunOptions::default() };
    let report = weir::run(&job, options).await;
    assert_eq!(report.status, Status::Failed, "{report:#?}");
    assert_eq!(report.error.unwrap().kind, ErrorKind::DirtyLimit);
    assert!(!out.exists());
}

#[tokio::test]
async fn a_constant_that_does_not_fit_is_found_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("t.db");
    let make = json!({"path": database, "table": "u", "preSql": "create table t (id integer, day date)"});
    run_ok(&job_of("stream", stream(1), "sqlite", make)).await;
    let to = json!({"path": database, "table": "t", "preSql": "drop table u",
        "mapping": [{"from": "column2", "to": "id"}, {"value": "soon", "to": "day"}]});
    let error = run_failing(&job_of("stream", stream(5), "sqlite", to)).await;
    assert_eq!(error.kind, ErrorKind::Schema, "{error:?}");
    assert!(error.message.contains("soon"), "{error:?}");
    run_ok(&job_of("sqlite", json!({"path": database, "table": "u"}), "stream", json!({}))).await;
}

#[tokio::test]
async fn dropping_the_future_of_a_run_stops_it_and_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut job =
        job_of("stream", stream(1_000_000), "files", json!({"path": out, "format": "csv", "writeMode": "truncate"}));
    job["job"]["setting"]["speed"] = json!({"channel": 1, "record": 1_000});
    let job = load(&job);
    let options = RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() };
    assert!(tokio::time::timeout(Duration::from_millis(400), weir::run(&job, options)).await.is_err());
    // Its threads clean up behind our back, and soon.
    for _ in 0..60 {
        let left = std::fs::read_dir(&out).map_or(0, |entries| entries.count());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "staging is left behind: {:?}",
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()
    );
}
