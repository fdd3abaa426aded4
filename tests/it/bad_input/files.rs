//! Files and disks that are not what they should be.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{called, case, run_all, with, writing};
use crate::support::job_of;

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

/// What a command line says and how it exits, in a folder with a job.
fn weir(folder: &Path, call: &[&str], job: &Value) -> (Option<i32>, String) {
    std::fs::write(folder.join("job.json"), job.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(call)
        .arg("job.json")
        .current_dir(folder)
        .env("WEIR_STATE_DIR", folder.join("state"))
        .env("TMPDIR", folder.join("no-folder"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_read_only_disk_is_seen_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&disk).status();
    if !mounted.is_ok_and(|s| s.success()) {
        weir_plugins_test::not_run("a read-only disk: this machine lets nobody mount a small tmpfs");
        return;
    }
    let into = |writer: &str, to: Value| {
        let stream = json!({"column": [{"value": "x", "type": "string", "name": "v"}], "sliceRecordCount": 3});
        job_of("stream", stream, writer, to)
    };
    let sqlite = |file: &str| into("sqlite", json!({"path": disk.join(file), "table": "t", "createTable": true}));
    let lake = |name: &str| into("lakehouse", json!({"path": disk.join(name)}));
    let files =
        |name: &str| into("files", json!({"path": disk.join(name), "format": "parquet", "writeMode": "truncate"}));
    for job in [sqlite("there.db"), lake("there"), files("parts/")] {
        for call in ["run", "check"] {
            let (exit, said) = weir(folder.path(), &[call], &job);
            assert_eq!(exit, Some(0), "{said}");
        }
    }
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).status();
    assert!(remounted.unwrap().success());
    let jobs =
        [sqlite("there.db"), sqlite("new.db"), lake("there"), lake("new"), files("parts/"), files("new/")].map(|job| {
            let (exit, said) = weir(folder.path(), &["check"], &job);
            (exit != Some(0) && ["read-only", "is not writable"].iter().any(|word| said.contains(word)), said)
        });
    let (exit, failed) = weir(folder.path(), &["run"], &lake("there"));
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    for (told, said) in jobs {
        assert!(told, "{said}");
    }
    assert!(exit == Some(1) && failed.contains("read-only") && !failed.contains("read delta log"), "{failed}");
}

#[test]
fn a_merge_says_which_folder_its_temporary_files_need() {
    let folder = tempfile::tempdir().unwrap();
    let of = |rows: u32| {
        let stream = json!({
            // Keys that come twice: whole rows are sorted.
            "column": [{"random": "1,1000", "type": "long", "name": "id"},
                {"random": "800,900", "type": "string", "name": "v"}],
            "sliceRecordCount": rows,
        });
        let lake = json!({"path": "lake", "writeMode": "upsert", "key": "id", "mergeMemory": 24 << 20});
        job_of("stream", stream, "lakehouse", lake)
    };
    let fails = || {
        let (exit, said) = weir(folder.path(), &["run", "--fresh"], &of(25_000));
        assert_eq!(exit, Some(1), "{said}");
        for word in ["temporary files", "TMPDIR", "no-folder"] {
            assert!(said.contains(word), "{said}");
        }
    };
    fails();
    let (exit, said) = weir(folder.path(), &["run", "--fresh"], &of(10));
    assert_eq!(exit, Some(0), "{said}");
    fails();
}
