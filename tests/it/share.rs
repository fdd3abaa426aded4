//! A share of dirty rows that decides at the end: until it has, none of the run's rows is at the target, whatever the mode. And
//! a number of them, which ends the run at the row that is one too many.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{Quarantine, Report, RunOptions, Status};
use weir_plugins_test::servers::{self, Database};

use crate::support::{counts, job_of, load, run};

/// A database with a table `t`, and how it is asked.
enum Target {
    Server(&'static str, Database),
    File(PathBuf),
}

impl Target {
    async fn all(name: &str, folder: &Path) -> Vec<Self> {
        let mut all = vec![
            Self::Server("postgresql", servers::postgresql().await.fresh_database(name).await),
            Self::Server("mysql", servers::mariadb().await.fresh_database(name).await),
            Self::Server("mysql", servers::mysql().await.fresh_database(name).await),
            Self::File(folder.join(format!("{name}.db"))),
        ];
        if let Some(server) = servers::sqlserver() {
            all.push(Self::Server("sqlserver", server.fresh_database(name).await));
        }
        all
    }

    fn connector(&self) -> &'static str {
        match self {
            Self::Server(connector, _) => connector,
            Self::File(_) => "sqlite",
        }
    }

    /// The writer's parameters.
    fn to(&self, more: Value) -> Value {
        let mut to = match self {
            Self::Server(_, database) => json!({"url": database.url(), "table": "t"}),
            Self::File(path) => json!({"path": path, "table": "t"}),
        };
        more.as_object().into_iter().flatten().for_each(|(key, value)| to[key] = value.clone());
        to
    }

    async fn execute(&self, sql: &str) {
        match self {
            Self::Server(_, database) => database.execute(sql).await,
            Self::File(path) => drop(sqlite3(path, sql).await),
        }
    }

    /// Rows as `1 old`, in order.
    async fn rows(&self) -> Vec<String> {
        let sql = "SELECT id, v FROM t ORDER BY id, v";
        match self {
            Self::Server(_, database) => {
                let text = |row: Vec<Option<String>>| row.into_iter().flatten().collect::<Vec<_>>().join(" ");
                database.query(sql).await.into_iter().map(text).collect()
            }
            Self::File(path) => sqlite3(path, sql).await.lines().map(|line| line.replace('|', " ")).collect(),
        }
    }

    /// Tables of Weir's own with rows, or that should be gone.
    async fn litter(&self) -> Vec<String> {
        let (names, records) = match self {
            Self::Server(_, database) => {
                let names = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE 'weir%'";
                let names = match database.server().family() {
                    servers::Family::MariaDb | servers::Family::MySql => {
                        format!("{names} AND TABLE_SCHEMA = DATABASE()")
                    }
                    _ => names.to_owned(),
                };
                let names: Vec<_> = database.query(&names).await.into_iter().flatten().flatten().collect();
                let records = match names.iter().any(|name| name == "weir_commits") {
                    true => database.value("SELECT count(*) FROM weir_commits").await,
                    false => "0".into(),
                };
                (names, records)
            }
            Self::File(path) => {
                let names = sqlite3(path, "SELECT name FROM sqlite_schema WHERE name LIKE 'weir%'").await;
                let records = sqlite3(path, "SELECT count(*) FROM weir_commits").await;
                (names.lines().map(str::to_owned).collect(), records.trim().to_owned())
            }
        };
        let staging = names.into_iter().filter(|name| !name.contains("weir_commits"));
        staging.chain((!matches!(records.as_str(), "0" | "")).then(|| format!("{records} records"))).collect()
    }
}

async fn sqlite3(path: &Path, sql: &str) -> String {
    let said = tokio::process::Command::new("sqlite3").arg(path).args([".timeout 5000", sql]).output().await.unwrap();
    String::from_utf8(said.stdout).unwrap()
}

const TABLE: &str = "CREATE TABLE t (id int NOT NULL PRIMARY KEY, v varchar(20), CHECK (v <> 'bad')); \
                     INSERT INTO t VALUES (1, 'old'), (2, 'old');";

/// Two files, a split each: a hundred rows, and four at fault. One the target's check refuses, one has a key that the
/// target has, one a key that came before, one is no number.
fn source(folder: &Path) -> Value {
    let input = folder.join("in");
    std::fs::create_dir_all(&input).unwrap();
    let good = |ids: std::ops::Range<u32>| ids.map(|id| format!("{id},new\n")).collect::<String>();
    std::fs::write(input.join("a.csv"), format!("id,v\n{}301,bad\n1,new\n", good(101..151))).unwrap();
    std::fs::write(input.join("b.csv"), format!("id,v\n{}199,twice\nx,new\n", good(151..201))).unwrap();
    let columns = json!([{"name": "id", "type": "long"}, {"name": "v", "type": "string"}]);
    json!({"path": input.join("*.csv"), "format": "csv", "header": true, "column": columns})
}

fn job(folder: &Path, target: &Target, limit: Value, to: Value) -> Value {
    let mut job = job_of("files", source(folder), target.connector(), target.to(to));
    job["job"]["setting"] = json!({"errorLimit": limit, "speed": {"channel": 2}});
    job
}

fn rows(old: &[&str], new: std::ops::Range<u32>) -> Vec<String> {
    old.iter().map(|row| (*row).to_owned()).chain(new.map(|id| format!("{id} new"))).collect()
}

fn what(target: &Target, report: &Report) -> String {
    format!("{}: {:#?} {:#?}", target.connector(), report.error, report.warnings)
}

#[tokio::test]
async fn an_append_beyond_the_share_leaves_the_target_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for target in Target::all("share", folder.path()).await {
        target.execute(TABLE).await;
        for once in [true, false] {
            let to = json!({"exactlyOnce": once, "column": ["id", "v"]});
            let report = run(&job(folder.path(), &target, json!({"percentage": 0.02}), to)).await;
            let what = what(&target, &report);
            assert_eq!(report.error.as_ref().map(|e| e.kind), Some(ErrorKind::DirtyLimit), "{what}");
            assert!(what.contains("4 of 104 rows are dirty"), "{what}");
            assert_eq!((report.status, report.rows_written), (Status::Failed, 0), "{what}");
            assert_eq!(target.rows().await, ["1 old", "2 old"], "{what}");
            assert_eq!(target.litter().await, Vec::<String>::new(), "{what}");
        }
    }
}

#[tokio::test]
async fn an_append_within_the_share_brings_each_row_once_and_keeps_the_dirty_ones() {
    let folder = tempfile::tempdir().unwrap();
    for target in Target::all("within", folder.path()).await {
        for once in [true, false] {
            target.execute(&format!("DROP TABLE IF EXISTS t; {TABLE}")).await;
            let kept = folder.path().join("dirty.jsonl");
            let to = json!({"exactlyOnce": once, "postSql": "INSERT INTO t VALUES (900, 'after')"});
            let job = job(folder.path(), &target, json!({"percentage": 0.05}), to);
            let options = RunOptions { quarantine: Quarantine::Path(kept.clone()), ..RunOptions::default() };
            let report = weir::run(&load(&job), options).await;
            let what = what(&target, &report);
            assert_eq!((report.status, counts(&report)), (Status::Succeeded, (104, 100, 4)), "{what}");
            let mut expected = rows(&["1 old", "2 old"], 101..201);
            expected.push("900 after".into());
            // Of two rows with one key either may have come first.
            let found: Vec<String> = target.rows().await.iter().map(|row| row.replace("twice", "new")).collect();
            assert_eq!(found, expected, "{what}");
            assert_eq!(target.litter().await, Vec::<String>::new(), "{what}");
            let dirty = std::fs::read_to_string(&kept).unwrap();
            assert!(dirty.contains("a row of the target has the same id"), "{dirty}");
        }
    }
}

/// Rows may be there as soon as their split is: a number of rows ends a run at once, and a share of 1 never does.
#[tokio::test]
async fn a_number_of_rows_or_a_share_of_all_lets_splits_commit() {
    let folder = tempfile::tempdir().unwrap();
    for target in Target::all("direct", folder.path()).await {
        target.execute(TABLE).await;
        let staged = async |limit: Value, given: Option<&str>| {
            let job = load(&job(folder.path(), &target, limit, json!({})));
            let error_limit = given.map(|limit| limit.parse().unwrap());
            let observed = RunOptions { error_limit, quarantine: Quarantine::Off, ..RunOptions::default() };
            let report = weir::run(&job, observed).await;
            (target.rows().await.len() == 2, report.status)
        };
        assert_eq!(staged(json!({"record": 0}), Some("1%")).await, (true, Status::Failed), "the command line's share");
        let plan = async |limit: Value| {
            let job = load(&job(folder.path(), &target, limit, json!({})));
            weir::plan(&job, &RunOptions::default()).await.unwrap().entries.remove(0).method
        };
        for limit in [json!({"record": 0, "percentage": 0.02}), json!({"percentage": 1}), json!("unlimited")] {
            let method = plan(limit).await;
            assert!(!method.contains("stag"), "{}: {method}", target.connector());
        }
        let method = plan(json!({"percentage": 0.02})).await;
        assert!(method.contains("stag"), "{}: {method}", target.connector());
        assert_eq!(staged(json!("unlimited"), None).await, (false, Status::Succeeded));
    }
}

/// Files, a split each, that have thousands of bad rows in a batch, and a line that cannot be read.
fn bad_rows(folder: &Path, bad: &Value) -> Value {
    std::fs::create_dir_all(folder).unwrap();
    for file in 0..4 {
        let value = |row| if row < 100 { json!("good") } else { bad.clone() };
        let line = |row| format!("{}\n", json!({"id": file * 10_000 + row, "v": value(row)}));
        let lines: String = (0..3_000).map(line).collect();
        std::fs::write(folder.join(format!("{file}.jsonl")), format!("{lines}no JSON\n")).unwrap();
    }
    let columns = json!([{"name": "id", "type": "long"}, {"name": "v", "type": "string"}]);
    json!({"path": folder.join("*.jsonl"), "format": "jsonl", "column": columns})
}

#[tokio::test]
async fn the_row_that_is_one_too_many_is_the_last_at_every_target() {
    const LIMIT: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let databases = Target::all("last", folder.path()).await;
    let mut targets = Vec::new();
    for target in &databases {
        target.execute(TABLE).await;
        targets.push((target.connector(), json!("bad"), target.to(json!({}))));
    }
    let file = json!({"path": at("out.csv"), "encoding": "ISO-8859-1", "writeMode": "truncate"});
    targets.push(("files", json!("🦀"), file));
    targets.push(("lakehouse", Value::Null, json!({"path": at("lake"), "writeMode": "upsert", "key": "v"})));
    for (index, (connector, bad, to)) in targets.into_iter().enumerate() {
        let from = bad_rows(&at(&format!("in {index}")), &bad);
        for channels in [1, 4] {
            let kept = at(&format!("dirty {index} {channels}.jsonl"));
            let mut job = job_of("files", from.clone(), connector, to.clone());
            job["job"]["setting"] = json!({"errorLimit": {"record": LIMIT}, "speed": {"channel": channels}});
            let options = RunOptions { quarantine: Quarantine::Path(kept.clone()), ..RunOptions::default() };
            let report = weir::run(&load(&job), options).await;
            let what = format!("{connector}, {channels} channels: {:#?}", report.error);
            assert_eq!(report.error.as_ref().map(|e| e.kind), Some(ErrorKind::DirtyLimit), "{what}");
            assert_eq!((report.rows_dirty, report.rows_written), (LIMIT as u64 + 1, 0), "{what}");
            let rows = std::fs::read_to_string(&kept).unwrap();
            assert_eq!(rows.lines().count(), LIMIT + 1, "{what}: {rows}");
        }
    }
    for target in databases {
        assert_eq!(target.rows().await, ["1 old", "2 old"], "{}", target.connector());
        assert_eq!(target.litter().await, Vec::<String>::new(), "{}", target.connector());
    }
    assert!(!at("out.csv").exists());
}

#[tokio::test]
async fn rows_that_skip_or_replace_others_wait_too() {
    let folder = tempfile::tempdir().unwrap();
    for target in Target::all("modes", folder.path()).await {
        let modes: &[&str] = match target.connector() {
            "postgresql" => &["ignore"],
            "sqlserver" => &[],
            _ => &["ignore", "replace"],
        };
        for mode in modes {
            target.execute(&format!("DROP TABLE IF EXISTS t; {TABLE}")).await;
            let share = async |share: f64| {
                run(&job(folder.path(), &target, json!({"percentage": share}), json!({"writeMode": mode}))).await
            };
            let report = share(0.01).await;
            let said = what(&target, &report);
            assert_eq!(
                (report.status, report.rows_written, report.rows_dirty),
                (Status::Failed, 0, 2),
                "{mode} {said}"
            );
            assert_eq!(target.rows().await, ["1 old", "2 old"], "{mode} {said}");
            let report = share(0.02).await;
            let said = what(&target, &report);
            assert_eq!((report.status, report.rows_dirty), (Status::Succeeded, 2), "{mode} {said}");
            let (one, skipped, written) = if *mode == "ignore" { ("1 old", 2, 100) } else { ("1 new", 0, 102) };
            assert_eq!((report.rows_skipped, report.rows_written), (skipped, written), "{mode} {said}");
            let found: Vec<String> = target.rows().await.iter().map(|row| row.replace("twice", "new")).collect();
            assert_eq!(found, rows(&[one, "2 old"], 101..201), "{mode} {said}");
            assert_eq!(target.litter().await, Vec::<String>::new(), "{mode} {said}");
        }
    }
}

/// Numbers that the server gives, numbers that only the job may give, and a table that logs nothing.
#[tokio::test]
async fn numbers_and_defaults_are_the_targets() {
    let folder = tempfile::tempdir().unwrap();
    let postgresql = servers::postgresql().await.fresh_database("numbers").await;
    let mariadb = servers::mariadb().await.fresh_database("numbers").await;
    let always = "id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v varchar(20) CHECK (v <> 'bad')";
    let own = "n bigint AUTO_INCREMENT PRIMARY KEY, id int UNIQUE, v varchar(20) CHECK (v <> 'bad'), w int NOT NULL DEFAULT 7";
    let serial = own.replace("bigint AUTO_INCREMENT", "bigserial");
    let cases = [
        ("postgresql", &postgresql, format!("CREATE TABLE t ({always})"), None),
        ("postgresql", &postgresql, format!("CREATE UNLOGGED TABLE t ({serial})"), Some(7)),
        ("mysql", &mariadb, format!("CREATE TABLE t ({own})"), Some(7)),
    ];
    for (connector, database, create, default) in cases {
        let target = Target::Server(connector, database.clone());
        target.execute(&format!("DROP TABLE IF EXISTS t; {create}")).await;
        let to = json!({"column": ["id", "v"]});
        let report = run(&job(folder.path(), &target, json!({"percentage": 0.05}), to)).await;
        let what = what(&target, &report);
        // Nothing is there yet that has the key 1.
        assert_eq!((report.status, counts(&report)), (Status::Succeeded, (104, 101, 3)), "{what}");
        assert_eq!(target.rows().await.len(), 101, "{what}");
        if let Some(default) = default {
            let sql = format!("SELECT count(DISTINCT n) FROM t WHERE w = {default}");
            assert_eq!(database.value(&sql).await, "101", "{what}");
        }
    }
}

/// What nobody can see while rows are staged fails the whole, with the key's name.
#[tokio::test]
async fn a_clash_that_only_the_publication_finds_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let postgresql = servers::postgresql().await.fresh_database("clash").await;
    let target = Target::Server("postgresql", postgresql);
    target
        .execute(&format!("{TABLE} CREATE UNIQUE INDEX hidden ON t ((id % 1000)); INSERT INTO t VALUES (1110, 'old')"))
        .await;
    let before = target.rows().await;
    let report = run(&job(folder.path(), &target, json!({"percentage": 0.5}), json!({}))).await;
    let what = what(&target, &report);
    assert_eq!(report.status, Status::Failed, "{what}");
    assert!(what.contains("nothing was changed") && what.contains("hidden"), "{what}");
    assert_eq!(target.rows().await, before, "{what}");
    assert_eq!(target.litter().await, Vec::<String>::new(), "{what}");
}

/// Who may not stage is told so before anything is read.
#[tokio::test]
async fn a_login_that_may_not_stage_is_told_the_way_on() {
    let folder = tempfile::tempdir().unwrap();
    let postgresql = servers::postgresql().await.fresh_database("poor").await;
    let mariadb = servers::mariadb().await.fresh_database("poor").await;
    let (pg, maria) = (postgresql.name().to_owned(), mariadb.name().to_owned());
    let grant = format!("{TABLE} CREATE ROLE {pg}_poor LOGIN PASSWORD 'poor'; GRANT SELECT, INSERT ON t TO {pg}_poor");
    postgresql.execute(&grant).await;
    let grant = format!(
        "{TABLE} CREATE USER {maria}_poor@'%' IDENTIFIED BY 'poor'; GRANT SELECT, INSERT ON {maria}.t TO {maria}_poor@'%'"
    );
    mariadb.execute(&grant).await;
    for (connector, database) in [("postgresql", postgresql), ("mysql", mariadb)] {
        let user = format!("{}_poor", database.name());
        let to = json!({"url": database.url_with(&user, "poor"), "exactlyOnce": false});
        let target = Target::Server(connector, database);
        let report = run(&job(folder.path(), &target, json!({"percentage": 0.05}), to.clone())).await;
        let what = what(&target, &report);
        assert_eq!(report.error.as_ref().map(|e| e.kind), Some(ErrorKind::Denied), "{what}");
        assert!(what.contains("`record` does without"), "{what}");
        let report = run(&job(folder.path(), &target, json!({"record": 10}), to)).await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.error);
    }
}
