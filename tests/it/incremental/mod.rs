//! Incremental reads: windows that touch, watermarks that move with success only, and rows that come late.

#[cfg(feature = "cli")]
mod command;
mod database;
mod place;
mod scales;

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir::core::ErrorKind;
use weir::{Plan, Quarantine, Report, RunOptions, Start, Status};

use self::place::{Place, Rows};
use crate::support::load;

/// A state folder, and how jobs run with it.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn options(&self) -> RunOptions {
        let state_dir: Option<PathBuf> = Some(self.0.path().join("state"));
        RunOptions { state_dir, quarantine: Quarantine::Off, ..RunOptions::default() }
    }

    async fn run(&self, job: &Value) -> Report {
        weir::run(&load(job), self.options()).await
    }

    async fn run_ok(&self, job: &Value) -> Report {
        let report = self.run(job).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}\nin: {job:#}", report.error);
        report
    }

    async fn plan(&self, job: &Value) -> weir::core::Result<Plan> {
        weir::plan(&load(job), &self.options()).await
    }

    async fn watermarks(&self) -> Vec<String> {
        match weir::Ledger::find_in(&self.0.path().join("state")).await.unwrap() {
            Some(ledger) => ledger.watermarks(None).await.unwrap().into_iter().map(|r| r.watermark.value).collect(),
            None => Vec::new(),
        }
    }
}

/// A named job from one table into another of the same place.
fn job(place: &Place, from: Value, to: Value) -> Value {
    json!({"job": {"name": "changes", "content": [{
        "reader": {"name": place.plugin(), "parameter": place.parameter("src", from)},
        "writer": {"name": place.plugin(), "parameter": place.parameter("dst", to)},
    }]}})
}

fn changed(more: Value) -> Value {
    let mut incremental = json!({"column": "changed"});
    incremental.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"incremental": incremental})
}

/// Makes `src`, an empty `dst` with or without its key, and `due`: what `dst` ought to hold.
async fn make(place: &Place, keyed: bool) {
    let (moment, _) = place.moment();
    let columns = format!("(id bigint NOT NULL, note varchar(40), round bigint, changed {moment} NOT NULL");
    let key = if keyed { ", PRIMARY KEY (id))" } else { ")" };
    place
        .execute(&format!(
            "CREATE TABLE src {columns}, PRIMARY KEY (id)); CREATE TABLE dst {columns}{key}; CREATE TABLE due {columns}{key}"
        ))
        .await;
}

/// New rows and changed ones, stamped now and marked with their round.
async fn change(place: &Place, round: u32) {
    let (_, now) = place.moment();
    let rows: Vec<_> = (1..=50).map(|i| format!("({}, 'new 表 {i}', {round}, {now})", round * 100 + i)).collect();
    place
        .execute(&format!(
            "INSERT INTO src VALUES {}; UPDATE src SET note = 'changed in {round}', round = {round}, changed = {now} \
             WHERE id % 7 = {round} % 7",
            rows.join(", ")
        ))
        .await;
    place.settle().await;
}

async fn both(place: &Place) -> (Rows, Rows) {
    // A moment at a full second is written without its fraction.
    let changed = match place.plugin() {
        "sqlite" => "strftime('%Y-%m-%d %H:%M:%f', changed)",
        _ => "changed",
    };
    let of = |table: &str| format!("SELECT id, note, round, {changed} FROM {table} ORDER BY id, round");
    (place.rows(&of("dst")).await, place.rows(&of("due")).await)
}

async fn assert_equal(place: &Place, when: &str) {
    let (found, due) = both(place).await;
    assert!(!due.is_empty() && found == due, "{} {when}: {} rows, {} are due", place.plugin(), found.len(), due.len());
}

#[tokio::test]
async fn windows_in_a_row_hold_every_change_once() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "windows").await {
        let bench = Bench::new();
        make(&place, false).await;
        // Rows are only added: whatever came twice would be there twice, whatever was left out would be missing.
        let job = job(&place, changed(json!({})), json!({"writeMode": "append"}));
        let mut last: Option<String> = None;
        for round in 1..=4 {
            change(&place, round).await;
            place.execute(&format!("INSERT INTO due SELECT * FROM src WHERE round = {round}")).await;
            let planned = bench.plan(&job).await.unwrap();
            let window = &planned.entries[0].windows[0];
            assert_eq!((window.low.clone(), window.watermark.clone()), (last.clone(), last.clone()));
            let shown = if round == 1 { "from the beginning" } else { "from 20" };
            assert!(planned.to_string().contains(&format!("changed {shown}")), "{planned}");
            let report = bench.run_ok(&job).await;
            let read = report.tables[0].window.clone().unwrap();
            assert_eq!(read.low, last);
            last = read.high;
            assert_equal(&place, &format!("after round {round}")).await;
            assert_eq!(bench.watermarks().await, [last.clone().unwrap()]);
        }
        // Nothing has changed: nothing is read.
        assert_eq!(bench.run_ok(&job).await.rows_read, 0);
        assert_equal(&place, "after a run of nothing").await;
        // And from the beginning once more, which in this mode has all rows again.
        let all: u64 = place.rows("SELECT count(*) FROM src").await[0][0].as_ref().unwrap().parse().unwrap();
        let report = weir::run(&load(&job), RunOptions { full: true, ..bench.options() }).await;
        assert_eq!((report.status, report.rows_written), (Status::Succeeded, all));
    }
}

#[tokio::test]
async fn late_rows_arrive_through_the_overlap() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "late").await {
        let bench = Bench::new();
        make(&place, true).await;
        let job = job(&place, changed(json!({"overlap": 600})), json!({"writeMode": "upsert"}));
        change(&place, 1).await;
        bench.run_ok(&job).await;
        // Stamped a minute ago, by a transaction that commits only now; and one that is older than the overlap.
        let ago = |seconds: u32| match place.plugin() {
            "postgresql" => format!("clock_timestamp() - interval '{seconds} s'"),
            "mysql" => format!("now(6) - INTERVAL {seconds} SECOND"),
            _ => format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '-{seconds} seconds')"),
        };
        place.execute(&format!("INSERT INTO src VALUES (9001, 'late', 2, {})", ago(60))).await;
        place.execute(&format!("INSERT INTO src VALUES (9002, 'too late', 2, {})", ago(3600))).await;
        place.settle().await;
        let report = bench.run_ok(&job).await;
        assert_eq!(report.rows_read, 51, "those of the overlap once more, and the late one");
        place.execute("INSERT INTO due SELECT * FROM src WHERE id <> 9002").await;
        assert_equal(&place, "after the late row").await;
        bench.run_ok(&job).await;
        assert_equal(&place, "after one more run").await;
        let appending = job_in(&job, "append");
        let refused = bench.plan(&appending).await.unwrap_err();
        assert!(refused.kind() == ErrorKind::Unsupported && refused.message().contains("overlap"), "{refused}");
        assert_ne!(bench.run(&appending).await.status, Status::Succeeded);
        // The rows of the last minutes are left for later.
        let patient = self::job(&place, changed(json!({"delay": 1800})), json!({"writeMode": "upsert"}));
        let fresh = Bench::new();
        assert_eq!(fresh.run_ok(&patient).await.rows_read, 1, "only the one of an hour ago");
    }
}

fn job_in(job: &Value, mode: &str) -> Value {
    let mut job = job.clone();
    job["job"]["content"][0]["writer"]["parameter"]["writeMode"] = mode.into();
    job
}

#[tokio::test]
async fn a_run_that_fails_moves_no_watermark() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "failing").await {
        let bench = Bench::new();
        make(&place, true).await;
        let job = job(&place, changed(json!({})), json!({"writeMode": "upsert"}));
        change(&place, 1).await;
        bench.run_ok(&job).await;
        let before = bench.watermarks().await;
        change(&place, 2).await;
        place.execute("DROP TABLE dst").await;
        let strict = {
            let mut job = job.clone();
            job["job"]["content"][0]["writer"]["parameter"]["createTable"] = false.into();
            job
        };
        assert_eq!(bench.run(&strict).await.status, Status::Failed);
        assert_eq!(bench.watermarks().await, before);
        let stopped = bench.options();
        stopped.cancel.cancel();
        assert_eq!(weir::run(&load(&job), stopped).await.status, Status::Stopped);
        assert_eq!(bench.watermarks().await, before);
        // Rows of the first window are gone with their table, and come again with those of the second.
        let planned = bench.plan(&job).await.unwrap();
        let told = |warnings: &[String]| warnings.iter().any(|w| w.contains("as if for the first time"));
        assert!(told(&planned.entries[0].warnings) && planned.entries[0].windows[0].low.is_none(), "{planned}");
        let report = bench.run_ok(&job).await;
        assert!(told(&report.warnings), "{:?}", report.warnings);
        place.execute("INSERT INTO due SELECT * FROM src").await;
        assert_equal(&place, "after the target was made again").await;
        assert_ne!(bench.watermarks().await, before);
        // One of another name, that of the day perhaps, gets its window, and a word about it.
        change(&place, 3).await;
        let mut other = job.clone();
        other["job"]["content"][0]["writer"]["parameter"]["table"] = "dst_of_today".into();
        let planned = bench.plan(&other).await.unwrap();
        assert!(planned.entries[0].warnings.iter().any(|w| w.contains("--full")), "{planned}");
        assert!(planned.entries[0].windows[0].low.is_some(), "{planned}");
    }
}

#[tokio::test]
async fn a_target_that_the_first_run_makes_is_the_same_in_the_next() {
    let bench = Bench::new();
    for place in Place::all(bench.0.path(), "made").await {
        let bench = Bench::new();
        make(&place, true).await;
        place.execute("DROP TABLE dst").await;
        let job = job(&place, changed(json!({})), json!({"writeMode": "upsert"}));
        for round in 1..=2 {
            change(&place, round).await;
            let read = bench.run_ok(&job).await.rows_read;
            assert!((50..60).contains(&read), "{}: {read} rows in round {round}", place.plugin());
        }
        place.execute("INSERT INTO due SELECT * FROM src").await;
        assert_equal(&place, "in the end").await;
    }
}

#[tokio::test]
async fn two_entries_of_one_source_have_a_watermark_each() {
    let bench = Bench::new();
    let place = Place::sqlite(bench.0.path(), "twice");
    make(&place, true).await;
    place.execute("CREATE TABLE dst2 AS SELECT * FROM dst").await;
    let mut both = job(&place, changed(json!({})), json!({"writeMode": "append"}));
    let mut other = both["job"]["content"][0].clone();
    other["reader"]["parameter"]["where"] = "id < 130".into();
    other["reader"]["parameter"]["incremental"]["delay"] = 3600.into();
    other["writer"]["parameter"]["table"] = "dst2".into();
    both["job"]["content"].as_array_mut().unwrap().push(other);
    change(&place, 1).await;
    bench.run_ok(&both).await;
    let marks = bench.watermarks().await;
    assert!(marks.len() == 2 && marks[0] > marks[1], "{marks:?}");
    assert_eq!(
        place.rows("SELECT (SELECT count(*) FROM dst), (SELECT count(*) FROM dst2)").await[0][0],
        Some("50".into())
    );
    assert_eq!(bench.run_ok(&both).await.rows_read, 0);
}

#[tokio::test]
async fn of_two_entries_neither_moves_alone_and_a_resume_doubles_nothing() {
    let bench = Bench::new();
    let place = Place::postgresql("two_entries").await;
    make(&place, false).await;
    place.execute("CREATE TABLE dst2 (LIKE dst); CREATE TABLE src2 (LIKE src INCLUDING ALL)").await;
    let mut job = job(&place, changed(json!({})), json!({"writeMode": "append"}));
    let second = json!({
        "reader": {"name": "postgresql", "parameter": place.parameter("src2", changed(json!({})))},
        "writer": {"name": "postgresql", "parameter": place.parameter("dst2", json!({"writeMode": "append"}))},
    });
    job["job"]["content"].as_array_mut().unwrap().push(second);
    change(&place, 1).await;
    place.execute("INSERT INTO src2 SELECT * FROM src; INSERT INTO due SELECT * FROM src").await;
    // A value that the target refuses.
    place.execute("ALTER TABLE dst2 ADD CONSTRAINT small CHECK (id < 140)").await;
    let report = bench.run(&job).await;
    assert_eq!(report.status, Status::PartiallyFailed);
    assert!(bench.watermarks().await.is_empty());
    // What changed meanwhile belongs to the next window.
    change(&place, 2).await;
    place.execute("ALTER TABLE dst2 DROP CONSTRAINT small").await;
    let again = weir::run(&load(&job), bench.options()).await;
    assert_eq!(again.error.unwrap().kind, ErrorKind::Conflict, "rows of the first table are there for good");
    let resumed = weir::run(&load(&job), RunOptions { start: Start::Resume, ..bench.options() }).await;
    assert_eq!(resumed.status, Status::Succeeded, "{:#?}", resumed.error);
    assert_equal(&place, "after the resume").await;
    place.execute("INSERT INTO due SELECT * FROM src WHERE round = 2").await;
    bench.run_ok(&job).await;
    assert_equal(&place, "after the next run").await;
    assert_eq!(place.rows("SELECT count(*) FROM dst2").await, [[Some("50".into())]]);
}
