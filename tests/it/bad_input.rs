//! Bad input of every kind, through the command line: what it says, how it exits, and that nothing is half-written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use crate::support::job_of;

/// One bad input.
struct Case {
    name: &'static str,
    /// The job file's text.
    text: String,
    /// Arguments after `weir run JOB`.
    arguments: Vec<String>,
    exit: i32,
    /// What the error must name: the place and the remedy.
    says: &'static [&'static str],
}

fn case(name: &'static str, job: impl ToString, exit: i32, says: &'static [&'static str]) -> Case {
    Case { name, text: job.to_string(), arguments: vec![], exit, says }
}

fn called(mut case: Case, arguments: &[&str]) -> Case {
    case.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    case
}

/// Runs every case and shows all that differ from what they should be.
fn run_all(folder: &Path, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in &cases {
        let job = folder.join("job.json");
        std::fs::write(&job, &case.text).unwrap();
        let out = folder.join("out");
        std::fs::create_dir_all(&out).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .arg(&job)
            .args(&case.arguments)
            .current_dir(folder)
            .env("WEIR_STATE_DIR", folder.join("state"))
            .env_remove("WEIR_ENV")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut faults = Vec::new();
        if output.status.code() != Some(case.exit) {
            faults.push(format!("exit {:?} instead of {}", output.status.code(), case.exit));
        }
        for word in case.says {
            if !stderr.to_lowercase().contains(&word.to_lowercase()) {
                faults.push(format!("does not say `{word}`"));
            }
        }
        for never in ["panicked", "we/ir p@ss", "we%2Fir"] {
            if stderr.contains(never) {
                faults.push(format!("says `{never}`"));
            }
        }
        let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        if !left.is_empty() {
            faults.push(format!("left behind: {left:?}"));
            std::fs::remove_dir_all(&out).unwrap();
        }
        if !faults.is_empty() {
            wrong.push(format!("{}: {}\n  {}", case.name, faults.join("; "), stderr.trim().replace('\n', "\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn stream() -> Value {
    json!({"column": [{"value": "a", "type": "string"}], "sliceRecordCount": 3})
}

fn reading(reader: &str, parameter: Value) -> Value {
    job_of(reader, parameter, "stream", json!({}))
}

fn writing(writer: &str, parameter: Value) -> Value {
    job_of("stream", stream(), writer, parameter)
}

fn with(mut job: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut job;
    for part in parent.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[part],
        };
    }
    at[key] = value;
    job
}

#[test]
fn what_is_known_from_the_job_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let good = || reading("stream", stream());
    let transformer = |t: Value| with(good(), "/job/content/0/transformer", json!([t]));
    std::fs::write(
        folder.path().join("sources.json"),
        json!({"two": {"type": "sqlite", "dev": {"path": "a.db"}, "prod": {"path": "b.db"}},
               "one": {"type": "sqlite", "dev": {"path": "a.db"}}})
        .to_string(),
    )
    .unwrap();
    std::fs::write(folder.path().join("badname.json"), r#"{"1shop": {"type": "sqlite", "dev": {"path": "a.db"}}}"#)
        .unwrap();
    std::fs::write(
        folder.path().join("long.json"),
        json!({"shop": {"type": "sqlite", "description": "x".repeat(81), "dev": {"path": "a.db"}}}).to_string(),
    )
    .unwrap();
    let named = |name: &str| reading("sqlite", json!({"datasource": name, "table": "t"}));
    let script = |hops: Value| {
        json!({"type": "job", "version": "2.0",
            "steps": [{"stepType": "stream", "name": "R", "category": "reader", "parameter": stream()},
                      {"stepType": "stream", "name": "W", "category": "writer", "parameter": {"print": false}}],
            "order": {"hops": hops}, "setting": {}})
    };
    let cases = vec![
        case("empty file", "", 2, &["job.json", "empty"]),
        case("broken JSON", "{\"job\": {\"content\": [}", 2, &["line 1", "column"]),
        case("an array", "[]", 2, &["object"]),
        case("neither shape", "{\"jobs\": {}}", 2, &["job"]),
        case("no content", "{\"job\": {}}", 2, &["/job", "content"]),
        case("empty content", "{\"job\": {\"content\": []}}", 2, &["content"]),
        case(
            "no reader",
            json!({"job": {"content": [{"writer": {"name": "stream"}}]}}),
            2,
            &["/job/content/0", "reader"],
        ),
        case("no name", with(good(), "/job/content/0/reader/name", Value::Null), 2, &["/job/content/0/reader", "name"]),
        case("a reader misspelt", reading("mysqlreadr", json!({})), 2, &["/job/content/0/reader/name", "mysqlreader"]),
        case("a writer unknown", writing("tapewriter", json!({})), 2, &["/job/content/0/writer/name", "tapewriter"]),
        case("a writer as reader", reading("streamwriter", stream()), 2, &["/job/content/0/reader/name"]),
        case(
            "a key misspelt",
            reading("sqlite", json!({"path": "a.db", "tabel": "t"})),
            2,
            &["/job/content/0/reader/parameter/tabel", "`table`"],
        ),
        case("a key misspelt in DataX", reading("mysqlreader", json!({"colum": ["a"]})), 2, &["colum", "`column`"]),
        case(
            "a key unknown",
            reading("sqlite", json!({"path": "a.db", "table": "t", "zebra": 1})),
            2,
            &["parameter/zebra"],
        ),
        called(
            case(
                "a key unknown in DataX, strictly",
                with(reading("streamreader", stream()), "/job/content/0/reader/parameter/zebra", json!(1)),
                2,
                &["zebra"],
            ),
            &["--strict"],
        ),
        case("no boolean", writing("stream", json!({"print": "maybe"})), 2, &["writer/parameter/print", "maybe"]),
        case(
            "no number",
            with(good(), "/job/setting", json!({"speed": {"channel": "many"}})),
            2,
            &["/job/setting/speed/channel"],
        ),
        case(
            "no channels",
            with(good(), "/job/setting", json!({"speed": {"channel": -1}})),
            2,
            &["/job/setting/speed/channel"],
        ),
        case(
            "a negative limit",
            with(good(), "/job/setting", json!({"errorLimit": {"record": -1}})),
            2,
            &["/job/setting/errorLimit/record"],
        ),
        case(
            "a percentage over one",
            with(good(), "/job/setting", json!({"errorLimit": {"percentage": 1.5}})),
            2,
            &["/job/setting/errorLimit/percentage"],
        ),
        case(
            "several faults at once",
            with(reading("sqlite", json!({"tabel": "t"})), "/job/setting", json!({"errorLimit": {"record": "x"}})),
            2,
            &["tabel", "errorLimit/record"],
        ),
        case(
            "an undefined variable",
            with(good(), "/job/content/0/reader/parameter/sliceRecordCount", json!("${rows}")),
            2,
            &["rows", "-p"],
        ),
        case(
            "a secret's variable is not set",
            reading(
                "mysql",
                json!({"url": "mysql://127.0.0.1/x", "table": "t", "username": "u", "password": "${env:WEIR_NO_SUCH_VARIABLE}"}),
            ),
            2,
            &["WEIR_NO_SUCH_VARIABLE"],
        ),
        case(
            "a secret's file is not there",
            reading(
                "mysql",
                json!({"url": "mysql://127.0.0.1/x", "table": "t", "username": "u", "password": "${file:/no/such/secret}"}),
            ),
            2,
            &["/no/such/secret"],
        ),
        called(
            case("a data source unknown", named("on"), 2, &["datasource", "`one`"]),
            &["--datasources", "sources.json"],
        ),
        called(
            case("two environments", named("two"), 2, &["dev", "prod", "--env"]),
            &["--datasources", "sources.json"],
        ),
        called(
            case("an environment unknown", named("two"), 2, &["test"]),
            &["--datasources", "sources.json", "--env", "test"],
        ),
        called(
            case(
                "a data source of another type",
                reading("mysql", json!({"datasource": "one", "table": "t"})),
                2,
                &["one", "sqlite"],
            ),
            &["--datasources", "sources.json"],
        ),
        called(
            case("a data source's name", named("1shop"), 2, &["1shop", "letter"]),
            &["--datasources", "badname.json"],
        ),
        called(case("a data source's description", named("shop"), 2, &["80"]), &["--datasources", "long.json"]),
        called(case("no data sources file", named("one"), 2, &["nothere.json"]), &["--datasources", "nothere.json"]),
        called(case("a time", good(), 2, &["--at", "yesterday"]), &["--at", "yesterday"]),
        case("a time zone", with(good(), "/job/setting", json!({"timeZone": "Mars/Olympus"})), 2, &["Mars/Olympus"]),
        called(case("a parameter without a value", good(), 2, &["dt"]), &["-p", "dt"]),
        called(case("a switch unknown", good(), 2, &["--qiet"]), &["--qiet"]),
        case(
            "a transformer misspelt",
            transformer(json!({"name": "dx_substring", "parameter": {"columnIndex": 0, "paras": ["0", "1"]}})),
            2,
            &["transformer/0", "dx_substr"],
        ),
        case("groovy", transformer(json!({"name": "dx_groovy", "parameter": {"code": "x"}})), 2, &["dx_groovy"]),
        case(
            "a transformer without a column",
            transformer(json!({"name": "dx_substr", "parameter": {"paras": ["0", "1"]}})),
            2,
            &["transformer/0", "columnIndex"],
        ),
        case(
            "a transformer's arguments",
            transformer(json!({"name": "dx_substr", "parameter": {"columnIndex": 0, "paras": ["0"]}})),
            2,
            &["transformer/0", "paras"],
        ),
        case(
            "a filter's operator",
            transformer(json!({"name": "dx_filter", "parameter": {"columnIndex": 0, "paras": ["~", "x"]}})),
            2,
            &["transformer/0", "~"],
        ),
        case("a hop to nowhere", script(json!([{"from": "R", "to": "X"}])), 2, &["/order/hops/0", "X"]),
        case(
            "tables and statements",
            reading("mysql", json!({"url": "mysql://127.0.0.1/x", "table": "t", "querySql": "select 1"})),
            2,
            &["querySql", "table"],
        ),
        case("no address", reading("mysql", json!({"table": "t"})), 2, &["url"]),
        case("no table", reading("postgresql", json!({"url": "postgresql://127.0.0.1/x"})), 2, &["table"]),
        case(
            "a range of tables backwards",
            reading("mysql", json!({"url": "mysql://127.0.0.1/x", "table": "t_[9-1]"})),
            2,
            &["t_[9-1]"],
        ),
        case(
            "a write mode unknown",
            writing("postgresql", json!({"url": "postgresql://127.0.0.1/x", "table": "t", "writeMode": "upsertt"})),
            2,
            &["writeMode", "upsertt", "upsert"],
        ),
        case("a file without a mode", writing("files", json!({"path": "out/x.csv"})), 2, &["writeMode", "truncate"]),
        case(
            "upsert into a file",
            writing("files", json!({"path": "out/x.csv", "writeMode": "upsert"})),
            2,
            &["writeMode", "truncate"],
        ),
        case(
            "a parameter refused by name",
            reading(
                "mysqlreader",
                json!({"connection": [{"jdbcUrl": ["jdbc:mysql://127.0.0.1/x"], "table": ["t"]}], "column": ["*"], "splitMode": "randomSampling"}),
            ),
            2,
            &["splitMode"],
        ),
        case(
            "a random range backwards",
            reading("stream", json!({"column": [{"random": "9,1", "type": "long"}], "sliceRecordCount": 1})),
            2,
            &["column/0", "9,1"],
        ),
        case(
            "a file format unknown",
            reading("files", json!({"path": "a.xlsx", "format": "xlsx"})),
            2,
            &["format", "xlsx"],
        ),
        case(
            "an encoding unknown",
            reading("files", json!({"path": "a.csv", "encoding": "klingon"})),
            2,
            &["encoding", "klingon"],
        ),
        case(
            "a pair without a target",
            with(good(), "/job/content/0/writer/parameter/mapping", json!([{"from": "a"}])),
            2,
            &["mapping/0", "to"],
        ),
        case(
            "an address of another kind",
            reading("postgresql", json!({"url": "ftp://127.0.0.1/x", "table": "t"})),
            2,
            &["url", "postgresql://"],
        ),
    ];
    assert!(cases.len() >= 50);
    run_all(folder.path(), cases);
    let missing = Command::new(env!("CARGO_BIN_EXE_weir")).args(["run", "no-such-job.json"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-job.json"));
}

fn gzip_cut_short() -> Vec<u8> {
    let text: String = (0..50_000).map(|i| format!("{i},{}\n", i * 7919 % 10_007)).collect();
    let mut child =
        Command::new("gzip").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let mut bytes = child.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    bytes.truncate(bytes.len() / 2);
    bytes
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/shop.db"), at("shop.db")).unwrap();
    std::fs::write(at("no.db"), "this is no database, though it has some length to it").unwrap();
    std::fs::write(at("ragged.csv"), "a,b\n1,2\n3\n4,5\n").unwrap();
    std::fs::write(at("latin.csv"), b"a,b\nx,\xe9\n").unwrap();
    std::fs::write(at("cut.csv.gz"), gzip_cut_short()).unwrap();
    std::fs::write(at("broken.jsonl"), "{\"a\": 1}\n{\"a\": \n").unwrap();
    std::fs::write(at("no.parquet"), "PAR0 nothing").unwrap();
    std::fs::write(at("taken.csv"), "a\n").unwrap();
    std::fs::create_dir(at("plain")).unwrap();
    std::fs::write(at("plain/x.txt"), "x").unwrap();
    let sqlite = |p: Value| job_of("sqlite", p, "files", json!({"path": "out/x.csv", "writeMode": "truncate"}));
    let file = |p: Value| job_of("files", p, "files", json!({"path": "out/x.csv", "writeMode": "truncate"}));
    let cases = vec![
        case("no such database file", sqlite(json!({"path": "nope.db", "table": "t"})), 1, &["nope.db"]),
        case("no database", sqlite(json!({"path": "no.db", "table": "t"})), 1, &["no.db", "database"]),
        case("no such table", sqlite(json!({"path": "shop.db", "table": "order"})), 1, &["order", "orders"]),
        case(
            "a condition that does not parse",
            sqlite(json!({"path": "shop.db", "table": "orders", "where": "id >"})),
            1,
            &["orders"],
        ),
        case(
            "a statement that does not parse",
            sqlite(json!({"path": "shop.db", "querySql": "selct 1"})),
            1,
            &["selct"],
        ),
        case(
            "an expression that fails",
            sqlite(json!({"path": "shop.db", "table": "orders", "column": ["nothere + 1"]})),
            1,
            &["nothere"],
        ),
        case(
            "a column the target lacks",
            writing("sqlite", json!({"path": "shop.db", "table": "customers", "column": ["nam"]})),
            1,
            &["column/0", "`name`"],
        ),
        case(
            "a column the target needs",
            writing("sqlite", json!({"path": "shop.db", "table": "orders", "column": ["note"]})),
            1,
            &["orders"],
        ),
        case(
            "counts differ",
            job_of(
                "sqlite",
                json!({"path": "shop.db", "table": "orders", "column": ["id", "id"]}),
                "sqlite",
                json!({"path": "shop.db", "table": "customers", "column": ["id"]}),
            ),
            1,
            &["2", "1", "column"],
        ),
        case(
            "no folder for the database",
            writing("sqlite", json!({"path": "no/such/folder/x.db", "table": "t"})),
            1,
            &["no/such/folder"],
        ),
        case("no such file", file(json!({"path": "nope.csv"})), 1, &["nope.csv"]),
        case("a pattern without a match", file(json!({"path": "nope*.csv"})), 1, &["nope*.csv"]),
        case(
            "a ragged line",
            file(json!({"path": "ragged.csv", "header": true})),
            1,
            &["ragged.csv", "line 3", "errorLimit"],
        ),
        case("an archive cut short", file(json!({"path": "cut.csv.gz"})), 1, &["cut.csv.gz"]),
        case("text that is no UTF-8", file(json!({"path": "latin.csv", "header": true})), 1, &["UTF-8"]),
        case("a JSON line cut short", file(json!({"path": "broken.jsonl"})), 1, &["broken.jsonl", "line 2"]),
        case("no Parquet", file(json!({"path": "no.parquet"})), 1, &["no.parquet"]),
        case(
            "a file that is there already",
            writing("files", json!({"path": "taken.csv", "writeMode": "nonConflict"})),
            1,
            &["taken.csv"],
        ),
        case(
            "a folder under a file",
            writing("files", json!({"path": "taken.csv/x.csv", "writeMode": "truncate"})),
            1,
            &["taken.csv"],
        ),
        case(
            "no lakehouse table",
            job_of(
                "lakehouse",
                json!({"path": "plain"}),
                "files",
                json!({"path": "out/x.csv", "writeMode": "truncate"}),
            ),
            1,
            &["plain"],
        ),
        case(
            "an upsert without a key",
            writing("lakehouse", json!({"path": "out/lake", "writeMode": "upsert"})),
            1,
            &["key"],
        ),
        case(
            "a quarantine on a full disk",
            with(
                file(json!({"path": "ragged.csv", "header": true})),
                "/job/setting",
                json!({"errorLimit": {"record": "unlimited"}}),
            ),
            1,
            &["disk is full"],
        ),
    ];
    let mut cases = cases;
    let last = cases.pop().unwrap();
    cases.push(called(last, &["--quarantine", "/dev/full"]));
    run_all(folder.path(), cases);
    assert_eq!(std::fs::read_to_string(at("taken.csv")).unwrap(), "a\n");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).status();
    if !mounted.is_ok_and(|s| s.success()) {
        weir_plugins_test::not_run("a full disk: this machine lets nobody mount a small tmpfs");
        return;
    }
    let stream = json!({"column": [{"random": "900,1000", "type": "string"}], "sliceRecordCount": 20_000});
    for (name, writer, to) in [
        ("csv", "files", json!({"path": disk.join("x.csv"), "writeMode": "truncate"})),
        ("parquet", "files", json!({"path": disk.join("folder"), "format": "parquet", "writeMode": "truncate"})),
        ("sqlite", "sqlite", json!({"path": disk.join("x.db"), "table": "t", "writeMode": "overwrite"})),
        ("lakehouse", "lakehouse", json!({"path": disk.join("lake")})),
    ] {
        let job = job_of("stream", stream.clone(), writer, to);
        run_all(folder.path(), vec![case(name, job, 1, &["disk is full"])]);
        assert!(!disk.join("x.csv").exists() && !disk.join("lake/_delta_log").exists(), "{name}");
        for entry in std::fs::read_dir(&disk).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() { std::fs::remove_dir_all(entry).unwrap() } else { std::fs::remove_file(entry).unwrap() }
        }
    }
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
}

async fn tables(database: &Database) {
    database.execute("CREATE TABLE t (id int NOT NULL, name varchar(5), amount numeric(5,2), PRIMARY KEY (id))").await;
    database.execute("CREATE TABLE keyless (id int NOT NULL, name varchar(5))").await;
    database.execute("CREATE TABLE wide (id bigint NOT NULL, name varchar(50), amount numeric(12,2))").await;
    database.execute("INSERT INTO wide VALUES (1, 'one', 1.25), (2, 'much too long', 2.25)").await;
    database.execute("CREATE TABLE big (id bigint NOT NULL)").await;
    database.execute("INSERT INTO big VALUES (1), (3000000000)").await;
    database.execute("CREATE TABLE twice (id int NOT NULL)").await;
    database.execute("INSERT INTO twice VALUES (1), (2), (2)").await;
}

fn server_cases(plugin: &'static str, database: &Database, scheme: &str) -> Vec<Case> {
    let url = database.url();
    let wrong_password = database.url_with(database.user(), "wrong");
    let (host, port, name) = (database.host(), database.port(), database.name());
    let elsewhere = url.replace(&format!("/{name}"), "/no_such_database");
    let nobody = format!("{scheme}://weir:x@127.0.0.1:1/x");
    let nowhere = format!("{scheme}://weir:x@no-such-host.invalid:{port}/{name}");
    let from = |p: Value| job_of(plugin, p, "files", json!({"path": "out/x.csv", "writeMode": "truncate"}));
    let table = |t: &str| json!({"url": url, "table": t});
    let to = |source: &str, column: Value, p: Value| {
        let mut parameter = p;
        parameter["url"] = url.clone().into();
        job_of(plugin, json!({"url": url, "table": source, "column": column}), plugin, parameter)
    };
    assert!(!host.is_empty());
    vec![
        case("wrong password", from(json!({"url": wrong_password, "table": "t"})), 1, &["password"]),
        case("nobody listens", from(json!({"url": nobody, "table": "t"})), 1, &["127.0.0.1"]),
        case("no such host", from(json!({"url": nowhere, "table": "t"})), 1, &["no-such-host.invalid"]),
        case("no such database", from(json!({"url": elsewhere, "table": "t"})), 1, &["no_such_database"]),
        case("no such table", from(table("wid")), 1, &["wid"]),
        case("a bad condition", from(json!({"url": url, "table": "wide", "where": "id >"})), 1, &["wide"]),
        case("a bad statement", from(json!({"url": url, "querySql": "selct 1"})), 1, &["selct"]),
        case(
            "a bad expression",
            from(json!({"url": url, "table": "wide", "column": ["nothere + 1"]})),
            1,
            &["nothere"],
        ),
        case(
            "a writer's column",
            to("wide", json!(["id"]), json!({"table": "t", "column": ["idd"]})),
            1,
            &["column/0", "`id`"],
        ),
        case("counts", to("wide", json!(["id", "name"]), json!({"table": "t", "column": ["id"]})), 1, &["2", "1"]),
        case(
            "a column that is needed",
            to("wide", json!(["name"]), json!({"table": "t", "column": ["name"]})),
            1,
            &["id"],
        ),
        case(
            "a text too long",
            to("wide", json!(["id", "name"]), json!({"table": "t", "column": ["id", "name"]})),
            1,
            &["name", "errorLimit"],
        ),
        case(
            "a number too large",
            to("big", json!(["id"]), json!({"table": "t", "column": ["id"]})),
            1,
            &["3000000000", "errorLimit"],
        ),
        case("a key twice", to("twice", json!(["id"]), json!({"table": "t", "column": ["id"]})), 1, &["errorLimit"]),
        case(
            "an upsert without a key",
            to("twice", json!(["id"]), json!({"table": "keyless", "column": ["id"], "writeMode": "upsert"})),
            1,
            &["keyless", "key"],
        ),
        case(
            "a bad preSql",
            to("twice", json!(["id"]), json!({"table": "keyless", "column": ["id"], "preSql": ["delet from x"]})),
            1,
            &["delet from x"],
        ),
        case(
            "no table, none to be made",
            to("twice", json!(["id"]), json!({"table": "nothere", "createTable": false})),
            1,
            &["nothere", "createTable"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_say_no() {
    let folder = tempfile::tempdir().unwrap();
    let postgresql = servers::postgresql().await.fresh_database("bad").await;
    tables(&postgresql).await;
    let mut cases = server_cases("postgresql", &postgresql, "postgresql");
    let url = postgresql.url();
    let nul = json!({"path": "nul.csv", "column": [{"index": 0, "type": "string"}], "header": false});
    std::fs::write(folder.path().join("nul.csv"), b"a\0b\n").unwrap();
    cases.extend([
        case("a NUL", job_of("files", nul, "postgresql", json!({"url": url, "table": "nul", "column": ["x"], "preSql": ["create table if not exists nul (x text)"], "createTable": false})), 1, &["nul"]),
        case("TLS where there is none", reading("postgresql", json!({"url": format!("{url}?sslmode=require"), "table": "t"})), 1, &["TLS"]),
        case("bytes into a number", job_of("postgresql", json!({"url": url, "querySql": "select '\\x00'::bytea as id"}), "postgresql", json!({"url": url, "table": "keyless", "column": ["id"]})), 1, &["bytea", "id"]),
    ]);
    run_all(folder.path(), cases);
    for table in ["t", "keyless"] {
        assert_eq!(postgresql.value(&format!("SELECT count(*) FROM {table}")).await, "0", "{table}");
    }
    for server in [servers::mariadb().await, servers::mysql().await] {
        let database = server.fresh_database("bad").await;
        tables(&database).await;
        run_all(folder.path(), server_cases("mysql", &database, "mysql"));
        for table in ["t", "keyless"] {
            assert_eq!(database.value(&format!("SELECT count(*) FROM {table}")).await, "0", "{table}");
        }
    }
}
