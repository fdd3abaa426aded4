//! A ledger that cannot be written at the very moment when something has happened for good.

use serde_json::{Value, json};

use super::{Place, sqlite};
use crate::support::job_of;

const ROWS: usize = 1_000;

/// From now on the ledger does not take this change.
async fn deafen(place: &Place, change: &str) {
    let trigger = format!("CREATE TRIGGER deaf BEFORE UPDATE OF {change} BEGIN SELECT RAISE(ABORT, 'no room'); END");
    sqlite(&place.path("state/ledger.db"), &trigger).await;
}

async fn mend(place: &Place) {
    sqlite(&place.path("state/ledger.db"), "DROP TRIGGER deaf").await;
}

/// How many rows there are to be read.
fn rows(place: &Place, plugin: &str, from: Value) -> usize {
    let job = job_of(plugin, from, "files", json!({"path": "read.csv", "header": false, "writeMode": "truncate"}));
    std::fs::write(place.path("read.json"), job.to_string()).unwrap();
    place.ok(&["run", "read.json", "--state-dir", "off"]);
    std::fs::read_to_string(place.path("read.csv")).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_not_taken_for_unpublished() {
    for (plugin, to) in [
        ("files", json!({"path": "lake", "format": "parquet", "writeMode": "append"})),
        ("lakehouse", json!({"path": "lake", "writeMode": "append"})),
    ] {
        let place = Place::new();
        let column = json!({"column": [{"incr": "1,1", "type": "long"}], "sliceRecordCount": ROWS});
        let mut job = job_of("stream", column, plugin, to.clone());
        job["job"]["setting"] = json!({"speed": {"channel": 1}});
        place.job(&job);
        place.report(&[]);
        let mut from = to;
        from.as_object_mut().unwrap().remove("writeMode");
        assert_eq!(rows(&place, plugin, from.clone()), ROWS);

        deafen(&place, "committed ON entries").await;
        let words = ["published, but the ledger could not say so", "--resume"];
        place.fails(&["run", "job.json", "--report", "report.json"], 1, &words);
        assert_eq!(place.last_report()["rows_written"], json!(ROWS), "{plugin}: they are there");
        assert_eq!(rows(&place, plugin, from.clone()), 2 * ROWS);
        mend(&place).await;
        place.fails(&["run", "job.json"], 1, &["its rows are in", "for good", "--resume", "--fresh"]);
        let report = place.report(&["--resume"]);
        assert_eq!(report["rows_written"], json!(ROWS), "{plugin}");
        assert_eq!(rows(&place, plugin, from), 2 * ROWS, "{plugin}");
    }
}

/// A job that tolerates the rows of its source that are no numbers.
fn tolerant(place: &Place, bad: usize) {
    let line = |n| if n < bad { format!("{n},x\n") } else { format!("{n},{n}\n") };
    std::fs::write(place.path("in.csv"), (0..ROWS).map(line).collect::<String>()).unwrap();
    let columns = json!([{"name": "id", "index": 0, "type": "long"}, {"name": "n", "index": 1, "type": "long"}]);
    let from = json!({"path": "in.csv", "header": false, "column": columns});
    let mut job = job_of("files", from, "sqlite", json!({"path": "to.db", "table": "t", "writeMode": "append"}));
    job["job"]["setting"] = json!({"errorLimit": "unlimited"});
    place.job(&job);
}

/// What is in the folder of quarantine files, and the rows of the first.
fn quarantined(place: &Place) -> (Vec<String>, usize) {
    let folder = place.path("state/quarantine");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    let rows = std::fs::read_to_string(folder.join(&names[0])).unwrap().lines().count();
    (names, rows)
}

/// As after a death between the last row and the last word.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_an_end_keeps_its_dirty_rows() {
    let place = Place::new();
    tolerant(&place, 0);
    place.report(&[]);
    tolerant(&place, 7);
    deafen(&place, "finished_at ON runs").await;
    place.call(&["run", "job.json", "--report", "report.json"]);
    let run_id = place.last_report()["run_id"].as_str().unwrap().to_owned();
    let (names, rows) = quarantined(&place);
    assert_eq!((names.len(), rows), (2, 7), "the file and a part for the resume: {names:?}");
    mend(&place).await;
    let report = place.report(&["--resume"]);
    assert_eq!((&report["run_id"], &report["rows_dirty"]), (&json!(run_id), &json!(7)), "{report:#}");
    assert_eq!(quarantined(&place), (vec![format!("{run_id}.jsonl")], 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_end_is_not_on_record_has_not_ended() {
    let place = Place::new();
    tolerant(&place, 0);
    place.report(&[]);
    deafen(&place, "finished_at ON runs").await;
    let words = ["the end of the run is not in the ledger", "everything is at the target", "--resume"];
    let call = ["run", "job.json", "--run-id", "second", "--report", "report.json"];
    place.fails(&call, 1, &words);
    assert_eq!(
        (&place.last_report()["status"], &place.last_report()["rows_written"]),
        (&json!("failed"), &json!(ROWS))
    );
    assert_eq!(place.json(&["runs", "second"])["status"], json!("interrupted"));
    mend(&place).await;
    place.ok(&call);
    assert_eq!(place.json(&["runs", "second"])["status"], json!("succeeded"));
    assert_eq!(rows(&place, "sqlite", json!({"path": "to.db", "table": "t"})), 2 * ROWS);
}
