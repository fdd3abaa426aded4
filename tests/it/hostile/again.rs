//! What a call may do about an earlier run: whose run an id names, what is never written twice, what of a source may change.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Place, sqlite, sqlite_row};
use crate::support::job_of;

const TABLES: u64 = 6;
const ROWS: u64 = 400;
const ALL: u64 = TABLES * ROWS;

/// Several tables into one, a split each and one after the other, slowly enough to be caught in the middle.
async fn place(name: Option<&str>, to: Value) -> Place {
    let place = Place::new();
    let mut sql = String::new();
    for n in 0..TABLES {
        sql += &format!(
            "CREATE TABLE t{n} (id INTEGER, v TEXT, PRIMARY KEY (id));\n\
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})\n\
             INSERT INTO t{n} SELECT i + {}, 'value ' || i FROM n;\n",
            n * ROWS
        );
    }
    sqlite(&place.path("from.db"), &sql).await;
    sqlite(&place.path("to.db"), "CREATE TABLE t (id INTEGER, v TEXT)").await;
    place.job(&job(name, to));
    place
}

fn job(name: Option<&str>, mut to: Value) -> Value {
    to["path"] = "to.db".into();
    to["table"] = "t".into();
    to["mapping"] = json!([{"from": "id", "to": "id"}, {"from": "v", "to": "v"}]);
    let tables: Vec<_> = (0..TABLES).map(|n| format!("t{n}")).collect();
    let mut job = job_of("sqlite", json!({"path": "from.db", "table": tables}), "sqlite", to);
    job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 800}});
    if let Some(name) = name {
        job["job"]["name"] = name.into();
    }
    job
}

async fn rows(place: &Place) -> String {
    sqlite_row(&place.path("to.db"), "SELECT count(*) || ' ' || count(DISTINCT id) FROM t").await
}

/// Every table of the source again, with other columns.
async fn alter(place: &Place, columns: &str) {
    let one = |n| {
        format!(
            "ALTER TABLE t{n} RENAME TO old; CREATE TABLE t{n} ({columns}); INSERT INTO t{n} (id, v) SELECT id, v FROM old; \
             DROP TABLE old;"
        )
    };
    sqlite(&place.path("from.db"), &(0..TABLES).map(one).collect::<String>()).await;
}

impl Place {
    /// A call that reads `job` from stdin.
    fn piped(&self, arguments: &[&str], job: &Value) -> super::Ended {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        super::Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn to_file(name: &str) -> Value {
    job_of(
        "stream",
        json!({"column": [{"incr": "1,1", "type": "long"}], "sliceRecordCount": 10}),
        "files",
        json!({"path": name, "writeMode": "truncate"}),
    )
}

#[test]
fn a_run_id_is_of_one_job_only() {
    let place = Place::new();
    for name in ["a", "b"] {
        std::fs::write(place.path(&format!("{name}.json")), to_file(&format!("{name}.csv")).to_string()).unwrap();
    }
    place.ok(&["run", "a.json", "--run-id", "2025-11-01"]);
    place.fails(&["run", "b.json", "--run-id", "2025-11-01"], 1, &["2025-11-01", "a.json", "no other job has"]);
    assert!(!place.path("b.csv").exists());
    place.ok(&["run", "b.json", "--run-id", "2025-11-01.b"]);
    assert!(place.path("b.csv").exists());
    // Jobs on stdin are told apart by their names, and without one by what they are.
    let call = ["run", "-", "--run-id", "piped"];
    assert_eq!(place.piped(&call, &to_file("c.csv")).code, Some(0));
    assert_eq!(place.piped(&call, &to_file("c.csv")).code, Some(0));
    place.piped(&call, &to_file("d.csv")).says(1, &["another job without a name", "/0/writer/parameter/path"]);
    assert!(!place.path("d.csv").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_run_id_is_never_begun_anew() {
    let place = place(Some("nightly"), json!({"writeMode": "append"})).await;
    let call = ["run", "job.json", "--run-id", "first"];
    let fresh = ["run", "job.json", "--run-id", "first", "--fresh"];
    let first = place.start(&call);
    place.landed(1);
    first.kill();
    place.fails(&fresh, 1, &["first is known already", "new run id", "goes on with it"]);
    place.ok(&call);
    place.fails(&fresh, 1, &["first is known already", "new run id", "reports it"]);
    assert_eq!(rows(&place).await, format!("{ALL} {ALL}"));
    // What the refusal of a changed job says is what works.
    let second = place.start(&["run", "job.json", "--run-id", "second"]);
    place.landed_of("second", 1);
    second.kill();
    place.job(&job(Some("nightly"), json!({"writeMode": "append", "batchSize": 7})));
    place.fails(&["run", "job.json", "--run-id", "second"], 1, &["--fresh and a new --run-id"]);
    let ended = place.ok(&["run", "job.json", "--run-id", "third", "--fresh"]);
    assert!(ended.err.contains("run second is given up") && ended.err.contains("written again"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_target_records_are_not_written_twice_either() {
    let place = place(Some("nightly"), json!({"writeMode": "append", "exactlyOnce": false})).await;
    for signal in ["KILL", "TERM"] {
        let run = place.start(&["run", "job.json", "--fresh", "--run-id", signal]);
        place.landed_of(signal, 2);
        run.signal(signal);
        run.end();
        let before = rows(&place).await;
        place.fails(&["run", "job.json"], 1, &["of its 6 splits", "does not record splits", "--fresh"]);
        place.fails(&["run", "job.json", "--resume"], 1, &["does not record which splits have landed", "--fresh"]);
        assert_eq!(rows(&place).await, before);
    }
    let report = place.report(&["--fresh"]);
    assert!(report["warnings"].to_string().contains("written again"), "{report:#}");
    place.report(&[]);
}

/// A fault of the commit itself leaves open what has happened; a fault before it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_in_doubt_is_not_forgotten_where_nobody_records_it() {
    let session = "PRAGMA foreign_keys = ON";
    let to = json!({"writeMode": "append", "exactlyOnce": false, "session": [session]});
    let place = place(Some("nightly"), to).await;
    let parent = "DROP TABLE t; CREATE TABLE known (id INTEGER PRIMARY KEY); \
                  CREATE TABLE t (id INTEGER REFERENCES known DEFERRABLE INITIALLY DEFERRED, v TEXT)";
    sqlite(&place.path("to.db"), parent).await;
    place.fails(&["run", "job.json"], 1, &["FOREIGN KEY", "not known"]);
    for call in [&["run", "job.json"][..], &["run", "job.json", "--resume"]] {
        place.fails(call, 1, &["--fresh", "look at the target"]);
    }
    place.fails(&["run", "job.json"], 1, &["whether 1 of its 6 splits are in t is not known"]);
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2400)";
    sqlite(&place.path("to.db"), &format!("{numbers} INSERT INTO known SELECT i FROM n")).await;
    place.report(&["--fresh"]);
    assert_eq!(rows(&place).await, format!("{ALL} {ALL}"));
    // Refused before anything is committed: nothing is there, and nobody is asked.
    sqlite(&place.path("to.db"), "DROP TABLE t; CREATE TABLE t (id INTEGER, v TEXT CHECK (v <> 'value 7'))").await;
    for _ in 0..2 {
        place.fails(&["run", "job.json"], 1, &["value 7"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_only_printed_hinder_no_other_run() {
    let place = Place::new();
    let columns = json!({"column": [{"incr": "1,1", "type": "long"}], "sliceRecordCount": 300});
    let mut job = job_of("stream", columns, "stream", json!({"print": true}));
    job["job"]["setting"] = json!({"speed": {"channel": 3, "record": 300}});
    place.job(&job);
    let first = place.start(&["run", "job.json"]);
    place.landed(1);
    first.kill();
    place.ok(&["run", "job.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_stay_are_not_mixed_with_those_of_an_altered_source() {
    let place = place(Some("nightly"), json!({"writeMode": "append"})).await;
    let first = place.start(&["run", "job.json"]);
    place.landed(2);
    first.kill();
    // Neither name nor type: only what may be NULL, and the key.
    alter(&place, "id INTEGER, v TEXT NOT NULL, PRIMARY KEY (id)").await;
    let landed: u64 = sqlite_row(&place.path("to.db"), "SELECT '' || count(*) FROM t").await.parse().unwrap();
    let resume = ["run", "job.json", "--resume", "--report", "report.json"];
    place.fails(&resume, 1, &["gone: v TEXT; new: v TEXT not null", "--fresh"]);
    // Refused as it is, the run has moved what it has.
    let (report, shown) = (place.last_report(), place.json(&["runs"]));
    for report in [&report, &shown[0]["report"]] {
        assert_eq!((&report["rows_read"], &report["rows_written"]), (&json!(landed), &json!(landed)), "{report:#}");
        assert_eq!(report["tables"].as_array().unwrap().len() as u64, TABLES, "{report:#}");
    }
    assert_eq!((&shown[0]["status"], &shown[0]["splits"][0]["rows"]), (&json!("failed"), &json!(landed)));
    alter(&place, "id INTEGER, v TEXT").await;
    place.fails(&["run", "job.json", "--resume"], 1, &["key 1; new: id INTEGER", "--fresh"]);
    alter(&place, "id INTEGER, v TEXT, PRIMARY KEY (id)").await;
    place.report(&["--resume"]);
    assert_eq!(rows(&place).await, format!("{ALL} {ALL}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_that_landed_unheard_of_are_done_in_the_ledger_too() {
    let place = place(Some("nightly"), json!({"writeMode": "append"})).await;
    let first = place.start(&["run", "job.json"]);
    place.landed(2);
    first.kill();
    // As a process leaves it that dies between the target's commit and its own word of it.
    sqlite(&place.path("state/ledger.db"), "UPDATE splits SET receipt = NULL WHERE split < 2").await;
    place.report(&["--resume"]);
    let shown = &place.json(&["runs"])[0];
    assert_eq!(
        (&shown["splits"][0]["finished"], &shown["splits"][0]["rows"]),
        (&json!(TABLES), &json!(ALL)),
        "{shown:#}"
    );
}

/// What changes values although it stands beside the entries, or in no file at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_the_clocks_and_formats_that_it_began_with() {
    let place = place(Some("nightly"), json!({"writeMode": "append"})).await;
    let first = place.start(&["run", "job.json"]);
    place.landed(2);
    first.kill();
    let began = job(Some("nightly"), json!({"writeMode": "append"}));
    let mut changed = began.clone();
    changed["job"]["setting"]["timeZone"] = "Asia/Tokyo".into();
    place.job(&changed);
    place.fails(&["run", "job.json", "--resume"], 1, &["changed at /0/setting/timeZone", "--fresh"]);
    let mut changed = began.clone();
    changed["common"] = json!({"column": {"datetimeFormat": "yyyyMMdd"}});
    place.job(&changed);
    place.fails(&["run", "job.json", "--resume"], 1, &["changed at /0/common/column", "--fresh"]);
    place.job(&began);
    let elsewhere = place.command(&["run", "job.json", "--resume"]).env("WEIR_TZ", "Asia/Tokyo").output().unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(elsewhere.status.code() == Some(1) && said.contains("/0/setting/timeZone"), "{said}");
    // A run that an earlier version began, which did not write these down, goes on.
    let forget = "UPDATE runs SET fingerprint = json_remove(fingerprint, '$[0].setting', '$[0].common')";
    sqlite(&place.path("state/ledger.db"), forget).await;
    place.report(&["--resume"]);
    assert_eq!(rows(&place).await, format!("{ALL} {ALL}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_starts_again_says_what_was_altered() {
    let place = place(Some("nightly"), json!({"writeMode": "overwrite"})).await;
    let first = place.start(&["run", "job.json"]);
    place.landed(2);
    first.kill();
    alter(&place, "id INTEGER, v TEXT, extra TEXT, PRIMARY KEY (id)").await;
    let report = place.report(&["--resume"]);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("gone: none; new: extra TEXT"), "{warnings}");
    assert_eq!(rows(&place).await, format!("{ALL} {ALL}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_moved_is_resumed_by_its_name_with_what_it_was_begun_with() {
    let place = place(Some("moving"), json!({"writeMode": "append", "preSql": ["SELECT '${word} $bizdate'"]})).await;
    let first = place.start(&["run", "job.json", "-p", "word=first", "--at", "2025-11-02T00:00:00+00:00"]);
    let run_id = place.landed(1);
    first.kill();
    let text: Value = serde_json::from_slice(&std::fs::read(place.path("job.json")).unwrap()).unwrap();
    std::fs::rename(place.path("job.json"), place.path("moved.json")).unwrap();
    // Another job stands where it stood: its name is what counts.
    let mut other = to_file("other.csv");
    other["job"]["name"] = "other".into();
    place.job(&other);
    let call = ["run", "job.json", "--resume", "--report", "report.json"];
    place.ok(&call);
    assert_ne!(place.last_report()["run_id"], json!(run_id));
    // Half of the way by its new place, the rest by a pipe.
    let second = place.start(&["run", "moved.json", "--resume"]);
    place.landed_of(&run_id, 3);
    second.kill();
    let ended = place.piped(&["run", "-", "--resume", "--report", "report.json"], &text);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let report = place.last_report();
    assert_eq!((&report["run_id"], &report["parameters"]["word"]), (&json!(run_id), &json!("first")), "{report:#}");
    assert_eq!(report["at"], json!("2025-11-02T00:00:00+00:00"));
    assert_eq!(rows(&place).await, format!("{ALL} {ALL}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_whole_is_not_added_again_for_another_entrys_fault() {
    let place = place(None, json!({"writeMode": "append"})).await;
    let refused = "CREATE TABLE u (id INTEGER, v TEXT CHECK (v <> 'value 7'))";
    sqlite(&place.path("to.db"), refused).await;
    let job = |mode: &str| {
        let lake = json!({"path": "lake", "format": "parquet", "writeMode": mode});
        let mut job = job_of("sqlite", json!({"path": "from.db", "table": ["t0"]}), "files", lake);
        let to = json!({"path": "to.db", "table": "u", "writeMode": "overwrite"});
        let other = job_of("sqlite", json!({"path": "from.db", "table": ["t1"]}), "sqlite", to);
        job["job"]["content"].as_array_mut().unwrap().push(other["job"]["content"][0].clone());
        job
    };
    // The lease lies there too, hidden.
    let shown = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let files = || std::fs::read_dir(place.path("lake")).unwrap().flatten().filter(shown).count();
    place.job(&job("append"));
    place.fails(&["run", "job.json"], 1, &["value 7"]);
    let once = files();
    place.fails(&["run", "job.json"], 1, &["its rows are in", "for good", "--resume", "--fresh"]);
    place.fails(&["run", "job.json", "--resume"], 1, &["value 7"]);
    assert_eq!(files(), once);
    sqlite(&place.path("to.db"), "DROP TABLE u; CREATE TABLE u (id INTEGER, v TEXT)").await;
    let report = place.report(&["--fresh"]);
    assert!(report["warnings"].to_string().contains("written again"), "{report:#}");
    assert!(files() > once);
    // What replaces the old rows doubles nothing.
    sqlite(&place.path("to.db"), &format!("DROP TABLE u; {refused}")).await;
    place.job(&job("truncate"));
    for _ in 0..2 {
        place.fails(&["run", "job.json"], 1, &["value 7"]);
    }
}
