//! Folders that cannot be written, disks that are full, and nobody at the other end of stdout and stderr.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Place, Running, small_disk, sqlite, sqlite_row};
use crate::support::{job_of, with_channels};

fn stream(rows: u64) -> Value {
    json!({"column": [{"incr": "1,1", "type": "long"}, {"random": "60,60", "type": "string"}], "sliceRecordCount": rows})
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named_with_the_way_around_it() {
    let place = Place::new();
    place.job(&job_of("stream", stream(5), "files", json!({"path": "out.csv", "writeMode": "truncate"})));
    std::fs::write(place.path("file"), "").unwrap();
    let state = place.path("file").join("state");
    let state = state.to_str().unwrap();
    place.fails(&["run", "job.json", "--state-dir", state], 1, &["state folder", "--state-dir off", "WEIR_STATE_DIR"]);
    assert!(!place.path("out.csv").exists(), "nothing is read or written before");
    place.ok(&["run", "job.json", "--state-dir", "off"]);
    assert!(place.path("out.csv").exists());
    // A folder that is there and read-only; root writes into those, so it takes a disk.
    if let Some(disk) = small_disk(1) {
        let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.folder.path()).status().unwrap();
        assert!(remount.success());
        let state = disk.path("state");
        let words = ["state folder", "--state-dir off"];
        place.fails(&["run", "job.json", "--state-dir", state.to_str().unwrap()], 1, &words);
        let state = disk.folder.path().to_str().unwrap();
        place.fails(&["run", "job.json", "--state-dir", state], 1, &words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_into_the_state_folder_need_not_write_it() {
    let Some(disk) = small_disk(4) else { return };
    let place = Place::new();
    sqlite(&place.path("from.db"), "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let to = json!({"path": "to.db", "table": "t", "writeMode": "overwrite"});
    place.job(&job_of("sqlite", json!({"path": "from.db", "table": "t"}), "sqlite", to));
    let state = disk.folder.path().to_str().unwrap();
    place.ok(&["run", "job.json", "--run-id", "kept", "--state-dir", state]);
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.folder.path()).status().unwrap();
    assert!(remount.success());
    let runs = place.ok(&["runs", "--state-dir", state]);
    assert!(runs.out.contains("kept") && runs.out.contains("succeeded"), "{}", runs.out);
    for command in ["plan", "verify"] {
        place.ok(&[command, "job.json", "--state-dir", state]);
    }
    place.fails(&["run", "job.json", "--state-dir", state], 1, &["state folder", "--state-dir off", state]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_is_none_and_a_ledger_that_is_damaged_are_named() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    place.fails(&["runs", "--state-dir", "file"], 2, &["state folder is no folder", "--state-dir", "file"]);
    place.job(&job_of("stream", stream(5), "files", json!({"path": "out.csv", "writeMode": "truncate"})));
    place.ok(&["run", "job.json"]);
    let ledger = place.path("state").join("ledger.db");
    // Whoever closes it puts what is written beside it into it.
    sqlite(&ledger, "SELECT 1").await;
    let bytes = std::fs::read(&ledger).unwrap();
    // Not the header, which says how long the file is.
    let damaged: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| if at < 100 { *byte } else { 0xAA }).collect();
    for content in
        [&damaged[..], &b"no database at all, but some text that goes on for longer than a header".repeat(20)]
    {
        std::fs::write(&ledger, content).unwrap();
        let state = place.path("state");
        let words = ["ledger.db in the state folder is damaged", "--state-dir", state.to_str().unwrap()];
        place.fails(&["runs"], 1, &words);
        place.fails(&["run", "job.json"], 1, &words);
    }
}

#[test]
fn a_run_that_nobody_listens_to_runs_all_the_same() {
    let place = Place::new();
    let job =
        job_of("stream", stream(3_000), "files", json!({"path": "out.csv", "writeMode": "truncate", "header": false}));
    place.job(&with_channels(job, 1));
    let rows = || std::fs::read_to_string(place.path("out.csv")).unwrap().lines().count();
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for (out, err) in [(true, false), (false, true), (true, true)] {
        let mut command = place.command(&["run", "job.json", "--report", "report.json"]);
        let to = |closed| if closed { Stdio::from(gone()) } else { Stdio::null() };
        let status = command.stdout(to(out)).stderr(to(err)).status().unwrap();
        assert_eq!((status.code(), rows()), (Some(0), 3_000), "stdout closed: {out}, stderr closed: {err}");
        assert_eq!(place.last_report()["status"], "succeeded");
    }
    // Not even open.
    let weir = env!("CARGO_BIN_EXE_weir");
    let script = format!("{weir} run job.json --report report.json >&- 2>&-");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(place.folder.path()).env("WEIR_STATE_DIR", place.path("state"));
    assert_eq!((shell.status().unwrap().code(), rows()), (Some(0), 3_000));
    // A full disk behind stdout is a fault, but no reason to keep the report back.
    std::fs::remove_file(place.path("report.json")).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&["run", "job.json", "--report", "report.json"]);
    let output = command.stdout(full.try_clone().unwrap()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stdout cannot be written") && said.contains("the run itself has succeeded"), "{said}");
    assert_eq!((place.last_report()["status"].as_str(), rows()), (Some("succeeded"), 3_000));
    let status = place.command(&["run", "job.json"]).stdout(Stdio::null()).stderr(full).status().unwrap();
    assert_eq!((status.code(), rows()), (Some(0), 3_000));
}

#[test]
fn a_report_that_finds_no_room_is_a_fault_of_the_call_and_not_of_the_rows() {
    let place = Place::new();
    place.job(&job_of("stream", stream(5), "files", json!({"path": "out.csv", "writeMode": "truncate"})));
    place.fails(&["run", "job.json", "--report", "/dev/full"], 1, &["report", "/dev/full"]);
    assert!(place.path("out.csv").exists());
    let Some(disk) = small_disk(1) else { return };
    disk.fill_but(0);
    let report = disk.path("report.json");
    place.fails(&["run", "job.json", "--report", report.to_str().unwrap()], 1, &["report", "report.json"]);
    let left: Vec<_> = std::fs::read_dir(disk.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["filler"], "half a report stays");
}

#[test]
fn a_target_disk_that_fills_up_shows_nothing_of_the_run() {
    let place = Place::new();
    let Some(disk) = small_disk(2) else { return };
    let old = "old,1\n";
    for (name, parameter) in [
        ("t.csv", json!({"format": "csv", "writeMode": "truncate"})),
        ("parts", json!({"format": "csv", "writeMode": "truncate"})),
        ("lake.parquet", json!({"format": "parquet", "writeMode": "append"})),
        ("table", json!({"writeMode": "append"})),
        ("t.db", json!({"table": "t", "writeMode": "append"})),
        ("u.db", json!({"table": "t", "writeMode": "overwrite"})),
    ] {
        let path = disk.path(name);
        let mut parameter = parameter;
        parameter["path"] = json!(path);
        let plugin = match name {
            "t.db" | "u.db" => "sqlite",
            "table" => "lakehouse",
            _ => "files",
        };
        if name == "t.csv" {
            std::fs::write(&path, old).unwrap();
        }
        let mut job = job_of("stream", stream(40_000), plugin, parameter);
        job["job"]["setting"]["speed"]["channel"] = 2.into();
        place.job(&job);
        let ended = place.fails(&["run", "job.json"], 1, &["error"]);
        let text = ended.err.to_lowercase();
        assert!(["space", "full"].iter().any(|word| text.contains(word)), "{name}:\n{}", ended.err);
        if name == "t.csv" {
            assert_eq!(std::fs::read_to_string(&path).unwrap(), old);
        }
        // What is left of a failed run must not keep the next one from its room.
        let left = left_of(disk.folder.path());
        let allowed = |path: &String| {
            path.ends_with(".db") || path.contains("weir") || path == "t.csv" || path.contains("_delta_log")
        };
        assert!(left.iter().all(|(path, bytes)| allowed(path) && *bytes < 300_000), "{name}: {left:?}");
        for entry in std::fs::read_dir(disk.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

fn left_of(folder: &std::path::Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
                all.push((name, entry.metadata().unwrap().len()));
            }
        }
    }
    all
}

#[test]
fn dirty_rows_that_cannot_be_kept_fail_the_run_before_anything_is_published() {
    let place = Place::new();
    let Some(disk) = small_disk(1) else { return };
    let lines: String = (0..60_000).map(|n| format!("{n},no number at all\n")).collect();
    std::fs::write(place.path("in.csv"), lines).unwrap();
    let columns = json!([{"name": "id", "index": 0, "type": "long"}, {"name": "n", "index": 1, "type": "long"}]);
    let mut job = job_of(
        "files",
        json!({"path": "in.csv", "header": false, "column": columns}),
        "files",
        json!({"path": "out.csv", "writeMode": "truncate"}),
    );
    job["job"]["setting"]["errorLimit"] = json!({"percentage": 1.0});
    place.job(&job);
    for quarantine in [disk.path("dirty.jsonl").to_str().unwrap(), "/dev/full"] {
        place.fails(&["run", "job.json", "--quarantine", quarantine, "--fresh"], 1, &[quarantine, "split", "space"]);
        assert!(!place.path("out.csv").exists(), "{quarantine}");
    }
}

/// A job of several splits that land one by one, with a ledger that runs out of room meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_room_stops_the_run_which_goes_on_once_there_is_some() {
    let place = Place::new();
    let Some(disk) = small_disk(1) else { return };
    let tables: Vec<_> = (0..8).map(|n| format!("t{n}")).collect();
    let make = |t: &String| {
        format!(
            "CREATE TABLE {t} (id INTEGER, v TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
             INSERT INTO {t} SELECT i, '{t}-' || i FROM n;"
        )
    };
    sqlite(&place.path("from.db"), &tables.iter().map(make).collect::<String>()).await;
    let mut job = job_of(
        "sqlite",
        json!({"path": "from.db", "table": tables}),
        "sqlite",
        json!({"path": "to.db", "table": "t", "writeMode": "append"}),
    );
    job["job"]["setting"]["speed"] = json!({"channel": 1, "record": 600});
    place.job(&job);
    let state = disk.path("state");
    let state = state.to_str().unwrap();
    disk.fill_but(0);
    place.fails(&["run", "job.json", "--state-dir", state], 1, &["state folder"]);
    std::fs::remove_file(disk.path("filler")).unwrap();

    let run = place.start(&["run", "job.json", "--state-dir", state, "--report", "report.json"]);
    wait_for_rows(&place, &run).await;
    disk.fill_but(0);
    let ended = run.end();
    std::fs::remove_file(disk.path("filler")).unwrap();
    // The ledger may have had the room it needs in files it had already; else the run says what is missing, and what is there.
    if ended.code != Some(0) {
        ended.says(1, &["disk of the state folder is full", state, "--resume", "end of the run is not in the ledger"]);
        assert!(!ended.err.contains("begin_with"), "{}", ended.err);
        let there = sqlite_row(&place.path("to.db"), "SELECT '' || count(*) FROM t").await;
        assert_eq!(place.last_report()["rows_written"].to_string(), there, "{}", ended.err);
        assert_eq!(place.json(&["runs", "--state-dir", state])[0]["status"], "interrupted");
        place.ok(&["run", "job.json", "--state-dir", state, "--resume"]);
    }
    let found = sqlite_row(&place.path("to.db"), "SELECT count(*) || ' ' || count(DISTINCT v) FROM t").await;
    assert_eq!(found, "2400 2400", "{}", ended.err);
}

async fn wait_for_rows(place: &Place, run: &Running) {
    let begun = std::time::Instant::now();
    let path = place.path("to.db");
    loop {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        if let Ok(mut connection) = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await {
            let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM t").fetch_one(&mut connection).await;
            if count.is_ok_and(|rows| rows > 0) {
                return;
            }
        }
        assert!(begun.elapsed() < super::PATIENCE, "{}", std::fs::read_to_string(&run.err).unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
