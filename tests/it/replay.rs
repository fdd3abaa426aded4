//! Dirty rows, mended and written after all.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{Quarantine, Report, RunOptions, Start, Status};
use weir_plugins_test::servers;

use crate::support::{counts, job_of, load};

struct Bench {
    folder: tempfile::TempDir,
    job: weir::Job,
}

impl Bench {
    fn new(job: impl FnOnce(&Path) -> Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path());
        job["job"]["setting"]["errorLimit"] = json!("unlimited");
        let mut job = load(&job);
        job.name = "bench".into();
        Self { folder, job }
    }

    fn options(&self) -> RunOptions {
        RunOptions { state_dir: Some(self.folder.path().join("state")), ..RunOptions::default() }
    }

    async fn run(&self) -> Report {
        let report = weir::run(&self.job, self.options()).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
        report
    }

    async fn replay(&self, file: &Path) -> Report {
        let report = weir::replay(&self.job, file, self.options()).await.unwrap();
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
        report
    }
}

/// The same rows, each changed.
fn mended(file: &Path, mut mend: impl FnMut(&mut Value)) -> PathBuf {
    let mut text = String::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let mut row: Value = serde_json::from_str(line).unwrap();
        mend(&mut row["values"]);
        text.push_str(&format!("{row}\n"));
    }
    let path = file.with_extension("mended.jsonl");
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn mended_rows_arrive_once() {
    let database = servers::postgresql().await.fresh_database("replay").await;
    // One row that cannot be read, one that cannot be converted, one that the target refuses; the table is emptied before
    // a run, which a replay must not do.
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, n smallint CHECK (n <> 13), raw bytea, at timestamptz)")
        .await;
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        let rows = "id,n,raw,at\n1,10,\\x00ff,2025-01-01 00:00:00Z\n2,x,\\x01,2025-01-02 00:00:00Z\n\
                    3,70000,\\x02ff,2025-01-03 00:00:00.5Z\n4,13,\\x03ff,2025-01-04 00:00:00.25Z\n5,50,,\n";
        fs::write(&file, rows).unwrap();
        let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}, {"name": "raw", "type": "bytes"},
            {"name": "at", "type": "instant"}]);
        let to = json!({"url": database.url(), "table": "t", "preSql": "DELETE FROM @table"});
        job_of("files", json!({"path": file, "column": columns}), "postgresql", to)
    });
    let report = bench.run().await;
    assert_eq!(counts(&report), (5, 2, 3));
    let dirty = report.quarantine.unwrap();
    // Mended half: the last one stays as it is, and is dirty again.
    let half = mended(&dirty, |values| match values["id"].as_str() {
        Some("2") => values["n"] = json!("20"),
        Some("3") => values["n"] = json!(30),
        _ => {}
    });
    let replayed = bench.replay(&half).await;
    assert_eq!(counts(&replayed), (3, 2, 1));
    let left = replayed.quarantine.clone().unwrap();
    let text = fs::read_to_string(&left).unwrap();
    assert!(
        text.contains("\"source\":\"") && !text.contains("replay-") || text.matches("replay-").count() == 1,
        "{text}"
    );
    // Again: the same run, nothing written.
    let again = bench.replay(&half).await;
    assert_eq!(again.run_id, replayed.run_id);
    assert_eq!(database.value("SELECT count(*) FROM t").await, "4");
    let last = mended(&left, |values| values["n"] = json!("40"));
    assert_eq!(counts(&bench.replay(&last).await), (1, 1, 0));
    let rows = "SELECT string_agg(id || ':' || n || ':' || coalesce(encode(raw, 'hex'), '-') || ':' || \
                coalesce(to_char(at AT TIME ZONE 'UTC', 'MM-DD SS.MS'), '-'), ' ' ORDER BY id) FROM t";
    assert_eq!(
        database.value(rows).await,
        "1:10:00ff:01-01 00.000 2:20:01:01-02 00.000 3:30:02ff:01-03 00.500 4:40:03ff:01-04 00.250 5:50:-:-"
    );
    // On purpose it can be written again: the key says that it was there.
    let options = RunOptions { start: Start::Fresh, ..bench.options() };
    let fresh = weir::replay(&bench.job, &last, options).await.unwrap();
    assert_eq!((fresh.rows_written, fresh.rows_dirty), (0, 1), "{:#?}", fresh.error);
    let kept: Vec<_> = fs::read_dir(bench.folder.path().join("state/replay")).unwrap().collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn an_overwritten_file_gets_the_mended_rows_beside_its_own() {
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "id,n,name\n1,10,a\n2,x,b\n3,30,c\n").unwrap();
        let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}, {"name": "name"}]);
        let to = json!({"path": folder.join("out"), "format": "jsonl", "writeMode": "truncate"});
        let mut job = job_of("files", json!({"path": file, "column": columns}), "files", to);
        job["job"]["content"][0]["writer"]["parameter"]["mapping"] =
            json!([{"from": "id", "to": "key"}, {"from": "n", "to": "number"}, {"value": "csv", "to": "origin"}]);
        job
    });
    let report = bench.run().await;
    let file = mended(&report.quarantine.unwrap(), |values| values["n"] = json!("20"));
    for _ in 0..2 {
        assert_eq!(counts(&bench.replay(&file).await), (1, 1, 0));
    }
    let mut lines: Vec<String> = Vec::new();
    for part in fs::read_dir(bench.folder.path().join("out")).unwrap() {
        let path = part.unwrap().path();
        if path.is_file() {
            lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort();
    // Numbers are numbers, as in the other rows.
    let row = |id: u32| format!("{{\"key\":{id},\"number\":{},\"origin\":\"csv\"}}", id * 10);
    assert_eq!(lines, [row(1), row(2), row(3)]);
}

#[tokio::test]
async fn rows_go_through_the_transformers_that_they_have_not_seen() {
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "name,n\nabcdef,1\nghijkl,x\nmnopqr,2\nuvwxyz,y\n").unwrap();
        let columns = json!([{"name": "name", "type": "string"}, {"name": "n", "type": "long"}]);
        let to = json!({"path": folder.join("out.csv"), "writeMode": "truncate"});
        let mut job = job_of("files", json!({"path": file, "column": columns}), "files", to);
        job["job"]["content"][0]["transformer"] = json!([
            {"name": "dx_substr", "parameter": {"columnIndex": 0, "paras": ["1", "3"]}},
            {"name": "dx_filter", "parameter": {"columnIndex": 1, "paras": ["=", "2"]}}
        ]);
        job
    });
    let report = bench.run().await;
    assert_eq!((report.rows_written, report.rows_filtered, report.rows_dirty), (1, 1, 2));
    let mut n = 1;
    let file = mended(&report.quarantine.unwrap(), |values| {
        n += 1;
        values["n"] = json!(n.to_string());
    });
    let report = bench.replay(&file).await;
    assert_eq!((report.rows_written, report.rows_filtered), (1, 1));
    assert_eq!(fs::read_to_string(bench.folder.path().join("out.csv")).unwrap(), "name,n\nbcd,1\nvwx,3\n");
}

#[tokio::test]
async fn what_is_no_row_of_the_job_is_refused_with_its_line() {
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "id,n\n1,x\n").unwrap();
        let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
        let to = json!({"path": folder.join("out.csv"), "writeMode": "truncate"});
        job_of("files", json!({"path": file, "column": columns}), "files", to)
    });
    let dirty = bench.run().await.quarantine.unwrap();
    let refusal = async |file: &Path| weir::replay(&bench.job, file, bench.options()).await.unwrap_err();
    let lacking = mended(&dirty, |values| drop(values.as_object_mut().unwrap().shift_remove("n")));
    let error = refusal(&lacking).await;
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.full().contains("no value for `n`"), "{}", error.full());
    fs::write(&lacking, "{\"no\": \"row\"}\n").unwrap();
    assert!(refusal(&lacking).await.full().contains("line 1"));
    let strange = fs::read_to_string(&dirty).unwrap().replace("out.csv", "else.csv");
    fs::write(&lacking, strange).unwrap();
    assert!(refusal(&lacking).await.full().contains("else.csv"));
    let nowhere = RunOptions::default();
    assert_eq!(weir::replay(&bench.job, &dirty, nowhere).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn values_that_passed_undecoded_are_mended_as_what_they_are() {
    let columns = "id int PRIMARY KEY, n numeric CHECK (n <> 13), raw bytea, doc jsonb, at timestamptz, list int[]";
    let database = servers::postgresql().await.fresh_database("replay_native").await;
    database.execute(&format!("CREATE TABLE s ({})", columns.replace("CHECK (n <> 13)", ""))).await;
    database.execute(&format!("CREATE TABLE t ({columns})")).await;
    let rows = "SELECT g, g, '\\x00ff61', '{\"a\": [1, \"é\"]}', '2025-01-02 03:04:05.678+00', '{1,NULL}' FROM generate_series(1, 20) g";
    database.execute(&format!("INSERT INTO s {rows}")).await;
    let bench = Bench::new(|_| {
        let from = json!({"url": database.url(), "table": "s"});
        job_of("postgresql", from, "postgresql", json!({"url": database.url(), "table": "t", "writeMode": "upsert"}))
    });
    let dirty = bench.run().await.quarantine.unwrap();
    let file = mended(&dirty, |values| values["n"] = json!("13.5"));
    assert_eq!(counts(&bench.replay(&file).await), (1, 1, 0));
    database.execute("UPDATE s SET n = 13.5 WHERE n = 13").await;
    assert_eq!(database.value("SELECT count(*) FROM (SELECT * FROM s EXCEPT SELECT * FROM t) d").await, "0");
}

#[tokio::test]
async fn rows_of_a_merge_keep_what_says_where_they_come_from() {
    let source = servers::mariadb().await.fresh_database("replay_merge").await;
    for (number, day) in [(1, "2025-01-01"), (2, "0000-00-00")] {
        source
            .execute(&format!(
                "SET sql_mode = ''; CREATE TABLE orders_{number} (id int PRIMARY KEY, n int, day date); \
                 INSERT INTO orders_{number} VALUES (1, 10, '2025-01-01'), (2, 13, '2025-01-02'), (3, 30, '{day}')"
            ))
            .await;
    }
    let target = servers::postgresql().await.fresh_database("replay_merge").await;
    target
        .execute(
            "CREATE TABLE orders (id int, n int CHECK (n <> 13), day date, source_database text, source_table text, \
             PRIMARY KEY (id, source_database, source_table))",
        )
        .await;
    let mut job = load(&json!({
        "type": "database",
        "source": {"name": "mysql", "parameter": {"url": source.url(), "zeroDate": "error"}},
        "target": {"name": "postgresql", "parameter": {"url": target.url()}},
        "objects": {"merge": [{"into": "orders", "from": ["/orders_[0-9]+/"], "origin": true}]},
        "naming": {"schema": "{TARGET_SCHEMA}"},
        "setting": {"errorLimit": "unlimited"},
    }));
    job.name = "bench".into();
    let bench = Bench { folder: tempfile::tempdir().unwrap(), job };
    let report = bench.run().await;
    // Two that the target refuses, and one that cannot be read.
    assert_eq!(counts(&report), (6, 3, 3), "{:#?}", report.warnings);
    let file = mended(&report.quarantine.unwrap(), |values| match values["n"].as_str() {
        Some("13") => values["n"] = json!("20"),
        _ => values["day"] = json!("2025-01-03"),
    });
    assert_eq!(counts(&bench.replay(&file).await), (3, 3, 0));
    let rows = "SELECT string_agg(concat_ws(' ', id, n, day, source_table), ', ' ORDER BY source_table, id) FROM orders \
                WHERE source_database LIKE '%replay_merge%'";
    assert_eq!(
        target.value(rows).await,
        "1 10 2025-01-01 orders_1, 2 20 2025-01-02 orders_1, 3 30 2025-01-01 orders_1, \
         1 10 2025-01-01 orders_2, 2 20 2025-01-02 orders_2, 3 30 2025-01-03 orders_2"
    );
}

#[tokio::test]
async fn values_by_table_are_known_behind_transformers_too() {
    let source = servers::mariadb().await.fresh_database("replay_tables").await;
    for (table, day) in [("a", "2025-01-01"), ("b", "0000-00-00")] {
        source
            .execute(&format!(
                "SET sql_mode = ''; CREATE TABLE {table} (id int PRIMARY KEY, v varchar(9), day date); \
                 INSERT INTO {table} VALUES (1, 'abc', '{day}')"
            ))
            .await;
    }
    let bench = Bench::new(|folder| {
        let from = json!({"url": source.url(), "table": ["a", "b"], "zeroDate": "error"});
        let to = json!({"path": folder.join("out.csv"), "writeMode": "truncate"});
        let mut job = job_of("mysql", from, "files", to);
        job["job"]["content"][0]["writer"]["parameter"]["mapping"] = json!([
            {"from": "id", "to": "id"}, {"from": "v", "to": "v"}, {"from": "day", "to": "day"},
            {"value": ["of a", "of b"], "to": "origin"}
        ]);
        job["job"]["content"][0]["transformer"] =
            json!([{"name": "dx_substr", "parameter": {"columnIndex": 1, "paras": ["1", "3"]}}]);
        job
    });
    let dirty = bench.run().await.quarantine.unwrap();
    // Mended half at first: the second time the row comes from a file of the replay.
    let still = mended(&dirty, |values| values["day"] = json!("soon"));
    let left = bench.replay(&still).await.quarantine.unwrap();
    let file = mended(&left, |values| values["day"] = json!("2025-01-02"));
    assert_eq!(counts(&bench.replay(&file).await), (1, 1, 0));
    let text = fs::read_to_string(bench.folder.path().join("out.csv")).unwrap();
    assert_eq!(text, "id,v,day,origin\n1,bc,2025-01-01,of a\n1,bc,2025-01-02,of b\n");
}

#[tokio::test]
async fn rows_of_a_replay_that_did_not_end_are_not_written_again_by_another() {
    let database = servers::postgresql().await.fresh_database("replay_twice").await;
    database.execute("CREATE TABLE t (name text, n int CHECK (n <> 13))").await;
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "name,n\nabcd,1\nefgh,13\nijkl,x\n").unwrap();
        let columns = json!([{"name": "name", "type": "string"}, {"name": "n", "type": "long"}]);
        let to = json!({"url": database.url(), "table": "t", "writeMode": "append"});
        let mut job = job_of("files", json!({"path": file, "column": columns}), "postgresql", to);
        // Rows that the reader refused are another entry of the replay than those that the target did.
        job["job"]["content"][0]["transformer"] =
            json!([{"name": "dx_substr", "parameter": {"columnIndex": 0, "paras": ["1", "3"]}}]);
        job["job"]["setting"] = json!({"speed": {"channel": 1}});
        job
    });
    let dirty = bench.run().await.quarantine.unwrap();
    let mend = |read: &'static str| {
        let of = |values: &mut Value| values["n"] = json!(if values["n"] == "x" { read } else { "14" });
        let mended = mended(&dirty, of);
        let own = dirty.with_file_name(format!("{read}.jsonl"));
        fs::rename(mended, &own).unwrap();
        own
    };
    let (half, whole) = (mend("y"), mend("15"));
    let none = || RunOptions { error_limit: Some("0".parse().unwrap()), ..bench.options() };
    let count = "SELECT count(*) FROM t";
    let failed = weir::replay(&bench.job, &half, none()).await.unwrap();
    assert_eq!((failed.status, database.value(count).await.as_str()), (Status::PartiallyFailed, "2"), "{failed:#?}");
    let refused = weir::replay(&bench.job, &whole, none()).await.unwrap();
    let message = refused.error.unwrap().message;
    assert!(message.contains(&failed.run_id) && message.contains("replay the same file again"), "{message}");
    assert!(message.contains("for good") && message.contains("--fresh"), "{message}");
    assert_eq!(database.value(count).await, "2");
    // The same file goes on where it was: the other row is dirty again, which this call tolerates.
    let done = bench.replay(&half).await;
    assert_eq!((&done.run_id, counts(&done)), (&failed.run_id, (2, 1, 1)));
    let rest = mended(done.quarantine.as_ref().unwrap(), |values| values["n"] = json!("15"));
    assert_eq!(counts(&bench.replay(&rest).await), (1, 1, 0));
    assert_eq!(database.value("SELECT string_agg(name || n, ' ' ORDER BY n) FROM t").await, "bcd1 fgh14 jkl15");
}

#[tokio::test]
async fn a_replay_waits_for_the_run_of_its_job_and_gives_another_up_knowingly() {
    let database = servers::postgresql().await.fresh_database("replay_lock").await;
    database.execute("CREATE TABLE t (id int, n int CHECK (n <> 13))").await;
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "id,n\n1,1\n2,13\n").unwrap();
        let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
        let to = json!({"url": database.url(), "table": "t", "writeMode": "append"});
        job_of("files", json!({"path": file, "column": columns}), "postgresql", to)
    });
    let dirty = bench.run().await.quarantine.unwrap();
    let lock = fs::read_dir(bench.folder.path().join("state/locks")).unwrap().next().unwrap().unwrap();
    let held = fs::File::options().write(true).open(lock.path()).unwrap();
    held.try_lock().unwrap();
    let error = weir::replay(&bench.job, &dirty, bench.options()).await.unwrap_err();
    assert!(error.message().contains("another run of this job is going on"), "{error}");
    drop(held);
    // Nothing of it is there: it is given up for one that is mended, and says so when it comes again.
    let none = || RunOptions { error_limit: Some("0".parse().unwrap()), ..bench.options() };
    assert_eq!(weir::replay(&bench.job, &dirty, none()).await.unwrap().status, Status::Failed);
    let file = mended(&dirty, |values| values["n"] = json!("14"));
    assert_eq!(counts(&bench.replay(&file).await), (1, 1, 0));
    let error = weir::replay(&bench.job, &dirty, bench.options()).await.unwrap_err();
    assert!(error.message().contains("was given up") && error.message().contains("--fresh"), "{error}");
}

#[tokio::test]
async fn rows_of_a_run_that_may_go_on_are_not_replayed() {
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "id,n\n1,10\n2,x\n").unwrap();
        let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
        let to = json!({"path": folder.join("to.db"), "table": "t", "writeMode": "append"});
        job_of("files", json!({"path": file, "column": columns}), "sqlite", to)
    });
    let none = RunOptions { error_limit: Some("0".parse().unwrap()), ..bench.options() };
    let failed = weir::run(&bench.job, none).await;
    let file = mended(failed.quarantine.as_ref().unwrap(), |values| values["n"] = json!("20"));
    let error = weir::replay(&bench.job, &file, bench.options()).await.unwrap_err();
    assert!(error.message().contains(&failed.run_id) && error.message().contains("--resume"), "{}", error.full());
    let resumed = weir::run(&bench.job, RunOptions { start: Start::Resume, ..bench.options() }).await;
    assert_eq!((resumed.status, counts(&resumed)), (Status::Succeeded, (2, 1, 1)), "{resumed:#?}");
    assert_eq!(resumed.run_id, failed.run_id);
    let file = mended(&resumed.quarantine.unwrap(), |values| values["n"] = json!("20"));
    assert_eq!(counts(&bench.replay(&file).await), (1, 1, 0));
}

/// As after a death between the run and the names of what is left.
#[tokio::test]
async fn what_is_left_of_a_replay_that_died_is_named_by_the_next_call() {
    let bench = Bench::new(|folder| {
        let file = folder.join("in.csv");
        fs::write(&file, "id,n\n1,10\n2,x\n").unwrap();
        let columns = json!([{"name": "id", "type": "long"}, {"name": "n", "type": "long"}]);
        let to = json!({"path": folder.join("to.db"), "table": "t", "writeMode": "append"});
        job_of("files", json!({"path": file, "column": columns}), "sqlite", to)
    });
    let dirty = bench.run().await.quarantine.unwrap();
    let left = bench.folder.path().join("left.jsonl");
    let options = || RunOptions { quarantine: Quarantine::Path(left.clone()), ..bench.options() };
    let in_the_way = bench.folder.path().join("left.jsonl.named");
    fs::create_dir(&in_the_way).unwrap();
    weir::replay(&bench.job, &dirty, options()).await.unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    let again = weir::replay(&bench.job, &dirty, options()).await.unwrap();
    assert_eq!((again.status, counts(&again)), (Status::Succeeded, (1, 0, 1)), "{again:#?}");
    let of = |file: &Path| {
        let row: Value = serde_json::from_str(fs::read_to_string(file).unwrap().trim_end()).unwrap();
        row["source"].clone()
    };
    assert_eq!(of(&left), of(&dirty));
    assert!(fs::read_to_string(&left).unwrap().contains("\"side\":\"writer\""));
    assert!(fs::read_dir(bench.folder.path().join("state/replay")).unwrap().next().is_none(), "nothing stays");
    let file = mended(&left, |values| values["n"] = json!("20"));
    assert_eq!(counts(&bench.replay(&file).await), (1, 1, 0));
}
