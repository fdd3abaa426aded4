//! Limits of rows and bytes per second that are kept, from the first second on, whatever the rows come from and go to.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir::{Event, Observer, Quarantine, RunOptions};
use weir_plugins_test::{Stopwatch, servers};

use crate::support::{job_of, load};

/// How long a run is watched; then it is stopped.
const WATCHED: Duration = Duration::from_millis(10_600);

/// Rows and bytes so far, each time the run tells them.
#[derive(Default)]
struct Meter {
    told: Mutex<Told>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Told {
    begun: Option<Instant>,
    splits: usize,
    amounts: Vec<(f64, u64, u64)>,
}

impl Observer for Meter {
    fn event(&self, event: &Event<'_>) {
        let mut told = self.told.lock().unwrap();
        match event {
            Event::SplitStarted { .. } => {
                told.splits += 1;
                told.begun.get_or_insert_with(Instant::now);
            }
            Event::Progress { total, .. } => {
                let Some(begun) = told.begun else { return };
                if begun.elapsed() > WATCHED {
                    return self.stop.cancel();
                }
                told.amounts.push((begun.elapsed().as_secs_f64(), total.rows_read, total.bytes_read));
            }
            _ => {}
        }
    }
}

/// Runs a job that takes longer with three channels for ten seconds; what it had read by when, and for which part of the time
/// somebody waited for a processor.
async fn ten_seconds(mut job: Value, speed: (&str, u64)) -> (Vec<(f64, u64, u64)>, f64) {
    job["job"]["setting"]["speed"] = json!({"channel": 3, speed.0: speed.1});
    let meter = std::sync::Arc::new(Meter::default());
    let options = RunOptions {
        observer: meter.clone(),
        cancel: meter.stop.clone(),
        quarantine: Quarantine::Off,
        ..RunOptions::default()
    };
    let watch = Stopwatch::start();
    let report = weir::run(&load(&job), options).await;
    let waited = watch.waited().div_duration_f64(watch.elapsed());
    assert_eq!(report.status, weir::Status::Stopped, "it did not last: {:#?}", report.error);
    let mut told = meter.told.lock().unwrap();
    assert!(told.splits >= 3, "{} splits are too few for three channels", told.splits);
    (std::mem::take(&mut told.amounts), waited)
}

/// The rate over all ten seconds and over each single one, the first included, is within 3 % of the limit; a single second
/// may be off by one burst more, 100 ms worth. The lower bound counts from the first rows on: until then the source is asked.
fn is_kept(route: &str, told: &[(f64, u64)], waited: f64, limit: f64) {
    let (seconds, amount) = *told.last().unwrap();
    assert!(seconds > 9.5, "{route}: only {seconds} s");
    let off = amount as f64 / seconds / limit;
    assert!(off <= 1.03, "{route}: {amount} in {seconds} s is {off} of the limit");
    for (at, amount) in told {
        let most = limit * at * 1.03 + limit * 0.12;
        assert!(*amount as f64 <= most, "{route}: {amount} after {at} s, at most {most} allowed");
    }
    let first = told.iter().position(|(_, amount)| *amount > 0).unwrap();
    let late = if first == 0 { 0.0 } else { told[first - 1].0 };
    let used = amount as f64 / (seconds - late) / limit;
    println!("{route}: {used:.4} of the limit, from {late:.2} s on");
    let mut fault = None;
    if late > 1.0 {
        fault = Some(format!("no row in the first {late} s"));
    }
    if used < 0.97 {
        fault = Some(format!("{amount} in {seconds} s is {used} of the limit"));
    }
    for (at, amount) in told.iter().filter(|(at, _)| *at >= late + 0.5) {
        let least = limit * (at - late) * 0.97 - limit * 0.12;
        if (*amount as f64) < least {
            fault = Some(format!("{amount} after {at} s, at least {least} expected"));
        }
    }
    let Some(fault) = fault else { return };
    // What a starved thread did not move in time it may not make up for: bursts are short.
    assert!(waited > 0.1, "{route}: {fault}");
    weir_plugins_test::not_run(&format!("{route}: the machine is too busy to see that a limit is used up: {fault}"));
}

const ROWS: u64 = 20_000;
const BYTES: u64 = 1_500_000;

async fn keeps_rows(route: &str, job: Value) {
    let (told, waited) = ten_seconds(job, ("record", ROWS)).await;
    is_kept(route, &told.iter().map(|(at, rows, _)| (*at, *rows)).collect::<Vec<_>>(), waited, ROWS as f64);
}

async fn keeps_bytes(route: &str, job: Value) {
    let (told, waited) = ten_seconds(job, ("byte", BYTES)).await;
    is_kept(route, &told.iter().map(|(at, _, bytes)| (*at, *bytes)).collect::<Vec<_>>(), waited, BYTES as f64);
}

/// Rows without end.
fn endless() -> Value {
    let column = json!([{"incr": "1,1", "type": "long"}, {"random": "20,80", "type": "string"}]);
    job_of("stream", json!({"column": column, "sliceRecordCount": 1_000_000_000}), "stream", json!({}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_rows_is_kept_by_three_channels_from_the_first_second_on() {
    keeps_rows("rows that are made", endless()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_bytes_is_kept_by_three_channels_from_the_first_second_on() {
    keeps_bytes("bytes that are made", endless()).await;
}

/// More rows than ten seconds may move, under both limits.
fn table(series: &str) -> String {
    format!(
        "CREATE TABLE t (id int NOT NULL PRIMARY KEY, v varchar(100)); \
         INSERT INTO t SELECT n, repeat('x', 20 + n % 61) FROM {series}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_from_postgresql_into_parquet() {
    let database = servers::postgresql().await.fresh_database("limits").await;
    database.execute(&table("generate_series(1, 500000) s(n)")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = |name: &str| {
        let to = json!({"path": folder.path().join(name), "format": "parquet", "writeMode": "truncate"});
        job_of("postgresql", json!({"url": database.url(), "table": "t", "splitPk": "id"}), "files", to)
    };
    tokio::join!(
        keeps_rows("rows from PostgreSQL into Parquet", job("rows")),
        keeps_bytes("bytes from PostgreSQL into Parquet", job("bytes")),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_from_mariadb_into_postgresql() {
    let from = servers::mariadb().await.fresh_database("limits").await;
    for sql in table("(SELECT seq n FROM seq_1_to_500000) s").split("; ") {
        from.execute(sql).await;
    }
    let to = servers::postgresql().await.fresh_database("limits").await;
    let job = |mode: &str, table: &str| {
        let to = json!({"url": to.url(), "table": table, "writeMode": mode});
        job_of("mysql", json!({"url": from.url(), "table": "t", "splitPk": "id"}), "postgresql", to)
    };
    tokio::join!(
        keeps_rows("rows from MariaDB into PostgreSQL", job("append", "by_rows")),
        keeps_bytes("bytes from MariaDB into PostgreSQL", job("overwrite", "by_bytes")),
    );
}
