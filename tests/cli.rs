//! The `weir` command as its users call it: what it prints where, how it exits.

#![cfg(all(feature = "cli", feature = "sqlite", feature = "stream"))]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_plugins_test::Stopwatch;

/// The command in a folder of its own, where nothing of the developer's takes part.
fn weir(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("WEIR_STATE_DIR", folder.join("state"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env_remove("WEIR_ENV")
        .env_remove("WEIR_TZ")
        .env_remove("WEIR_LOG")
        .stdin(Stdio::null());
    command
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ended = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
        ended
    }
}

fn call(folder: &Path, arguments: &[&str]) -> Ended {
    weir(folder, arguments).output().unwrap().into()
}

/// Calls that have to succeed.
fn ok(folder: &Path, arguments: &[&str]) -> Ended {
    let ended = call(folder, arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}\n{}\n{}", ended.out, ended.err);
    ended
}

/// Calls that have to fail with `code`, saying each of `words` on stderr and nothing on stdout.
fn fails(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let ended = call(folder, arguments);
    assert_eq!(ended.code, Some(code), "{arguments:?}\n{}\n{}", ended.out, ended.err);
    for word in words {
        assert!(ended.err.contains(word), "{arguments:?} does not say `{word}`:\n{}", ended.err);
    }
    assert_eq!(ended.out, "", "{arguments:?}");
}

fn stream_job(rows: u64) -> String {
    json!({"job": {"name": "count", "setting": {"speed": {"channel": 1}}, "content": [{
        "reader": {"name": "stream", "parameter": {"column": [{"value": "${word}", "type": "string"}, {"random": "1,9", "type": "long"}],
            "sliceRecordCount": rows}},
        "writer": {"name": "stream", "parameter": {}}}]}})
    .to_string()
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// What `--report report.json` left.
fn report(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn every_command_explains_itself_with_examples() {
    let folder = scratch();
    let all = ok(folder.path(), &["--help"]).out;
    for command in ["run", "plan", "check", "connectors", "copy", "new", "tables", "runs", "verify", "replay"] {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
        let help = ok(folder.path(), &[command, "--help"]).out;
        assert!(help.contains("Examples:") && help.contains(&format!("weir {command} ")), "{help}");
    }
    let none = call(folder.path(), &[]);
    assert_eq!(none.code, Some(2));
    fails(folder.path(), &["rnu"], 2, &["rnu"]);
    fails(folder.path(), &["run", "x.json", "--qiet"], 2, &["--qiet"]);
    assert!(ok(folder.path(), &["--version"]).out.starts_with("weir "));
}

#[test]
fn connectors_are_listed_described_and_given_as_schema() {
    let folder = scratch();
    let list = ok(folder.path(), &["connectors"]).out;
    assert!(list.lines().any(|l| l.starts_with("sqlite") && l.contains("sqlitereader")), "{list}");
    let detail = ok(folder.path(), &["connectors", "sqlite"]).out;
    assert!(
        detail.contains("sqlite reader") && detail.contains("sqlite writer") && detail.contains("writeMode"),
        "{detail}"
    );
    let all: Value = serde_json::from_str(&ok(folder.path(), &["connectors", "--format", "json"]).out).unwrap();
    for connector in all.as_array().unwrap() {
        for parameter in connector["parameters"].as_array().unwrap() {
            assert!(!parameter["description"].as_str().unwrap().is_empty(), "{}: {parameter}", connector["name"]);
        }
    }
    let schema: Value =
        serde_json::from_str(&ok(folder.path(), &["connectors", "sqlite", "--format", "schema"]).out).unwrap();
    assert!(schema["reader"]["properties"]["table"].is_object() && schema["writer"]["properties"]["table"].is_object());
    let one = ok(folder.path(), &["connectors", "streamreader"]).out;
    assert!(one.contains("stream reader") && !one.contains("stream writer"), "{one}");
    fails(folder.path(), &["connectors", "sqlit"], 2, &["did you mean `sqlite`"]);
}

#[test]
fn a_new_job_can_be_read_whatever_the_connectors() {
    let folder = scratch();
    let names = |side: &str| -> Vec<String> {
        let all: Value = serde_json::from_str(&ok(folder.path(), &["connectors", "--format", "json"]).out).unwrap();
        let own = all.as_array().unwrap().iter().filter(|c| c["side"] == side);
        own.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    for (reader, writer) in names("reader").iter().zip(&names("writer")) {
        let text = ok(folder.path(), &["new", reader, writer]).out;
        let job = weir::job::load(&text, &weir::LoadOptions::default()).unwrap_or_else(|f| panic!("{f}\n{text}"));
        assert_eq!((&job.entries[0].reader.plugin, &job.entries[0].writer.plugin), (reader, writer));
        assert!(job.warnings.is_empty(), "{:?}", job.warnings);
        // Every comment that is a key fits the schema too.
        let all: String = text
            .lines()
            .filter(|line| !line.contains("Fill in"))
            .map(|line| if line.trim_start().starts_with("// \"") { line.replacen("// ", "", 1) } else { line.to_owned() } + "\n")
            .collect();
        weir::job::load(&all, &weir::LoadOptions::default()).unwrap_or_else(|f| panic!("{f}\n{all}"));
    }
    fails(folder.path(), &["new", "sqlte", "stream"], 2, &["did you mean `sqlite`"]);
}

#[test]
fn a_run_reports_to_people_and_programs() {
    let folder = scratch();
    std::fs::write(folder.path().join("job.json"), stream_job(1000)).unwrap();
    let run = ok(
        folder.path(),
        &["run", "job.json", "-p", "word=a", "--report", "report.json", "--at", "2025-11-01T00:00:00+08:00"],
    );
    assert!(run.out.contains("succeeded") && run.out.contains("1,000"), "{}", run.out);
    assert!(run.err.contains("the run begins"), "{}", run.err);
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(
        (&report["job"], &report["status"], &report["rows_written"]),
        (&json!("count"), &json!("succeeded"), &json!(1000))
    );
    assert_eq!((&report["at"], &report["parameters"]["word"]), (&json!("2025-11-01T00:00:00+08:00"), &json!("a")));
    for key in [
        "run_id",
        "started_at",
        "finished_at",
        "elapsed_ms",
        "rows_per_second",
        "rows_read",
        "rows_dirty",
        "rows_filtered",
        "bytes_read",
        "bytes_written",
        "tables",
        "quarantine",
        "error",
    ] {
        assert!(report.get(key).is_some(), "{key}");
    }
    for key in ["source", "target", "status", "rows_read", "rows_written", "rows_dirty", "elapsed_ms", "error"] {
        assert!(report["tables"][0].get(key).is_some(), "{key}");
    }
    let quiet = ok(folder.path(), &["run", "job.json", "-p-Dword=a -Dother=b c", "--quiet"]);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let logged =
        ok(folder.path(), &["run", "job.json", "-p", "-Dword=a", "--log", "json", "--report", "-", "--limit", "10"]);
    assert!(logged.err.lines().filter(|l| l.starts_with('{')).all(|l| serde_json::from_str::<Value>(l).is_ok()));
    assert!(logged.err.contains("\"message\":\"the run begins\""), "{}", logged.err);
    let report: Value = serde_json::from_str(&logged.out).unwrap();
    assert_eq!(report["rows_written"], 10);
    fails(
        folder.path(),
        &["run", "job.json", "-p", "word=a", "--quiet", "--report", "no/such/folder.json"],
        1,
        &["no/such/folder.json"],
    );
}

#[test]
fn a_job_may_come_through_stdin() {
    let folder = scratch();
    let mut child = weir(folder.path(), &["run", "-", "-p", "word=a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stream_job(5).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_known_without_connecting_exits_with_2_and_names_the_file() {
    let folder = scratch();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("job.json", &stream_job(5));
    write("broken.json", "{\"job\": {\n  \"content\": [}\n");
    write(
        "wrong.json",
        r#"{"job": {"content": [{"reader": {"name": "streem"}, "writer": {"name": "stream", "parameter": {"prnt": 1}}}]}}"#,
    );
    write("closed.json", &stream_job(5).replace("\"stream\"", "\"sqlite\"").replace("${word}", ""));
    fails(folder.path(), &["run", "nothing.json"], 2, &["nothing.json"]);
    fails(folder.path(), &["run", "job.json"], 2, &["job.json", "`${word}` has no value", "-p word="]);
    for command in ["run", "plan", "check"] {
        fails(folder.path(), &[command, "broken.json"], 2, &["broken.json", "line 2"]);
        let both = ["wrong.json", "2 faults", "/job/content/0/reader/name", "`stream`", "/parameter/prnt", "`print`"];
        fails(folder.path(), &[command, "wrong.json"], 2, &both);
        fails(folder.path(), &[command, "job.json", "-p", "word"], 2, &["word"]);
        fails(folder.path(), &[command, "job.json", "-p", "word=a", "--at", "soon"], 2, &["--at", "soon"]);
    }
    fails(folder.path(), &["run", "job.json", "-p", "word=a", "--error-limit", "some"], 2, &["--error-limit", "some"]);
    call(folder.path(), &["run", "wrong.json", "--report", "report.json"]);
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!((&report["status"], &report["error"]["kind"]), (&json!("failed"), &json!("config")));
    fails(folder.path(), &["check"], 2, &["JOB"]);
    fails(folder.path(), &["check", "--datasource", "none"], 2, &["none"]);
    fails(folder.path(), &["tables", "what:ever"], 2, &["what:ever"]);
    fails(folder.path(), &["copy", "mysql2://me:geheim@h/d", "-"], 2, &["mysql2://me:***@h/d"]);
}

#[test]
fn a_plan_and_a_check_move_nothing() {
    let folder = scratch();
    std::fs::write(folder.path().join("job.json"), stream_job(5)).unwrap();
    let plan = ok(folder.path(), &["plan", "job.json", "-p", "word=a"]).out;
    assert!(plan.contains("count") && plan.contains("Int64"), "{plan}");
    let plan: Value =
        serde_json::from_str(&ok(folder.path(), &["plan", "job.json", "-p", "word=a", "--format", "json"]).out)
            .unwrap();
    assert_eq!(plan["channels"], 1);
    assert!(ok(folder.path(), &["check", "job.json", "-p", "word=a"]).out.contains("ok"));
    let missing = json!({"job": {"content": [{
        "reader": {"name": "sqlite", "parameter": {"path": "nothere.db", "table": "t"}},
        "writer": {"name": "stream", "parameter": {}}}]}});
    std::fs::write(folder.path().join("missing.json"), missing.to_string()).unwrap();
    let check = call(folder.path(), &["check", "missing.json"]);
    assert_eq!(check.code, Some(1), "{}", check.err);
    assert!(check.out.contains("fault") && check.out.contains("nothere.db"), "{}", check.out);
    let run = call(folder.path(), &["run", "missing.json"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("nothere.db") && run.out.contains("failed"), "{}", run.err);
    assert!(!folder.path().join("nothere.db").exists());
}

#[test]
fn rows_are_copied_between_locations_and_data_sources() {
    let folder = scratch();
    std::fs::write(
        folder.path().join("weir.datasources.json"),
        r#"{"shop": {"type": "sqlite", "dev": {"path": "shop.db"}, "prod": {"path": "gone.db"}}}"#,
    )
    .unwrap();
    ok(folder.path(), &["copy", "stream:", "shop.db", "--to-table", "numbers", "--limit", "7", "--save", "job.json"]);
    let job = std::fs::read_to_string(folder.path().join("job.json")).unwrap();
    assert!(weir::job::load(&job, &weir::LoadOptions::default()).is_ok(), "{job}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(folder.path().join("job.json")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    fails(
        folder.path(),
        &["copy", "stream:", "shop.db", "--to-table", "n", "--save", "job.json"],
        2,
        &["job.json is there already"],
    );

    let tables: Value =
        serde_json::from_str(&ok(folder.path(), &["tables", "shop.db", "--format", "json"]).out).unwrap();
    assert_eq!(tables[0]["name"], "numbers");
    assert!(ok(folder.path(), &["tables", "shop", "num*", "--env", "dev"]).out.contains("numbers"));
    assert_eq!(ok(folder.path(), &["tables", "shop.db", "x*"]).out, "no tables\n");
    fails(folder.path(), &["tables", "shop"], 2, &["--env or WEIR_ENV"]);

    let printed = ok(folder.path(), &["copy", "shop", "-", "--table", "numbers", "--env", "dev", "--limit", "3"]);
    assert_eq!(printed.out.lines().count(), 3, "{}", printed.out);
    assert!(printed.err.contains("succeeded"), "{}", printed.err);
    let check = ok(folder.path(), &["check", "--datasource", "shop", "--env", "dev"]).out;
    for line in ["source sqlite (shop)", "connect", "1 can be seen", "target sqlite (shop)", "will be created"] {
        assert!(check.contains(line), "{line}\n{check}");
    }
    let gone = call(folder.path(), &["check", "--datasource", "shop", "--env", "prod"]);
    assert_eq!(gone.code, Some(1), "{}", gone.err);
    assert!(gone.out.contains("gone.db"), "{}", gone.out);
}

#[test]
fn a_wrong_call_begins_no_run_and_leaves_no_report() {
    let folder = scratch();
    std::fs::write(folder.path().join("job.json"), stream_job(5)).unwrap();
    let run = ["run", "job.json", "-p", "word=a", "--report", "report.json", "--error-limit"];
    fails(folder.path(), &[&run[..], &["many"]].concat(), 2, &["--error-limit", "`many`", "unlimited"]);
    fails(folder.path(), &[&run[..], &["101%"]].concat(), 2, &["--error-limit", "0% to 100%"]);
    assert!(!folder.path().join("report.json").exists());
    ok(folder.path(), &[&run[..], &["1%"]].concat());
    // A job file that is wrong is reported: whoever waits for the report learns of it.
    std::fs::remove_file(folder.path().join("report.json")).unwrap();
    fails(folder.path(), &["run", "job.json", "--report", "report.json"], 2, &["word"]);
    assert!(folder.path().join("report.json").exists());
}

#[test]
#[cfg(feature = "files")]
fn targets_are_verified_and_mended_rows_are_replayed_once() {
    let folder = scratch();
    let here = folder.path();
    std::fs::write(here.join("in.csv"), "id,n\n1,10\n2,x\n3,30\n").unwrap();
    let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
    let job = json!({"job": {"setting": {"errorLimit": "unlimited"}, "content": [{
        "reader": {"name": "files", "parameter": {"path": "${file}", "column": columns}},
        "writer": {"name": "sqlite", "parameter": {"path": "shop.db", "table": "t"}}}]}});
    std::fs::write(here.join("job.json"), job.to_string()).unwrap();
    ok(here, &["run", "job.json", "-p", "file=in.csv", "--report", "report.json"]);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(here.join("report.json")).unwrap()).unwrap();
    let found = ok(here, &["verify", "job.json", "-p", "file=in.csv"]);
    assert!(
        found.out.contains("in.csv → t: equal") && found.out.contains("1 more that cannot be moved"),
        "{}",
        found.out
    );

    // The job and its parameters are those of the run that left the rows.
    let dirty = report["quarantine"].as_str().unwrap();
    let mended = std::fs::read_to_string(dirty).unwrap().replace("\"x\"", "\"20\"");
    std::fs::write(dirty, mended).unwrap();
    for _ in 0..2 {
        let replayed = ok(here, &["replay", dirty, "--report", "-"]);
        let report: Value = serde_json::from_str(&replayed.out).unwrap();
        assert_eq!((&report["rows_written"], &report["status"]), (&json!(1), &json!("succeeded")), "{report:#}");
    }
    std::fs::write(here.join("in.csv"), "id,n\n1,10\n2,20\n3,31\n4,40\n").unwrap();
    let found = call(here, &["verify", "job.json", "-p", "file=in.csv", "--format", "json"]);
    assert_eq!(found.code, Some(1), "{}", found.err);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    let entry = &found["entries"][0];
    assert_eq!((&found["equal"], &entry["source_rows"], &entry["target_rows"]), (&json!(false), &json!(4), &json!(3)));
    // No keys on either side: a changed row is a missing one.
    assert_eq!(entry["missing"]["rows"], 2, "{entry:#}");
    fails(here, &["replay", "in.csv"], 2, &["line 1", "quarantine"]);
    fails(here, &["replay", "nothing.jsonl"], 2, &["nothing.jsonl"]);
    fails(here, &["replay", dirty, "job.json", "--limit", "1"], 2, &["--limit"]);
}

#[test]
fn rows_have_stdout_for_themselves() {
    let folder = scratch();
    let job = stream_job(3).replace("\"parameter\":{}", "\"parameter\":{\"print\":true}");
    std::fs::write(folder.path().join("job.json"), job).unwrap();
    let run = ok(folder.path(), &["run", "job.json", "-p", "word=a"]);
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    assert!(run.err.contains("succeeded"), "{}", run.err);
}

#[cfg(unix)]
#[test]
fn signals_stop_a_run_and_decide_its_code() {
    let folder = scratch();
    std::fs::write(folder.path().join("job.json"), stream_job(2_000_000_000)).unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let child = weir(folder.path(), &["run", "job.json", "-p", "word=a", "--report", "report.json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let is_running = || {
            let shown = call(folder.path(), &["runs", "--last", "1", "--format", "json"]).out;
            serde_json::from_str::<Value>(&shown).unwrap_or_default()[0]["status"] == "running"
        };
        while !is_running() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = Stopwatch::start();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(sent.is_within(Duration::from_secs(2)), "{:?}", sent.elapsed());
        let report: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(report["status"], "stopped");
    }
}

#[cfg(unix)]
#[test]
fn nobody_reading_on_is_no_fault() {
    let folder = scratch();
    for arguments in
        [&["connectors"][..], &["connectors", "--format", "json"], &["--help"], &["new", "sqlite", "stream"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Ended::from(weir(folder.path(), arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap());
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
    std::fs::write(folder.path().join("job.json"), stream_job(5)).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = weir(folder.path(), &["run", "job.json", "-p", "word=a"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(Ended::from(run).code, Some(0));
}

#[cfg(feature = "files")]
#[test]
fn one_table_that_fails_alone_is_run_again_by_what_the_error_says() {
    let folder = scratch();
    for table in ["orders", "notes"] {
        ok(folder.path(), &["copy", "stream:", "shop.db", "--to-table", table, "--limit", "1"]);
    }
    let job = json!({
        "type": "database",
        "source": {"name": "sqlite", "parameter": {"path": "shop.db"}},
        "target": {"name": "files", "parameter": {"path": "out"}},
        "tables": {"orders": {"where": "no_such_column = 1"}},
    });
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    let run = call(folder.path(), &["run", "job.json", "--report", "report.json"]);
    let report = report(folder.path());
    assert_eq!((run.code, report["status"].as_str()), (Some(1), Some("partially_failed")), "{}", run.err);
    let advice = format!("1 of 2 tables did not end well; `--failed-of {}`", report["run_id"].as_str().unwrap());
    assert!(run.err.contains("error: ") && run.err.contains(&advice), "{}", run.err);
    let well = ok(folder.path(), &["run", "job.json", "--tables", "notes"]);
    assert!(!well.err.contains("--failed-of"), "{}", well.err);
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_finds_no_room_does_not_hide_that_the_run_succeeded() {
    let folder = scratch();
    let mut job: Value = serde_json::from_str(&stream_job(3).replace("${word}", "x")).unwrap();
    job["job"]["content"][0]["writer"] = json!({"name": "sqlite", "parameter": {"path": "n.db", "table": "t"}});
    std::fs::write(folder.path().join("job.json"), job.to_string()).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = weir(folder.path(), &["run", "job.json", "--report", "report.json"]);
    let ended: Ended = command.stdout(full).output().unwrap().into();
    let report = report(folder.path());
    let said = ["stdout cannot be written", "the run itself has succeeded", report["run_id"].as_str().unwrap()];
    assert!(ended.code == Some(1) && said.iter().all(|word| ended.err.contains(word)), "{}", ended.err);
}
