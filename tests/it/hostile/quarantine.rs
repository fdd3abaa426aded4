//! The files of dirty rows of runs that are killed, go on elsewhere, and meet files of others.

use serde_json::{Value, json};

use super::{Place, sqlite};
use crate::support::job_of;

const TABLES: usize = 6;
const ROWS: usize = 400;
/// Rows of each table that are no numbers.
const BAD: usize = 3;

/// Several tables into one, a split each and one after the other, slowly enough to be caught in the middle; a few rows of each
/// cannot be converted.
async fn place() -> Place {
    let place = Place::new();
    let table = |n: usize| {
        format!(
            "CREATE TABLE t{n} (id INTEGER PRIMARY KEY, v TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO t{n} SELECT i + {}, CASE WHEN i <= {BAD} THEN 'no number' ELSE '' || i END FROM n;",
            n * ROWS
        )
    };
    sqlite(&place.path("from.db"), &(0..TABLES).map(table).collect::<String>()).await;
    sqlite(&place.path("to.db"), "CREATE TABLE t (id INTEGER, v INTEGER) STRICT").await;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("t{n}")).collect();
    let to = json!({"path": "to.db", "table": "t", "writeMode": "append"});
    let mut job = job_of("sqlite", json!({"path": "from.db", "table": tables}), "sqlite", to);
    job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 800}, "errorLimit": "unlimited"});
    place.job(&job);
    place
}

/// The `id`s of the dirty rows in a file, in order.
fn dirty(place: &Place, name: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    let id = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["values"]["id"].as_str().unwrap().parse().unwrap()
    };
    let mut ids: Vec<u64> = text.lines().map(id).collect();
    ids.sort_unstable();
    ids
}

fn all() -> Vec<u64> {
    (0..TABLES).flat_map(|n| (1..=BAD).map(move |id| (n * ROWS + id) as u64)).collect()
}

/// What is in a folder beside the file itself.
fn others(place: &Place, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place.path(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name != "q.jsonl").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_another_file_of_dirty_rows() {
    let place = place().await;
    let first = place.start(&["run", "job.json", "--quarantine", "a/q.jsonl"]);
    let run_id = place.landed(2);
    first.kill();
    let second = place.start(&["run", "job.json", "--quarantine", "b/q.jsonl", "--resume"]);
    place.landed_of(&run_id, 4);
    second.kill();
    let report = place.report(&["--quarantine", "a/q.jsonl", "--resume"]);
    assert_eq!(report["rows_dirty"], json!(TABLES * BAD), "{report:#}");
    assert_eq!(dirty(&place, "a/q.jsonl"), all());
    assert_eq!((others(&place, "a"), others(&place, "b")), (vec![], vec![]), "parts of killed attempts stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_an_earlier_call_has_tolerated_count_for_the_limit_of_the_next() {
    let place = place().await;
    // All dirty rows are in tables that land before the run is killed.
    let clean = (2..TABLES).map(|n| format!("UPDATE t{n} SET v = '0';")).collect::<String>();
    sqlite(&place.path("from.db"), &clean).await;
    let first = place.start(&["run", "job.json"]);
    place.landed(2);
    first.kill();
    let limit = ["run", "job.json", "--resume", "--error-limit"];
    for most in ["0", "5"] {
        place.fails(
            &[&limit[..], &[most]].concat(),
            1,
            &[&format!("6 dirty rows where errorLimit.record allows {most}")],
        );
    }
    place.ok(&[&limit[..], &["6"]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_dirty_rows_of_another_run_is_kept_beside() {
    let place = place().await;
    let call = ["run", "job.json", "--quarantine", "q.jsonl"];
    place.ok(&call);
    let (before, run_id) = (dirty(&place, "q.jsonl"), place.json(&["runs"])[0]["run_id"].as_str().unwrap().to_owned());
    assert_eq!(before, all());
    // Two runs on, each one's rows are there.
    let mut earlier = vec![run_id];
    for more in [&["--fresh"][..], &["--state-dir", "off"]] {
        place.ok(&[&call[..], more].concat());
        assert_eq!(dirty(&place, "q.jsonl"), before);
        for run_id in &earlier {
            assert_eq!(dirty(&place, &format!("q.jsonl.{run_id}")), before);
        }
        earlier.push(place.json(&["runs"])[0]["run_id"].as_str().unwrap().to_owned());
    }
    // What is none of ours is not touched.
    std::fs::write(place.path("notes.txt"), "mine").unwrap();
    place.fails(&["run", "job.json", "--quarantine", "notes.txt"], 2, &["notes.txt holds something else"]);
    assert_eq!(std::fs::read_to_string(place.path("notes.txt")).unwrap(), "mine");
}

/// Of rows that were mended at the source none is dirty in the end, and parts of runs of other names are not of this one.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_counts_stays() {
    let place = place().await;
    let run_id = "of-2025";
    let call = ["run", "job.json", "--quarantine", "a/q.jsonl", "--run-id", run_id];
    std::fs::create_dir(place.path("a")).unwrap();
    let of_others =
        ["q.jsonl.of-2025-0-0-0-1-77.part", "q.jsonl.x.of-2025-0-0-1-77.part", "z.jsonl.of-2025-0-0-1-77.part"];
    let of_this = ["q.jsonl.of-2025-0-0-1-77.part", "q.jsonl.of-2025.joining"];
    for name in of_others.iter().chain(&of_this) {
        std::fs::write(place.path("a").join(name), "").unwrap();
    }
    place.fails(&[&call[..], &["--error-limit", "0"]].concat(), 1, &["1 dirty row where"]);
    assert_eq!(dirty(&place, "a/q.jsonl").len(), 1);
    sqlite(&place.path("from.db"), &(0..TABLES).map(|n| format!("UPDATE t{n} SET v = '0';")).collect::<String>()).await;
    place.ok(&call);
    let mut left = others(&place, "a");
    left.sort();
    let mut expected = of_others.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(left, expected);
    assert!(!place.path("a/q.jsonl").exists(), "its row is no dirty one any more");
}
