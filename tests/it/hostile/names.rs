//! What a call and a target know of a run by its name: entries of several runs, parameters and times of the first call.

use serde_json::{Value, json};

use super::{Place, sqlite, sqlite_row};
use crate::support::job_of;

const TABLES: u64 = 5;
const ROWS: u64 = 300;

/// Two entries that append, the first with several splits, slowly enough to be caught in the middle of it.
fn two_entries(name: &str) -> Value {
    let entry = |tables: Vec<String>, to: &str| {
        json!({
            "reader": {"name": "sqlite", "parameter": {"path": "from.db", "table": tables}},
            "writer": {"name": "sqlite", "parameter": {"path": "to.db", "table": to, "writeMode": "append"}},
        })
    };
    let content = [entry((0..TABLES).map(|n| format!("t{n}")).collect(), "t"), entry(vec!["t0".into()], "u")];
    json!({"job": {"name": name, "setting": {"speed": {"channel": 1, "record": 800}}, "content": content}})
}

async fn place() -> Place {
    let place = Place::new();
    let one = |n| {
        format!(
            "CREATE TABLE t{n} (id INTEGER PRIMARY KEY, v TEXT);\n\
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})\n\
             INSERT INTO t{n} SELECT i + {}, 'value ' || i FROM n;\n",
            n * ROWS
        )
    };
    sqlite(&place.path("from.db"), &(0..TABLES).map(one).collect::<String>()).await;
    let sql = "CREATE TABLE t (id INTEGER, v TEXT); CREATE TABLE u (id INTEGER, v TEXT);";
    sqlite(&place.path("to.db"), sql).await;
    place
}

async fn rows(place: &Place) -> String {
    let sql = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || (SELECT count(*) FROM u) FROM t";
    sqlite_row(&place.path("to.db"), sql).await
}

/// A run whose id looked like that of an entry of another run took that one's records back.
#[tokio::test(flavor = "multi_thread")]
async fn no_run_id_is_that_of_another_runs_entry() {
    let place = place().await;
    place.job(&two_entries("monthly"));
    let first = place.start(&["run", "job.json", "--run-id", "2026-11"]);
    place.landed_of("2026-11", 2);
    first.kill();
    let mut other = job_of(
        "sqlite",
        json!({"path": "from.db", "table": "t1"}),
        "sqlite",
        json!({"path": "to.db", "table": "other", "writeMode": "overwrite"}),
    );
    other["job"]["name"] = "other".into();
    std::fs::write(place.path("other.json"), other.to_string()).unwrap();
    let ended = place.ok(&["run", "other.json", "--run-id", "2026-11-0"]);
    assert!(!ended.err.contains("starts again"), "{}", ended.err);
    place.ok(&["run", "job.json", "--run-id", "2026-11"]);
    assert_eq!(rows(&place).await, format!("{0} {0} {ROWS}", TABLES * ROWS));
}

/// Before, a hyphen stood between a run and its entry, and what has begun so goes on so.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_an_earlier_version_began_goes_on_under_its_old_names() {
    let place = place().await;
    place.job(&two_entries("monthly"));
    let call = ["run", "job.json", "--run-id", "old"];
    let first = place.start(&call);
    place.landed_of("old", 2);
    first.kill();
    sqlite(&place.path("to.db"), "UPDATE weir_commits SET run_id = 'old-0' WHERE run_id = 'old!0'").await;
    sqlite(&place.path("state/ledger.db"), "UPDATE entries SET spec = replace(spec, 'old!0', 'old-0')").await;
    place.ok(&call);
    assert_eq!(rows(&place).await, format!("{0} {0} {ROWS}", TABLES * ROWS));
    assert_eq!(sqlite_row(&place.path("to.db"), "SELECT '' || count(*) FROM weir_commits").await, "0");
}

/// A secret is written down nowhere, so that a call that goes on has to bring it along.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_secret_parameter_goes_on_and_does_not_tell_it() {
    let place = place().await;
    place.job(&two_entries("nightly"));
    let call = |rest: &[&'static str]| [&["run", "job.json", "--run-id", "secret"], rest].concat();
    let first = place.start(&call(&["-p", "password=geheim", "-p", "word=a"]));
    place.landed_of("secret", 1);
    first.kill();
    let silent = |ended: super::Ended| assert!(!ended.err.contains("geheim") && !ended.out.contains("geheim"));
    silent(place.fails(&call(&["-p", "word=a"]), 2, &["password", "give it again", "-p password="]));
    silent(place.fails(&call(&["-p", "password=geheim", "-p", "word=b"]), 2, &["word=b", "begun with"]));
    silent(place.fails(&call(&["-p", "password=geheim", "-p", "pwd=geheim"]), 2, &["pwd=***", "begun with"]));
    let other = ["run", "job.json", "--resume", "-p", "password=another geheim"];
    silent(place.ok(&other));
    assert_eq!(rows(&place).await, format!("{0} {0} {ROWS}", TABLES * ROWS));
    let ledger = std::fs::read(place.path("state/ledger.db")).unwrap();
    assert!(!ledger.windows(6).any(|bytes| bytes == b"geheim"));
}

/// The name of the job is known only with the date that the run was begun with.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_job_with_a_date_in_its_name_is_reported_again() {
    let place = place().await;
    place.job(&two_entries("nightly ${yyyymmdd}"));
    let call = |rest: &[&'static str]| [&["run", "job.json", "--report", "report.json"], rest].concat();
    place.ok(&call(&["--run-id", "dated", "--at", "2025-11-02"]));
    let report = place.last_report();
    assert_eq!(report["job"], "nightly 20251101");
    for at in [&[][..], &["--at", "2025-11-02"], &["--at", "2025-11-02T00:00"]] {
        place.ok(&[&call(&["--run-id", "dated"]), at].concat());
        assert_eq!(place.last_report(), report);
    }
    assert_eq!(rows(&place).await, format!("{0} {0} {ROWS}", TABLES * ROWS));
    place.fails(&call(&["--run-id", "dated", "--at", "2025-11-03"]), 2, &["--at 2025-11-03", "begun with, 2025-11-02"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_go_on_with_another_time() {
    let place = place().await;
    place.job(&two_entries("nightly"));
    let first = place.start(&["run", "job.json", "--at", "2025-11-02"]);
    place.landed(1);
    first.kill();
    let resume = ["run", "job.json", "--resume", "--at"];
    place.fails(&[&resume[..], &["2025-11-03"]].concat(), 2, &["--at 2025-11-03", "begun with, 2025-11-02"]);
    place.ok(&[&resume[..], &["2025-11-02T00:00:00"]].concat());
    assert_eq!(rows(&place).await, format!("{0} {0} {ROWS}", TABLES * ROWS));
}

/// What a run could not let its target forget, the next one does.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_run_that_succeeded_go_with_a_later_one() {
    let place = place().await;
    let mut job = two_entries("nightly");
    job["job"]["setting"] = json!({"speed": {"channel": 1}});
    place.job(&job);
    place.report(&[]);
    let records = || async { sqlite_row(&place.path("to.db"), "SELECT '' || count(*) FROM weir_commits").await };
    assert_eq!(records().await, "0");
    let keep = "CREATE TRIGGER keep BEFORE DELETE ON weir_commits BEGIN SELECT RAISE(ABORT, 'kept'); END";
    sqlite(&place.path("to.db"), keep).await;
    place.report(&[]);
    assert_ne!(records().await, "0");
    sqlite(&place.path("to.db"), "DROP TRIGGER keep").await;
    place.report(&[]);
    assert_eq!(records().await, "0");
    let litter = "SELECT '' || count(*) FROM litter";
    assert_eq!(sqlite_row(&place.path("state/ledger.db"), litter).await, "0");
}

/// The second one finds the table that the first one has created, and its rows belong there too.
#[tokio::test(flavor = "multi_thread")]
async fn two_entries_append_to_one_new_delta_table() {
    let place = place().await;
    let entry = |table: &str| {
        json!({
            "reader": {"name": "sqlite", "parameter": {"path": "from.db", "table": table}},
            "writer": {"name": "lakehouse", "parameter": {"path": "lake", "writeMode": "append"}},
        })
    };
    for channels in [1, 2] {
        let setting = json!({"speed": {"channel": channels}});
        let content = [entry("t0"), entry("t1"), entry("t2")];
        place.job(&json!({"job": {"name": "lake", "setting": setting, "content": content}}));
        let report = place.report(&[]);
        assert_eq!(report["rows_written"], json!(3 * ROWS), "{report:#}");
        place.job(&job_of(
            "lakehouse",
            json!({"path": "lake"}),
            "sqlite",
            json!({"path": "to.db", "table": "back", "writeMode": "overwrite"}),
        ));
        assert_eq!(place.report(&[])["rows_written"], json!(3 * ROWS));
        std::fs::remove_dir_all(place.path("lake")).unwrap();
    }
}
