//! Runs that meet, die, go on and start over; an append job is the hard case, for its rows are visible split by split.

use serde_json::{Value, json};

use super::{Place, sqlite, sqlite_row};

const TABLES: u64 = 6;
const ROWS: u64 = 600;
const ALL: u64 = TABLES * ROWS;

/// Several tables into one, a split each and one after the other, slowly enough to be caught in the middle.
fn job(condition: &str) -> Value {
    let tables: Vec<_> = (0..TABLES).map(|n| format!("t{n}")).collect();
    json!({"job": {"name": "nightly", "setting": {"speed": {"channel": 1, "record": 800}}, "content": [{
        "reader": {"name": "sqlite", "parameter": {"path": "from.db", "table": tables, "where": condition}},
        "writer": {"name": "sqlite", "parameter": {"path": "to.db", "table": "t", "writeMode": "append",
            "mapping": [{"from": "id", "to": "id"}, {"from": "v", "to": "v"},
                {"value": "${word}", "to": "word"}, {"value": "$bizdate", "to": "day"}]}},
    }]}})
}

async fn place() -> Place {
    let place = Place::new();
    let mut sql = String::new();
    for n in 0..TABLES {
        sql += &format!(
            "CREATE TABLE t{n} (id INTEGER PRIMARY KEY, v TEXT);\n\
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})\n\
             INSERT INTO t{n} SELECT i + {}, 'value ' || i FROM n;\n",
            n * ROWS
        );
    }
    sqlite(&place.path("from.db"), &sql).await;
    sqlite(&place.path("to.db"), "CREATE TABLE t (id INTEGER, v TEXT, word TEXT, day TEXT)").await;
    place.job(&job("id > 0"));
    place
}

/// rows, distinct keys, words, days
async fn target(place: &Place) -> String {
    let sql = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || group_concat(DISTINCT word) || ' ' || \
               group_concat(DISTINCT day) FROM t";
    sqlite_row(&place.path("to.db"), sql).await
}

const FIRST: [&str; 6] = ["run", "job.json", "-p", "word=first", "--at", "2025-11-02T00:00:00+00:00"];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_goes_on_exactly_once_and_nothing_else_may_happen_meanwhile() {
    let place = place().await;
    let first = place.start(&FIRST);
    let run_id = place.landed(2);

    // Two at once: also by another way to the same job.
    let holder = format!("run {run_id}, process {}, since 2", first.child.id());
    place.fails(&["run", "job.json", "-p", "word=other"], 1, &["another run of this job is going on", &holder]);
    place.fails(&["run", "./job.json", "--resume"], 1, &["another run of this job is going on"]);
    let shown = place.json(&["runs", &run_id]);
    assert_eq!((&shown["status"], &shown["splits"][0]["splits"]), (&json!("running"), &json!(TABLES)), "{shown}");
    assert_eq!((&shown["job"], &shown["parameters"]["word"]), (&json!("nightly"), &json!("first")));
    let text = place.ok(&["runs", &run_id]).out;
    assert!(text.contains("running") && text.contains("word=first") && text.contains("/6"), "{text}");
    first.kill();
    assert_eq!(place.json(&["runs", &run_id])["status"], "interrupted");

    // A plain run would write the landed rows twice.
    let plain = ["run", "job.json", "-p", "word=other"];
    place.fails(&plain, 1, &["--resume", "--fresh", "of its 6 splits", &run_id]);
    // Another job under the same name.
    place.job(&job("id > 1"));
    place.fails(&["run", "job.json", "--resume"], 1, &["/0/reader/parameter/where", "--fresh"]);
    place.job(&job("id > 0"));
    // Another source.
    sqlite(
        &place.path("from.db"),
        &(0..TABLES).map(|n| format!("ALTER TABLE t{n} ADD COLUMN extra TEXT;")).collect::<String>(),
    )
    .await;
    place.fails(&["run", "job.json", "--resume"], 1, &["extra", "--fresh"]);
    sqlite(
        &place.path("from.db"),
        &(0..TABLES).map(|n| format!("ALTER TABLE t{n} DROP COLUMN extra;")).collect::<String>(),
    )
    .await;
    // Other parameters.
    place.fails(&["run", "job.json", "--resume", "-p", "word=other"], 2, &["word=other", "begun with"]);

    let report = place.report(&["--resume"]);
    assert_eq!(report["run_id"], json!(run_id));
    assert_eq!((&report["rows_read"], &report["rows_written"]), (&json!(ALL), &json!(ALL)), "{report:#}");
    assert_eq!((&report["at"], &report["parameters"]["word"]), (&json!("2025-11-02T00:00:00+00:00"), &json!("first")));
    assert_eq!(report["tables"].as_array().unwrap().len() as u64, TABLES);
    assert_eq!(target(&place).await, format!("{ALL} {ALL} first 20251101"));

    let shown = place.json(&["runs", &run_id]);
    assert_eq!((&shown["status"], &shown["report"]["rows_written"]), (&json!("succeeded"), &json!(ALL)));
    let list = place.ok(&["runs"]).out;
    assert!(list.contains(&run_id) && list.contains("succeeded") && list.contains("3,600"), "{list}");
    place.fails(&["runs", "no-such-run"], 1, &["no-such-run", "weir runs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_starts_over_knowingly() {
    let place = place().await;
    let first = place.start(&FIRST);
    place.landed(2);
    first.kill();
    let landed: u64 = sqlite_row(&place.path("to.db"), "SELECT '' || count(*) FROM t").await.parse().unwrap();
    assert!((2 * ROWS..ALL).contains(&landed), "{landed}");
    let report = place.report(&["-p", "word=second", "--fresh"]);
    assert_eq!(report["rows_written"], json!(ALL));
    assert_eq!(target(&place).await.split(' ').next().unwrap(), (landed + ALL).to_string());
    // Given up is given up: nothing is left to resume, and a plain run is free.
    let runs = place.json(&["runs"]);
    let status = |n: usize| runs[n]["status"].as_str().unwrap().to_owned();
    assert_eq!((status(0), status(1)), ("succeeded".into(), "abandoned".into()));
    let records = "SELECT '' || count(*) FROM weir_commits";
    assert_eq!(sqlite_row(&place.path("to.db"), records).await, "0", "records of the given-up run stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_is_once_however_often_it_is_called() {
    let place = place().await;
    let call = [&FIRST[..], &["--run-id", "orders-20251101", "--report", "report.json"]].concat();
    let first = place.start(&call);
    place.landed(1);
    place.fails(&call, 1, &["another run of this job is going on"]);
    first.kill();
    assert_eq!(place.ok(&call).code, Some(0));
    let report = place.last_report();
    assert_eq!((&report["run_id"], &report["rows_written"]), (&json!("orders-20251101"), &json!(ALL)));
    // A second call is not a second run: it does not even look at the source.
    std::fs::rename(place.path("from.db"), place.path("away.db")).unwrap();
    std::fs::remove_file(place.path("report.json")).unwrap();
    place.ok(&call);
    assert_eq!(place.last_report(), report);
    assert_eq!(target(&place).await, format!("{ALL} {ALL} first 20251101"));
    place.fails(&["run", "job.json", "-p", "word=first", "--run-id", "a b"], 2, &["a b"]);
}

/// A scheduler asks again for yesterday while today is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_run_id_is_reported_while_another_run_of_the_job_is_at_work() {
    let place = place().await;
    let call = [&FIRST[..], &["--run-id", "d-1", "--report", "report.json"]].concat();
    place.ok(&call);
    let report = place.last_report();
    let today = place.start(&[&FIRST[..], &["--run-id", "d-2"]].concat());
    place.landed_of("d-2", 1);
    std::fs::remove_file(place.path("report.json")).unwrap();
    place.ok(&call);
    assert_eq!(place.last_report(), report);
    place.fails(&[&FIRST[..], &["--run-id", "d-3"]].concat(), 1, &["another run of this job is going on"]);
    today.kill();
}

/// A pod whose state folder is gone with it, or another machine, calls with the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_that_only_the_target_knows_doubles_nothing() {
    let place = place().await;
    let call = [&FIRST[..], &["--run-id", "lost"]].concat();
    let elsewhere = [&call[..], &["--state-dir", "elsewhere"]].concat();
    let first = place.start(&call);
    place.landed(2);
    first.kill();
    let before = target(&place).await;
    for _ in 0..2 {
        place.fails(&elsewhere, 1, &["splits of run lost already", "this state folder knows nothing", "new --run-id"]);
        assert_eq!(target(&place).await, before);
    }
    place.ok(&call);
    assert_eq!(target(&place).await, format!("{ALL} {ALL} first 20251101"));
    // Where nothing remembers a name it is none.
    place.fails(&[&call[..], &["--state-dir", "off"]].concat(), 2, &["run id", "--state-dir"]);
}

/// As above; what is only staged is no reason to refuse.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_ledger_has_staged_is_taken_back() {
    let place = place().await;
    let overwrites = job("id > 0").to_string().replace("\"append\"", "\"overwrite\"");
    std::fs::write(place.path("job.json"), overwrites).unwrap();
    let call = [&FIRST[..], &["--run-id", "lost"]].concat();
    let first = place.start(&call);
    place.landed(2);
    first.kill();
    std::fs::remove_dir_all(place.path("state")).unwrap();
    assert_eq!(super::lease::age_files(place.folder.path()), 1);
    let again = place.ok(&call);
    assert!(again.err.contains("starts again: what run lost has staged was planned elsewhere"), "{}", again.err);
    assert_eq!(target(&place).await, format!("{ALL} {ALL} first 20251101"));
}

/// The clock decides nothing: not which run of a job is the last unfinished one, either. (Progress, limits, timeouts and
/// retries use monotonic time; the wall clock is in reports and in the scheduled time only.)
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_hides_no_unfinished_run() {
    let place = place().await;
    // Yesterday's run has succeeded in a future that the clock has left again.
    let quick = job("id <= 10").to_string().replace(",\"record\":800", "");
    std::fs::write(place.path("job.json"), quick).unwrap();
    place.report(&["-p", "word=zero"]);
    sqlite(&place.path("state/ledger.db"), "UPDATE runs SET started_at = '2999-01-01T00:00:00.000Z'").await;
    place.job(&job("id > 0"));
    let first = place.start(&FIRST);
    // It is not the first of the list, which goes by the time of day.
    let begun = std::time::Instant::now();
    loop {
        let runs = place.json(&["runs"]);
        let of = |run: &Value| run["status"] == "running" && run["splits"][0]["finished"].as_u64() >= Some(2);
        if runs.as_array().unwrap().iter().any(of) {
            break;
        }
        assert!(begun.elapsed() < super::PATIENCE, "{runs}");
    }
    first.kill();
    place.fails(&["run", "job.json", "-p", "word=other"], 1, &["--resume", "--fresh"]);
    let report = place.report(&["--resume"]);
    assert_eq!((&report["rows_written"], &report["parameters"]["word"]), (&json!(ALL), &json!("first")));
}
