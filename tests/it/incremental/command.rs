//! The command: `kill -9` in the middle of a window, and what it shows of windows.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::place::Place;
use super::{assert_equal, change, changed, job, make};

fn weir(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).current_dir(folder).env("WEIR_STATE_DIR", folder.join("state")).env_remove("WEIR_TZ");
    command.stdin(Stdio::null());
    command
}

fn ok(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = weir(folder, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(status.success(), "{arguments:?}\n{}", text(stderr));
    text(stdout)
}

/// The window in a run's report.
fn window(folder: &Path, file: &str) -> Value {
    let report: Value = serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap();
    report["tables"][0]["window"].clone()
}

async fn insert(place: &Place, first: u32, last: u32) {
    let (_, now) = place.moment();
    let ids: Vec<u32> = (first..=last).collect();
    for ids in ids.chunks(1000) {
        let filler = "x".repeat(40);
        let rows: Vec<_> = ids.iter().map(|id| format!("({id}, '{filler}', 1, {now})")).collect();
        place.execute(&format!("INSERT INTO src VALUES {}", rows.join(", "))).await;
    }
    place.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_goes_on_with_its_own_window() {
    let root = tempfile::tempdir().unwrap();
    for place in Place::all(root.path(), "killed").await {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // A target without a key keeps whatever comes twice.
        make(&place, false).await;
        let reader = json!({"splitPk": "id", "incremental": {"column": "changed"}});
        let mut job = job(&place, reader, json!({"writeMode": "append"}));
        std::fs::write(folder.join("fast.json"), job.to_string()).unwrap();
        job["job"]["setting"] = json!({"speed": {"channel": 3, "record": 1_500}});
        std::fs::write(folder.join("slow.json"), job.to_string()).unwrap();
        insert(&place, 1, 1_000).await;
        ok(folder, &["run", "fast.json", "--run-id", "first", "--report", "first.report"]);
        insert(&place, 1_001, 9_000).await;
        place.execute("INSERT INTO due SELECT * FROM src").await;
        let mut run = weir(folder, &["run", "slow.json", "--run-id", "second"]).stderr(Stdio::null()).spawn().unwrap();
        // It has begun; at this rate it goes on for five seconds.
        let is_running = || {
            let Output { stdout, .. } = weir(folder, &["runs", "second", "--format", "json"]).output().unwrap();
            serde_json::from_slice::<Value>(&stdout).unwrap_or_default()["status"] == "running"
        };
        let begun = Instant::now();
        while !is_running() {
            assert!(begun.elapsed() < Duration::from_secs(90), "it never begins");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        tokio::time::sleep(Duration::from_millis(800)).await;
        run.kill().unwrap();
        run.wait().unwrap();
        let shown: Value = serde_json::from_str(&ok(folder, &["runs", "second", "--format", "json"])).unwrap();
        assert_eq!(shown["status"], "interrupted", "{}: it was to be killed half-way", place.plugin());
        let before = ok(folder, &["runs", "--watermarks"]);
        insert(&place, 9_001, 9_500).await;
        ok(folder, &["run", "slow.json", "--run-id", "second", "--report", "second.report"]);
        assert_equal(&place, "after the resume").await;
        let (first, second) = (window(folder, "first.report"), window(folder, "second.report"));
        assert_eq!(second["low"], first["high"]);
        assert!(before.contains(first["high"].as_str().unwrap()), "{before}");
        place.execute("INSERT INTO due SELECT * FROM src WHERE id > 9000").await;
        ok(folder, &["run", "fast.json", "--run-id", "third", "--report", "third.report"]);
        assert_equal(&place, "after the third run").await;
        assert_eq!(window(folder, "third.report")["low"], second["high"], "{}", place.plugin());
        let after = ok(folder, &["runs", "--watermarks"]);
        assert!(after.contains(window(folder, "third.report")["high"].as_str().unwrap()), "{after}");
    }
}

#[tokio::test]
async fn plan_run_and_runs_show_windows() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let place = Place::sqlite(folder, "shown");
    make(&place, true).await;
    change(&place, 1).await;
    let job = job(&place, changed(json!({"overlap": 60})), json!({"writeMode": "upsert"}));
    std::fs::write(folder.join("job.json"), job.to_string()).unwrap();
    let planned = ok(folder, &["plan", "job.json"]);
    assert!(planned.contains("window     src: changed from the beginning to before 20"), "{planned}");
    assert!(ok(folder, &["runs", "--watermarks"]).contains("no watermarks"));
    let ran = ok(folder, &["run", "job.json", "--run-id", "one"]);
    assert!(ran.contains("src: changed from the beginning to before 20") && ran.contains("(the first run)"), "{ran}");
    let planned = ok(folder, &["plan", "job.json"]);
    assert!(planned.contains("changed from 20") && planned.contains("(the last run ended at 20"), "{planned}");
    assert!(ok(folder, &["plan", "job.json", "--full"]).contains("from the beginning"));
    assert!(ok(folder, &["runs", "one"]).contains("window"));
    let marks: Value = serde_json::from_str(&ok(folder, &["runs", "--watermarks", "--format", "json"])).unwrap();
    assert_eq!(
        (&marks[0]["job"], &marks[0]["column"], &marks[0]["run_id"]),
        (&json!("changes"), &json!("changed"), &json!("one"))
    );
    assert!(ok(folder, &["verify", "job.json"]).contains("equal"));
    assert!(ok(folder, &["run", "job.json", "--full"]).contains("50 rows"));
}
