//! What is known without connecting: exit code 2.

use std::process::Command;

use serde_json::{Value, json};

use super::{called, case, reading, run_all, stream, with, writing};
use crate::support::job_of;

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
    let version_one = |version: &str| {
        json!({"type": "job", "version": version, "configuration": {
            "reader": {"plugin": "stream", "parameter": stream()}, "writer": {"plugin": "stream"}}})
    };
    let shards = |tables: &str| {
        let from = json!({"url": "mysql://127.0.0.1/x", "table": "t_[0-2]"});
        job_of("mysql", from, "postgresql", json!({"url": "postgresql://127.0.0.1/x", "table": tables}))
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
        case("a script of an unknown version", version_one("3.0"), 2, &["/version", "3.0", "1.0 and 2.0"]),
        case(
            "a script of version 1.0 without a reader's name",
            {
                let mut script = version_one("1.0");
                script["configuration"]["reader"]["plugin"] = Value::Null;
                script
            },
            2,
            &["/configuration/reader", "plugin"],
        ),
        case(
            "more tables to write than to read",
            shards("a,b,c,d"),
            2,
            &["writer/parameter/table", "4 tables to write and 3 to read"],
        ),
        called(case("no error limit", good(), 2, &["--error-limit", "many", "unlimited"]), &["--error-limit", "many"]),
        case(
            "a rate for each channel",
            with(good(), "/core", json!({"transport": {"channel": {"speed": {"byte": "fast"}}}})),
            2,
            &["/core/transport/channel/speed/byte"],
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
            &["parameter/table", "[9-1]", "backwards"],
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
